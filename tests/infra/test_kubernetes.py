"""The cluster's objects: rendered by kustomize, held against the schemas of Kubernetes and KEDA, and against our own code.

No cluster is needed. What is checked here is what an operator would otherwise find out: a field that does not exist, a name that
leads nowhere, a variable or a command that the code does not know.
"""

import argparse
import copy
import importlib.util
import os
import re
import tomllib
from typing import Any

import pytest
import typer.main
import yaml

from services.cli.main import app
from services.inference import launcher
from services.simulator.__main__ import parse_arguments as parse_simulator
from shared.domain.plan import SERVICES
from shared.llm.providers import load_providers
from shared.settings import ENVIRONMENT_PREFIX, Settings
from shared.stages.worker import parse_roles
from tests.support.kubernetes import (
    FOLDER,
    ROOT,
    Object,
    Pods,
    keda_faults,
    matches,
    named,
    of_kind,
    pods_of,
    rendered,
    renderer,
    schema_faults,
    secret_references,
)

pytestmark = pytest.mark.skipif(not renderer()[0], reason=renderer()[1] or "kustomize is there")

OVERLAYS = ("overlays/example", "overlays/trial")
FOLDERS = ("base", *OVERLAYS)
VERSIONS = ("1.29", "1.37")
"""Of Kubernetes: the oldest and the newest that docs/kubernetes.md names."""

FOREIGN_VARIABLES = {
    "HOME",
    "HF_HOME",
    "HF_HUB_DISABLE_TELEMETRY",
    "POD_NAME",
    "POD_NAMESPACE",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "PGDATA",
    "MINIO_ROOT_USER",
    "MINIO_ROOT_PASSWORD",
}
"""Read by libraries and by other people's images, not by our code."""


def all_pods() -> list[tuple[str, Pods]]:
    return [(folder, pods) for folder in FOLDERS for pods in pods_of(rendered(folder))]


# ---- schemas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_knows_every_field(folder: str, version: str) -> None:
    for document in rendered(folder):
        if document["apiVersion"].startswith("keda.sh/"):
            continue
        assert not schema_faults(document, version), (document["kind"], document["metadata"]["name"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_job_within_a_scaled_job_is_one_that_kubernetes_knows(folder: str, version: str) -> None:
    scaled = named(rendered(folder), "ScaledJob", "training")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "training"},
        "spec": scaled["spec"]["jobTargetRef"],
    }
    assert not schema_faults(job, version)


@pytest.mark.parametrize("folder", FOLDERS)
def test_keda_knows_every_field(folder: str) -> None:
    ours = [document for document in rendered(folder) if document["apiVersion"].startswith("keda.sh/")]
    assert {document["kind"] for document in ours} == {"ScaledObject", "ScaledJob", "TriggerAuthentication"}
    for document in ours:
        assert not keda_faults(document), (document["kind"], document["metadata"]["name"])


def test_a_field_that_does_not_exist_is_found() -> None:
    deployment = copy.deepcopy(named(rendered("base"), "Deployment", "api"))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    assert "livenessprobe" in " ".join(schema_faults(deployment, VERSIONS[-1]))
    scaled = copy.deepcopy(named(rendered("base"), "ScaledObject", "generation"))
    scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behaviour"] = {}
    assert keda_faults(scaled) == ["ScaledObject.spec.advanced.horizontalPodAutoscalerConfig.behaviour: no such field"]
    del scaled["spec"]["triggers"]
    assert any("triggers" in fault for fault in keda_faults(scaled))


