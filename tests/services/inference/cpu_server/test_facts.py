"""`/info`, `/v1/models`, `/health`, `/tokenize`, `/metrics`."""

import re

from tests.support.model_server import RunningServer


def test_info_tells_the_limits_and_the_model(server: RunningServer) -> None:
    info = server.get("/info").json()
    assert (info["model_id"], info["max_input_tokens"], info["max_total_tokens"]) == ("scripted", 200, 256)
    assert (info["model_dtype"], info["model_device_type"], info["slots"]) == ("float32", "cpu", 4)


def test_models_are_the_served_one_and_its_adapters(adapter_server: RunningServer) -> None:
    models = adapter_server.get("/v1/models").json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["scripted", "frank", "kind"]


def test_health_is_an_empty_200(server: RunningServer) -> None:
    for path in ("/health", "/ping", "/"):
        response = server.get(path)
        assert (response.status_code, response.content) == (200, b"")


def test_tokens_are_told_with_the_bytes_they_cover(server: RunningServer) -> None:
    text = "Café </s> 数"
    tokens = server.post("/tokenize", {"inputs": text}).json()
    data = text.encode()
    assert tokens[0] == {"id": 1, "text": "", "start": 0, "stop": 0}
    for token in tokens[1:]:
        assert data[token["start"] : token["stop"]].decode() == token["text"]
    assert [token["id"] for token in tokens] == server.engine.tokenizer(text)["input_ids"]


def test_metrics_count_what_happened_under_tgis_names(server: RunningServer) -> None:
    def value(name: str) -> float:
        text = server.get("/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    names = (
        "tgi_request_count",
        "tgi_request_success",
        'tgi_request_failure{err="validation"}',
        'tgi_request_failure{err="generation"}',
        "tgi_request_generated_tokens_sum",
        "tgi_request_duration_count",
        'tgi_request_queue_duration_bucket{le="+Inf"}',
        "tgi_request_mean_time_per_token_duration_count",
        "tgi_request_input_length_sum",
    )
    before = {name: value(name) for name in names}
    server.post("/generate", {"inputs": "Hello", "parameters": {"max_new_tokens": 3}})
    server.post("/generate", {"inputs": "Hello", "parameters": {"top_k": 0}})
    server.engine.fail_after = 0
    server.post("/generate", {"inputs": "Hello", "parameters": {}})
    server.post("/generate_stream", {"inputs": "Hello", "parameters": {}})
    server.get("/nothing")
    assert {name: value(name) - before[name] for name in names} == dict(
        zip(names, (4, 1, 1, 2, 3, 1, 1, 1, 12), strict=True)
    )


def test_metrics_are_well_formed_and_buckets_grow(server: RunningServer) -> None:
    server.post("/generate", {"inputs": "Hello", "parameters": {"max_new_tokens": 3}})
    response = server.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    typed = set()
    for line in response.text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("#"):
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"\})? [0-9.e+-]+', line)
            assert re.sub(r"(_bucket|_sum|_count)?(\{.*)? .*", "", line) in {
                re.sub("_count$", "", name) for name in typed
            }
    buckets = re.findall(r'^tgi_request_duration_bucket\{le="([^"]+)"\} (\d+)$', response.text, re.MULTILINE)
    counts = [int(count) for _, count in buckets]
    assert counts == sorted(counts)
    assert buckets[-1][0] == "+Inf"
    assert {"tgi_queue_size", "tgi_batch_current_size", "tgi_request_max_new_tokens"} <= typed
