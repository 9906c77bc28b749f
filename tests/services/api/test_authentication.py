"""Who may do what: keys with scopes, browser sessions, the loopback mode."""

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from services.api.app import create_app, create_key
from services.api.authentication import SESSION_COOKIE, LoopbackRefused, is_loopback
from services.api.state import ApiState
from shared.domain.errors import InputRefused
from shared.metadata.repositories.api_keys import ApiKeyRepository
from shared.metadata.tables import ApiKey
from shared.settings import Settings
from tests.services.api.support import (
    ADMIN_KEY,
    SPEC,
    api_settings,
    assert_problem,
    client_of,
    running_app,
    submit_directly,
)


async def key_with(client: httpx2.AsyncClient, *scopes: str) -> dict[str, str]:
    answer = await client.post("/v1/keys", json={"name": "test", "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    return made


@pytest.mark.parametrize("header", [None, "Bearer mf_wrong", "Basic bWY6eA==", "Bearer", "mf_x"])
async def test_without_a_valid_key_nothing_is_told(app: FastAPI, header: str | None) -> None:
    async with client_of(app, key=None) as client:
        headers = {} if header is None else {"Authorization": header}
        for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/nothing"), ("POST", "/v1/files")):
            answer = await client.request(method, path, headers=headers, content=b"{")
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_health_and_schema_need_no_key(app: FastAPI) -> None:
    async with client_of(app, key=None) as client:
        assert (await client.get("/health/live")).json()["status"] == "ok"
        ready = await client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["checks"] == {"database": "ok", "store": "ok"}
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")


async def test_readiness_tells_which_part_fails(app: FastAPI, state: ApiState, settings: Settings) -> None:
    settings.artifact_directory.write_text("in the way")
    async with client_of(app, key=None) as client:
        answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "ok"
    assert answer.json()["checks"]["store"].startswith("failing")


async def test_scopes_are_held(app: FastAPI, client: httpx2.AsyncClient) -> None:
    reader, writer = await key_with(client, "read"), await key_with(client, "write")
    async with client_of(app, reader["key"]) as reading, client_of(app, writer["key"]) as writing:
        assert (await reading.get("/v1/jobs")).status_code == 200
        assert (await reading.post("/v1/jobs/estimate", json=SPEC)).status_code == 200
        assert_problem(await reading.post("/v1/jobs", json=SPEC), 403, "forbidden")
        assert_problem(await reading.get("/v1/keys"), 403, "forbidden")
        assert (await writing.post("/v1/jobs", json=SPEC)).status_code == 202
        assert (await writing.get("/v1/jobs")).status_code == 200
        assert_problem(await writing.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}), 403, "forbidden")


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(client: httpx2.AsyncClient, state: ApiState) -> None:
    made = await key_with(client, "read")

    listed = (await client.get("/v1/keys")).json()["items"]

    assert made["id"] in {key["id"] for key in listed}
    assert all("key" not in key for key in listed)
    async with state.transaction() as session:
        row = await session.get_one(ApiKey, made["id"])
    assert made["key"] not in str(row.model_dump())


async def test_unknown_scopes_are_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/keys", json={"name": "x", "scopes": ["read", "root"]})
    assert "root" in assert_problem(answer, 422, "input_refused", ["/scopes"])["detail"]


async def test_a_revoked_key_and_its_sessions_end_at_once(app: FastAPI, client: httpx2.AsyncClient) -> None:
    made = await key_with(client, "read")
    async with client_of(app, key=None) as browser:
        assert (await browser.post("/v1/session", json={"key": made["key"]})).status_code == 204
        assert (await browser.get("/v1/jobs")).status_code == 200

        revoked = await client.delete(f"/v1/keys/{made['id']}")

        assert revoked.json()["revoked_at"] is not None
        assert_problem(await browser.get("/v1/jobs"), 401)
    async with client_of(app, made["key"]) as late:
        assert_problem(await late.get("/v1/jobs"), 401)
    assert_problem(await client.delete("/v1/keys/key_unknown"), 404, "not_found")


async def test_keys_see_their_own_project_only(app: FastAPI, state: ApiState, settings: Settings) -> None:
    other = await create_key(settings, "elsewhere", "test", ["admin"])
    job = await submit_directly(state)
    async with client_of(app, other) as client:
        assert (await client.get("/v1/jobs")).json()["items"] == []
        assert_problem(await client.get(f"/v1/jobs/{job.id}"), 404)
        assert {key["project_id"] for key in (await client.get("/v1/keys")).json()["items"]} == {"elsewhere"}


async def test_the_session_cookie_is_strict_and_hidden(app: FastAPI) -> None:
    async with client_of(app, key=None) as browser:
        answer = await browser.post("/v1/session", json={"key": ADMIN_KEY})
        cookie = answer.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
        assert ADMIN_KEY.lower() not in cookie


