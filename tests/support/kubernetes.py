"""What kustomize makes of infra/kubernetes, and how a cluster's objects relate: pods, selectors, references, network policies."""

import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"

_OLDEST_KUSTOMIZE = 5
_SECONDS = 120


# ---- rendering -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def renderer() -> tuple[list[str], str]:
    """The command that renders a folder, and why there is none where it is empty. Debian's kubectl is too old: components are
    known since kustomize 4, and our patches are written for 5, which is within kubectl since 1.27."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"], ""
    if not shutil.which("kubectl"):
        return [], "neither kubectl nor kustomize is installed"
    asked = ["kubectl", "version", "--client", "--output", "json"]
    told = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=_SECONDS).stdout
    version = json.loads(told or "{}").get("kustomizeVersion", "v0")
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_KUSTOMIZE:
        return [], f"the kustomize within kubectl is {version}; {_OLDEST_KUSTOMIZE} or later is needed (kubectl 1.27)"
    return ["kubectl", "kustomize"], ""


@lru_cache
def rendered(folder: str) -> tuple[Object, ...]:
    """All objects of a folder below infra/kubernetes. Do not change them: copy first."""
    command, missing = renderer()
    assert command, missing
    made = subprocess.run(
        [*command, str(FOLDER / folder)], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert made.returncode == 0, made.stderr
    assert not made.stderr, f"kustomize warns: {made.stderr}"
    return tuple(document for document in yaml.safe_load_all(made.stdout) if document)


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [o for o in objects if o["kind"] in kinds]


# ---- schemas -------------------------------------------------------------------------------------------------------


@lru_cache
def _schema(version: str, kind: str, api_version: str) -> Draft202012Validator:
    """Kubernetes' own schema of a kind, without room for unknown fields; from the package kubernetes-validate."""
    group, _, number = api_version.rpartition("/")
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    short = f"{group.partition('.')[0]}-{number}" if group else number
    schema = json.loads((folder / f"{kind.lower()}-{short}.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema, registry=_definitions(version))


@lru_cache
def _definitions(version: str) -> "Registry[Any]":
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    definitions = Resource.from_contents(json.loads((folder / "_definitions.json").read_text(encoding="utf-8")))
    return definitions @ Registry()


def schema_faults(document: Object, version: str) -> list[str]:
    """What a Kubernetes of that version would not take in the object."""
    validator = _schema(version, document["kind"], document["apiVersion"])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def keda_faults(document: Object) -> list[str]:
    """What KEDA's resource definitions would not take; from the models that the package cloudcoil-models-keda made of them.

    The models pass over unknown fields, so what they keep is compared with what was given. The pods of a ScaledJob are left to
    `schema_faults`: the models refuse some quantities that Kubernetes takes.
    """
    from cloudcoil.models.keda import v1alpha1
    from pydantic import ValidationError

    model = getattr(v1alpha1, document["kind"])
    if "jobTargetRef" in document["spec"]:
        pods = {"spec": {"containers": [{"name": "any"}]}}
        job = {**document["spec"]["jobTargetRef"], "template": pods}
        document = {**document, "spec": {**document["spec"], "jobTargetRef": job}}
    try:
        read = model.model_validate(document)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    kept = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return _left_out(document, kept, document["kind"])


def _left_out(given: Any, kept: Any, where: str) -> list[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        unknown = [f"{where}.{name}: no such field" for name in given if name not in kept]
        return unknown + [
            f for name in given if name in kept for f in _left_out(given[name], kept[name], f"{where}.{name}")
        ]
    if isinstance(given, list) and isinstance(kept, list):
        return [f for n, (a, b) in enumerate(zip(given, kept, strict=True)) for f in _left_out(a, b, f"{where}[{n}]")]
    return []


# ---- pods ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pods:
    """The pods that one object makes."""

    owner: Object
    template: Object

    @property
    def name(self) -> str:
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template["metadata"]["labels"])

    @property
    def spec(self) -> Object:
        return dict(self.template["spec"])

    @property
    def container(self) -> Object:
        (only,) = self.spec["containers"]
        return dict(only)

    @property
    def command(self) -> list[str]:
        return [*self.container.get("command", []), *self.container.get("args", [])]

    @property
    def ours(self) -> bool:
        return str(self.container["name"]) == "multifacet"

    def values(self, objects: Sequence[Object]) -> dict[str, str]:
        """Its environment where that is written down: of ConfigMaps and of the object itself, without Secrets and fields."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            if "configMapRef" in source:
                found |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {one["name"]: one["value"] for one in self.container.get("env", []) if "value" in one}


def pods_of(objects: Sequence[Object]) -> list[Pods]:
    """Of everything that makes pods."""
    found = [Pods(o, o["spec"]["template"]) for o in of_kind(objects, "Deployment", "StatefulSet", "Job")]
    return found + [Pods(o, o["spec"]["jobTargetRef"]["template"]) for o in of_kind(objects, "ScaledJob")]


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a selector by matchLabels (ours use no other) takes something with these labels; an empty one takes all."""
    assert set(selector or {}) <= {"matchLabels"}, selector
    return all(labels.get(name) == value for name, value in ((selector or {}).get("matchLabels") or {}).items())


def secret_references(objects: Sequence[Object]) -> Iterator[tuple[str, str, bool]]:
    """(Secret, key, whether it may be absent) of everything that names one; key `*` where all keys become variables."""
    for pods in pods_of(objects):
        for source in pods.container.get("envFrom", []):
            if "secretRef" in source:
                yield source["secretRef"]["name"], "*", bool(source["secretRef"].get("optional"))
        for one in pods.container.get("env", []):
            if reference := one.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"], reference["key"], bool(reference.get("optional"))
    for one in of_kind(objects, "TriggerAuthentication"):
        for reference in one["spec"]["secretTargetRef"]:
            yield reference["name"], reference["key"], False


# ---- networks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """An end of a connection: a pod by its labels and its namespace's, or an address outside the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "multifacet"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    port_names: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pods: Pods) -> "Peer":
        ports = {port["name"]: port["containerPort"] for port in pods.container.get("ports", [])}
        return cls(labels=pods.labels, port_names=ports)


def allowed(objects: Sequence[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the NetworkPolicies let `source` open a connection to `port` of `target`: both ends must agree.

    An end that no policy of that direction selects is open, as the API defines it. An ipBlock is for addresses outside the
    cluster.
    """
    policies = of_kind(objects, "NetworkPolicy")
    return _agrees(policies, source, target, port, protocol, "Egress") and _agrees(
        policies, target, source, port, protocol, "Ingress"
    )


def _agrees(policies: Sequence[Object], here: Peer, there: Peer, port: int, protocol: str, direction: str) -> bool:
    if here.address or here.namespace != "multifacet":
        return True
    chosen = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], here.labels)
    ]
    if not chosen:
        return True
    holder = there if direction == "Egress" else here
    peers = "to" if direction == "Egress" else "from"
    return any(
        any(_is_peer(peer, there) for peer in rule[peers]) and _has_port(rule.get("ports"), holder, port, protocol)
        for policy in chosen
        for rule in policy.get(direction.lower(), [])
    )


def _is_peer(peer: Object, end: Peer) -> bool:
    if "ipBlock" in peer:
        if not end.address:
            return False
        address = ipaddress.ip_address(end.address)
        inside = address in ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return inside and not any(address in ipaddress.ip_network(cidr) for cidr in peer["ipBlock"].get("except", []))
    if end.address:
        return False
    if "namespaceSelector" in peer:
        return matches(peer["namespaceSelector"], end.namespace_labels) and matches(peer.get("podSelector"), end.labels)
    return end.namespace == "multifacet" and matches(peer["podSelector"], end.labels)


def _has_port(ports: Sequence[Object] | None, holder: Peer, port: int, protocol: str) -> bool:
    if ports is None:
        return True
    for one in ports:
        first = one["port"] if isinstance(one["port"], int) else holder.port_names.get(one["port"])
        if one["protocol"] == protocol and first is not None and first <= port <= one.get("endPort", first):
            return True
    return False