# ---- names that must lead somewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_name_leads_to_an_object(folder: str) -> None:
    objects = rendered(folder)
    there = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for pods in pods_of(objects):
        assert ("ServiceAccount", pods.spec["serviceAccountName"]) in there, pods.name
        volumes = {volume["name"]: volume for volume in pods.spec.get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in pods.owner["spec"].get("volumeClaimTemplates", [])}
        mounts = [mount["name"] for mount in pods.container.get("volumeMounts", [])]
        assert sorted(mounts) == sorted({*volumes, *claims}), f"{pods.name}: volumes and mounts"
        maps = [volume["configMap"] for volume in volumes.values() if "configMap" in volume]
        maps += [source["configMapRef"] for source in pods.container.get("envFrom", []) if "configMapRef" in source]
        for reference in maps:
            assert reference.get("optional") or ("ConfigMap", reference["name"]) in there, (pods.name, reference)
    for scaled in of_kind(objects, "ScaledObject"):
        assert ("Deployment", scaled["spec"]["scaleTargetRef"]["name"]) in there
    for scaled in of_kind(objects, "ScaledObject", "ScaledJob"):
        for trigger in scaled["spec"]["triggers"]:
            assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in there
    for stateful in of_kind(objects, "StatefulSet"):
        assert ("Service", stateful["spec"]["serviceName"]) in there
    for ingress in of_kind(objects, "Ingress"):
        backends = [path["backend"]["service"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        for backend in backends:
            ports = named(objects, "Service", backend["name"])["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in ports}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_selector_takes_what_it_is_meant_for(folder: str) -> None:
    objects = rendered(folder)
    everything = pods_of(objects)
    for owner in of_kind(objects, "Deployment", "StatefulSet"):
        taken = [pods.owner for pods in everything if matches(owner["spec"]["selector"], pods.labels)]
        assert taken == [owner], owner["metadata"]["name"]
    for service in of_kind(objects, "Service"):
        (pods,) = [p for p in everything if matches({"matchLabels": service["spec"]["selector"]}, p.labels)]
        served = {port["name"] for port in pods.container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"].get("ports", [])} <= served
    for budget in of_kind(objects, "PodDisruptionBudget"):
        (pods,) = [p for p in everything if matches(budget["spec"]["selector"], p.labels)]
        assert pods.owner["metadata"]["name"] == budget["metadata"]["name"]
    for policy in of_kind(objects, "NetworkPolicy"):
        assert any(matches(policy["spec"]["podSelector"], pods.labels) for pods in everything), policy["metadata"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_whatever_runs_all_the_time_has_a_disruption_budget(folder: str) -> None:
    objects = rendered(folder)
    long_lived = [pods for pods in pods_of(objects) if pods.owner["kind"] in {"Deployment", "StatefulSet"}]
    kept = {
        pods.owner["metadata"]["name"] for pods in long_lived if pods.labels.get("multifacet.kind") != "trial-server"
    }
    assert kept == {budget["metadata"]["name"] for budget in of_kind(objects, "PodDisruptionBudget")}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_what_is_applied_first_needs_nothing_that_comes_later(folder: str) -> None:
    first = [o for o in rendered(folder) if o["metadata"]["labels"].get("multifacet.install/first") == "true"]
    there = {(o["kind"], o["metadata"]["name"]) for o in first}
    assert {("Job", "migrate"), ("Job", "make-bucket"), ("NetworkPolicy", "nothing")} <= there
    for pods in pods_of(first):
        assert ("ServiceAccount", pods.spec["serviceAccountName"]) in there
        for source in pods.container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in there
    selected = {
        p["metadata"]["name"]
        for p in of_kind(rendered(folder), "NetworkPolicy")
        if any(
            pods.labels.get("multifacet.network/core") and matches(p["spec"]["podSelector"], pods.labels)
            for pods in pods_of(first)
        )
    }
    assert {("NetworkPolicy", name) for name in selected} <= there


# ---- what the code knows -------------------------------------------------------------------------------------------


def test_every_variable_of_ours_is_one_that_the_code_reads() -> None:
    settings = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml"}
    )
    for folder, pods in all_pods():
        names = {one["name"] for one in pods.container.get("env", [])} | set(pods.values(rendered(folder)))
        for name in names - settings - FOREIGN_VARIABLES:
            assert re.search(rf"\b{name}\b", code), f"{pods.name}: nothing reads {name}"
        assert not pods.ours or not names & {"POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD"}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_settings_of_every_pod_can_be_used(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for pods in pods_of(rendered(folder)):
        values = pods.values(rendered(folder))
        for name in list(os.environ):
            if name.startswith(ENVIRONMENT_PREFIX):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        if pods.labels.get("multifacet.network/core"):
            assert settings.artifact_store == "s3"
            assert settings.s3_endpoint != Settings.model_fields["s3_endpoint"].default, (
                "the overlay says where the store is"
            )
        monkeypatch.undo()


def test_the_example_names_providers_that_can_be_read() -> None:
    objects = rendered("overlays/example")
    (worker,) = [pods for pods in pods_of(objects) if pods.name == "Deployment/generation"]
    (volume,) = [volume for volume in worker.spec["volumes"] if volume["name"] == "providers"]
    (mount,) = [mount for mount in worker.container["volumeMounts"] if mount["name"] == "providers"]
    named_file = worker.values(objects)["MULTIFACET_PROVIDERS_FILE"]
    folder, _, file = named_file.rpartition("/")
    assert mount["mountPath"] == folder
    assert file in named(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    assert "openai" in load_providers(FOLDER / "overlays" / "example" / file).providers


def test_who_needs_a_key_of_others_is_given_it() -> None:
    given = {
        variable: {
            pods.name
            for pods in pods_of(rendered("base"))
            if variable in {one["name"] for one in pods.container.get("env", [])}
        }
        for variable in ("HF_TOKEN", "MULTIFACET_PERSPECTIVE_KEY")
    }
    fetching = {"Deployment/curation", "Deployment/evaluation", "ScaledJob/training", "StatefulSet/model-server"}
    assert given == {"HF_TOKEN": fetching, "MULTIFACET_PERSPECTIVE_KEY": {"Deployment/api", "Deployment/evaluation"}}


def test_every_image_is_one_that_we_build_or_that_compose_runs() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "infra/docker/Dockerfile").read_text(), re.MULTILINE))
    assert {"base", "torch"} <= targets
    ours = {"multifacet", "multifacet-torch", "multifacet-tgi"}
    compose = (ROOT / "docker-compose.yml").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for folder, pods in all_pods():
        image = pods.container["image"]
        if not pods.ours:
            assert image in compose, f"{pods.name}: compose runs another image than {image}"
            continue
        name, _, tag = image.rpartition("/")[2].partition(":")
        assert name in ours
        assert tag == {"base": "", "overlays/trial": "latest", "overlays/example": version}[folder]
        needs_torch = pods.owner["metadata"]["name"] in {"training", "evaluation", "model-server"}
        assert (name == "multifacet-torch") == needs_torch, pods.name


def test_every_command_is_one_that_the_code_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIFACET_GPUS", "1")
    seen = set()
    for _, pods in all_pods():
        if not pods.ours:
            continue
        command = pods.command
        if command[0] == "multifacet":
            _parsed_by_the_command_line(command[1:])
        elif command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]), command
            _parsed_by_a_module(command[2], command[3:], pods)
        else:
            assert pods.container["image"].rpartition("/")[2].startswith("multifacet-tgi")
            _parsed_by_a_module("services.inference.launcher", command, pods)
        seen.add(" ".join(command[:3]))
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            run = pods.container.get(probe, {}).get("exec", {}).get("command", [])
            if run[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(run[2])
                assert float(run[3]) > 0
    assert {
        "multifacet migrate",
        "multifacet make-bucket",
        "python -m services.api",
        "python -m services.controller",
    } <= seen


def _parsed_by_the_command_line(arguments: list[str]) -> dict[str, Any]:
    group = typer.main.get_command(app)
    context = group.make_context("multifacet", list(arguments))
    name, command, rest = group.resolve_command(context, list(arguments))  # type: ignore[attr-defined]
    read: dict[str, Any] = command.make_context(name, rest, parent=context).params
    if name == "worker":
        assert parse_roles(read["roles"])
    return read


def _parsed_by_a_module(module: str, arguments: list[str], pods: Pods) -> None:
    filled = [
        text.replace("$(POD_NAME)", "model-server-0").replace("$(POD_NAMESPACE)", "multifacet") for text in arguments
    ]
    if module == "services.inference.launcher":
        (url,) = [one["value"] for one in pods.container["env"] if one["name"] == "MULTIFACET_URL"]
        options = launcher.parse_options(["--api", url, *filled])
        assert options.advertise == f"model-server-0.{pods.owner['spec']['serviceName']}.multifacet.svc"
        assert pods.spec["terminationGracePeriodSeconds"] > options.stop_seconds
        (policy,) = [p for p in rendered("base") if p["metadata"]["name"] == "model-servers"]
        (ports,) = policy["spec"]["ingress"][0]["ports"]
        assert (ports["port"], ports["endPort"]) == (options.first_port, options.first_port + launcher._PORTS - 1)
    elif module == "services.simulator":
        assert isinstance(parse_simulator(filled), argparse.Namespace)
    else:
        assert not filled


def test_probes_of_the_api_ask_routes_that_exist() -> None:
    from services.api.routes.health import router

    paths = {route.path for route in router.routes}  # type: ignore[attr-defined]
    (api,) = [pods for pods in pods_of(rendered("base")) if pods.name == "Deployment/api"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = api.container[probe]["httpGet"]
        assert asked["path"] in paths
        assert asked["port"] in {port["name"] for port in api.container["ports"]}
    assert api.values(rendered("base"))["MULTIFACET_API_PORT"] == str(api.container["ports"][0]["containerPort"])
    assert api.container["livenessProbe"]["httpGet"]["path"] == "/health/live", "no restart for a database that is away"


def test_times_fit_each_other() -> None:
    for folder, pods in all_pods():
        values = pods.values(rendered(folder))
        grace = float(
            values.get("MULTIFACET_CANCEL_GRACE_SECONDS", Settings.model_fields["cancel_grace_seconds"].default)
        )
        if "worker" in pods.command:
            assert pods.spec["terminationGracePeriodSeconds"] >= grace + 15, (
                f"{pods.name} is killed while it puts work away"
            )
        if startup := pods.container.get("startupProbe"):
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 300, "a busy machine starts slowly"
        for probe in ("startupProbe", "livenessProbe"):
            run = pods.container.get(probe, {}).get("exec", {}).get("command", [])
            if "shared.telemetry.healthy" in run:
                assert values["MULTIFACET_HEALTH_FILE"].startswith("/tmp/")
                assert float(run[-1]) >= 2 * Settings.model_fields["heartbeat_seconds"].default
        if "--once" in pods.command:
            lease = Settings.model_fields["lease_seconds"].default
            assert float(values["MULTIFACET_WORKER_IDLE_SECONDS"]) > lease + 5, "a lost step comes back after a lease"
        elif "worker" in pods.command:
            assert "MULTIFACET_WORKER_IDLE_SECONDS" not in values, (
                "a Deployment would start again who leaves by himself"
            )


# ---- rights --------------------------------------------------------------------------------------------------------


def test_every_pod_has_no_right_that_it_can_do_without() -> None:
    for _, pods in all_pods():
        spec, container = pods.spec, pods.container
        assert spec["automountServiceAccountToken"] is False, pods.name
        assert spec["enableServiceLinks"] is False, pods.name
        assert spec["securityContext"]["runAsNonRoot"] is True, pods.name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pods.name
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] != 0
        assert not pods.ours or spec["securityContext"]["runAsUser"] == 10001, pods.name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, pods.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec)
        assert all(set(volume) - {"name"} <= {"emptyDir", "configMap"} for volume in spec.get("volumes", []))
        assert all(volume["emptyDir"].get("sizeLimit") for volume in spec.get("volumes", []) if "emptyDir" in volume)
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), pods.name
        assert "memory" in container["resources"]["limits"], pods.name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, pods.name