async def test_a_session_writes_only_from_own_pages(app: FastAPI) -> None:
    async with client_of(app, key=None) as browser:
        await browser.post("/v1/session", json={"key": ADMIN_KEY})
        own = {"Origin": "http://testserver"}
        assert (await browser.post("/v1/jobs/estimate", json=SPEC, headers=own)).status_code == 200
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {}):
            assert_problem(await browser.post("/v1/jobs/estimate", json=SPEC, headers=headers), 403, "origin_refused")
        assert (await browser.post("/v1/keys", json={"name": "x", "scopes": ["read"]}, headers=own)).status_code == 201

        assert (await browser.delete("/v1/session", headers=own)).status_code == 204
        assert SESSION_COOKIE not in browser.cookies
        assert_problem(await browser.get("/v1/jobs"), 401)


async def test_a_session_cannot_be_traded_on_and_bad_keys_are_not_told(app: FastAPI, state: ApiState) -> None:
    async with state.transaction() as session:
        repository = ApiKeyRepository(session)
        key = await repository.find(ADMIN_KEY)
        assert key is not None
        secret = await repository.create_session(key, 60)
    async with client_of(app, key=None) as browser:
        assert_problem(await browser.post("/v1/session", json={"key": secret}), 401)
        body = assert_problem(await browser.post("/v1/session", json={"key": "mf_wrong", "more": 1}), 422)
        assert "mf_wrong" not in str(body)


async def test_an_expired_session_is_no_longer_valid(app: FastAPI, state: ApiState) -> None:
    async with state.transaction() as session:
        repository = ApiKeyRepository(session)
        key = await repository.find(ADMIN_KEY)
        assert key is not None
        secret = await repository.create_session(key, 0)
    async with client_of(app, key=None) as browser:
        browser.cookies.set(SESSION_COOKIE, secret)
        assert_problem(await browser.get("/v1/jobs"), 401)


async def test_a_weak_or_foreign_bootstrap_key_is_refused(settings: Settings, state: ApiState) -> None:
    for project, secret in (("default", "mf_short"), ("default", "no-prefix-" + "x" * 40), ("another", ADMIN_KEY)):
        with pytest.raises(InputRefused):
            async with state.transaction() as session:
                await ApiKeyRepository(session).create(project, "x", ["admin"], secret=secret)


async def test_the_bootstrap_key_can_come_from_a_file(settings: Settings, tmp_path: Path) -> None:
    secret = "mf_" + "k" * 40
    (tmp_path / "key").write_text(secret + "\n")
    changed = settings.model_copy(update={"bootstrap_key_file": tmp_path / "key"})
    async with running_app(changed) as app, client_of(app, secret) as client:
        assert (await client.get("/v1/keys")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "multifacet"])
def test_loopback_mode_refuses_to_start_where_others_can_reach_it(host: str) -> None:
    with pytest.raises(LoopbackRefused, match="MULTIFACET_API_HOST"):
        create_app(Settings(authentication="loopback", api_host=host))


async def test_loopback_mode_asks_for_no_key_but_checks_host_and_origin(postgres_url: str, tmp_path: Path) -> None:
    settings = api_settings(postgres_url, tmp_path, authentication="loopback")
    async with running_app(settings) as app:
        for base in ("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
            async with client_of(app, key=None, base_url=base) as client:
                assert (await client.get("/v1/jobs")).status_code == 200
                assert (await client.get("/v1/jobs", headers={"Origin": base})).status_code == 200
                assert_problem(await client.get("/v1/jobs", headers={"Host": "evil.example"}), 403, "host_refused")
                assert_problem(
                    await client.post("/v1/jobs", json=SPEC, headers={"Origin": "http://evil.example"}),
                    403,
                    "origin_refused",
                )


@given(st.integers(0, 2**32 - 1))
def test_only_127_and_localhost_are_loopback(number: int) -> None:
    address = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    assert is_loopback(address) == address.startswith("127.")


async def test_an_unauthenticated_body_is_never_read(app: FastAPI) -> None:
    class Unreadable(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    async def body() -> object:
        Unreadable().read()
        yield b""

    async with client_of(app, key=None) as client:
        assert_problem(await client.post("/v1/files", content=body()), 401)  # type: ignore[arg-type]


async def test_the_command_line_makes_a_key_and_refuses_an_open_loopback(app: FastAPI, settings: Settings) -> None:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "MULTIFACET_DATABASE_URL": settings.database_url, **environment}
        command = [sys.executable, "-m", "services.api", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)

    made = await asyncio.to_thread(run, "create-key", "--scopes", "read,write")
    refused = await asyncio.to_thread(run, MULTIFACET_AUTHENTICATION="loopback", MULTIFACET_API_HOST="0.0.0.0")

    assert made.returncode == 0, made.stderr
    async with client_of(app, made.stdout.strip()) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        assert_problem(await client.get("/v1/keys"), 403)
    assert refused.returncode == 1
    assert "loopback_refused" in refused.stderr
