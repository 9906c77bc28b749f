"""Who may speak to whom in the cluster: the NetworkPolicies, evaluated as the API defines them, for each connection that work
needs and for those that nobody should have."""

import pytest

from tests.support.kubernetes import Object, Peer, allowed, pods_of, rendered, renderer

pytestmark = pytest.mark.skipif(not renderer()[0], reason=renderer()[1] or "kustomize is there")

INTERNET = Peer(address="203.0.113.7")
CREDENTIALS = Peer(address="169.254.169.254")
NEIGHBOUR = Peer(address="10.9.9.9")
INGRESS = Peer(namespace="ingress", namespace_labels={"multifacet.network/edge": "true"})
STRANGER = Peer(namespace="other", namespace_labels={"kubernetes.io/metadata.name": "other"})
METRICS = Peer(namespace="monitoring", namespace_labels={"multifacet.network/metrics": "true"})
KEDA = Peer(namespace="keda", namespace_labels={"kubernetes.io/metadata.name": "keda"})
NAMES = Peer(namespace="kube-system", namespace_labels={"kubernetes.io/metadata.name": "kube-system"})

ASKS_LANGUAGE_MODELS = {
    "api",
    "curation",
    "augmentation",
    "composition",
    "generation",
    "inference",
    "evaluation",
    "training",
}
"""And the Hub: curation reads data sets there, training and evaluation models."""


def peers(folder: str) -> dict[str, Peer]:
    return {pods.owner["metadata"]["name"]: Peer.of(pods) for pods in pods_of(rendered(folder))}


def objects(folder: str) -> tuple[Object, ...]:
    return rendered(folder)


def test_the_core_servers_are_reached_by_those_who_work_on_them() -> None:
    everything = peers("overlays/example")
    postgres, redis, store = (Peer(address=a) for a in ("10.20.0.10", "10.20.0.11", "10.20.1.5"))
    for name, pods in everything.items():
        core = not name.startswith("model-server")
        assert allowed(objects("overlays/example"), pods, postgres, 5432) == core, name
        assert allowed(objects("overlays/example"), pods, redis, 6379) == core, name
        assert allowed(objects("overlays/example"), pods, store, 443), f"{name} reads models or artifacts"
        assert not allowed(objects("overlays/example"), pods, postgres, 22), name
        assert not allowed(objects("overlays/example"), pods, NEIGHBOUR, 5432), name


def test_the_internet_is_reached_by_those_who_need_it_alone() -> None:
    for folder in ("base", "overlays/example", "overlays/trial"):
        for name, pods in peers(folder).items():
            expected = name in ASKS_LANGUAGE_MODELS or name.startswith("model-server")
            assert allowed(objects(folder), pods, INTERNET, 443) == expected, (folder, name)
            assert not allowed(objects(folder), pods, INTERNET, 25), (folder, name)
            assert not allowed(objects(folder), pods, CREDENTIALS, 80), (folder, name)
            assert not allowed(objects(folder), pods, CREDENTIALS, 443), (folder, name)


def test_everybody_resolves_names() -> None:
    for folder in ("base", "overlays/trial"):
        for name, pods in peers(folder).items():
            assert allowed(objects(folder), pods, NAMES, 53, "UDP"), (folder, name)
            assert not allowed(objects(folder), pods, NAMES, 443), (folder, name)


def test_the_api_hears_the_edge_and_launchers_alone() -> None:
    everything = peers("overlays/example")
    api = everything["api"]
    assert allowed(objects("overlays/example"), INGRESS, api, 8080)
    assert allowed(objects("overlays/example"), METRICS, api, 8080)
    assert not allowed(objects("overlays/example"), STRANGER, api, 8080)
    for name, pods in everything.items():
        assert allowed(objects("overlays/example"), pods, api, 8080) == name.startswith("model-server"), name


def test_model_servers_are_asked_by_three_and_by_nobody_else() -> None:
    everything = peers("overlays/example")
    for server in ("model-server", "model-server-tgi"):
        for name, pods in everything.items():
            expected = name in {"api", "inference", "evaluation"}
            assert allowed(objects("overlays/example"), pods, everything[server], 8200) == expected, (name, server)
            assert allowed(objects("overlays/example"), pods, everything[server], 8399) == expected, (name, server)
            assert not allowed(objects("overlays/example"), pods, everything[server], 8400), (name, server)
        assert not allowed(objects("overlays/example"), INGRESS, everything[server], 8200)


def test_nobody_calls_who_serves_nothing() -> None:
    everything = peers("overlays/example")
    for name in set(everything) - {"api", "model-server", "model-server-tgi"}:
        for caller in (*everything.values(), INGRESS, STRANGER, KEDA, METRICS):
            assert not allowed(objects("overlays/example"), caller, everything[name], 8080), name


def test_the_servers_of_a_trial_are_reached_as_the_real_ones_are() -> None:
    everything, there = peers("overlays/trial"), objects("overlays/trial")
    servers = {"postgres": 5432, "redis": 6379, "minio": 9000, "simulator": 8090}
    for name, pods in everything.items():
        for server, port in servers.items():
            if name in servers:
                expected = False
            elif name == "model-server":
                expected = server == "minio"
            else:
                expected = True
            assert allowed(there, pods, everything[server], port) == expected, (name, server)
    assert allowed(there, KEDA, everything["postgres"], 5432), "the scaler asks from a namespace of its own"
    assert not allowed(there, KEDA, everything["redis"], 6379)
    assert not allowed(there, STRANGER, everything["postgres"], 5432)
    assert not allowed(there, INGRESS, everything["minio"], 9000)