def test_the_user_is_the_one_of_the_image() -> None:
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    assert set(re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)) == {"10001:10001"}


def test_nobody_is_given_a_right_in_the_cluster() -> None:
    for folder in FOLDERS:
        assert not of_kind(rendered(folder), "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
        (space,) = of_kind(rendered(folder), "Namespace")
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_secret_is_in_the_tree() -> None:
    for folder in FOLDERS:
        assert not of_kind(rendered(folder), "Secret")
        for pods in pods_of(rendered(folder)):
            for name, value in pods.values(rendered(folder)).items():
                secret = re.search(r"(PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|REDIS_URL)", name)
                assert not secret, f"{pods.name}: {name} has the value {value!r}; take it from a Secret"
        assert list(secret_references(rendered(folder)))


def test_a_gpu_is_asked_for_where_the_overlay_has_them() -> None:
    def gpus(folder: str) -> dict[str, int]:
        limits = {pods.name: pods.container["resources"]["limits"] for pods in pods_of(rendered(folder))}
        return {name: one["nvidia.com/gpu"] for name, one in limits.items() if "nvidia.com/gpu" in one}

    assert gpus("overlays/example") == {"ScaledJob/training": 1, "StatefulSet/model-server-tgi": 1}
    assert gpus("overlays/trial") == {}
    for folder in FOLDERS:
        assert not any("MULTIFACET_GPU_HOST" in pods.values(rendered(folder)) for pods in pods_of(rendered(folder)))


def test_every_role_has_pods() -> None:
    for folder in FOLDERS:
        roles: list[str] = []
        for pods in pods_of(rendered(folder)):
            if "--roles" in pods.command:
                roles += parse_roles(pods.command[pods.command.index("--roles") + 1])
        assert sorted(roles) == sorted(SERVICES)


def test_files_of_the_folder_are_all_used() -> None:
    """A file that no kustomization names is one that nobody applies."""
    used = {FOLDER / "make_secrets.py", FOLDER / "scaler-role.sql"}
    for path in FOLDER.rglob("kustomization.yaml"):
        used.add(path)
        document: Object = yaml.safe_load(path.read_text())
        names = [*document.get("resources", []), *document.get("configurations", [])]
        names += [patch["path"] for patch in document.get("patches", []) if "path" in patch]
        names += [file for one in document.get("configMapGenerator", []) for file in one.get("files", [])]
        used |= {(path.parent / name).resolve() for name in names}
    assert {path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts} <= used
