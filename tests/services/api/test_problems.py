"""Every error is a problem: unknown paths, wrong methods, broken bodies, faults of the server."""

import logging

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from services.api.authentication import JSON_LIMIT_BYTES
from services.api.problems import pointer_of
from tests.services.api.support import SPEC, assert_problem, client_of

JSON = {"Content-Type": "application/json"}


async def test_unknown_paths_and_methods(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/v1/nothing"), 404, "not_found")
    assert_problem(await client.get("/v1/jobs/"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/job_1", "GET"),
        ("/v1/jobs/job_1/retry", "POST"),
        ("/v1/cache", "DELETE"),
        ("/v1/artifacts/artifact_1/content", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_with_all_that_the_path_takes(
    client: httpx2.AsyncClient, path: str, allowed: str
) -> None:
    for method in ("PUT", "PATCH"):
        wrong = await client.request(method, path, json={})
        assert_problem(wrong, 405, "method_not_allowed")
        assert wrong.headers["allow"] == allowed


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"name": "\\ud800"}', b"{}"])
async def test_broken_bodies(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", '"much"'])
async def test_numbers_that_are_none(client: httpx2.AsyncClient, number: str) -> None:
    body = b'{"sources": [{"bundled": "demo"}], "teacher": {"provider": "simulator", "model": "simulator-large"}, '
    answer = await client.post("/v1/jobs", content=body + f'"budget_usd": {number}}}'.encode(), headers=JSON)
    assert_problem(answer, 422, pointers=["/budget_usd"])


async def test_a_body_above_the_limit(client: httpx2.AsyncClient) -> None:
    big = b'{"name": "' + b"x" * JSON_LIMIT_BYTES + b'"}'

    async def pieces() -> object:
        for start in range(0, len(big), 1 << 20):
            yield big[start : start + (1 << 20)]

    assert_problem(await client.post("/v1/jobs", content=big, headers=JSON), 413, "content_too_large")
    assert_problem(await client.post("/v1/jobs", content=pieces(), headers=JSON), 413, "content_too_large")  # type: ignore[arg-type]


async def test_parameters_are_checked_with_their_place(client: httpx2.AsyncClient) -> None:
    body = assert_problem(await client.get("/v1/jobs", params={"limit": 0}), 422, "invalid_request", ["/limit"])
    assert body["errors"][0]["in"] == "query"
    assert_problem(await client.get("/v1/jobs", params={"state": "lost"}), 422, "invalid_request", ["/state"])
    assert_problem(await client.get("/v1/jobs?before=a%00b"), 400, "bad_request")
    assert_problem(await client.get("/v1/jobs/a%00b"), 400, "bad_request")


async def test_all_faults_are_told_at_once(client: httpx2.AsyncClient) -> None:
    spec = {**SPEC, "seed": "x", "augment": {"quality_retries": 99}, "unknown": 1}
    pointers = ["/seed", "/augment/quality_retries", "/unknown"]
    body = assert_problem(await client.post("/v1/jobs", json=spec), 422, "invalid_request", pointers)
    assert "seen: 99" in next(e["detail"] for e in body["errors"] if e["pointer"] == "/augment/quality_retries")
    assert "no option of this name" in next(e["detail"] for e in body["errors"] if e["pointer"] == "/unknown")


async def test_what_is_missing_is_told_as_such(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={**SPEC, "train": [{"method": "sft"}]})
    body = assert_problem(answer, 422, "invalid_request", ["/train/0/base"])
    assert "required and was not given" in body["errors"][0]["detail"]


async def test_an_unexpected_error_tells_nothing(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is hunter2")

    with caplog.at_level(logging.DEBUG):
        async with client_of(app) as client:
            answer = await client.get("/v1/broken")

    assert_problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert "hunter2" not in caplog.text


@given(st.lists(st.one_of(st.text(), st.integers(0, 99))))
def test_pointers_can_be_read_back(path: list[str | int]) -> None:
    pointer = pointer_of(path)
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    assert parts == [str(part) for part in path]
