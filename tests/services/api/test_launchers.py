"""Launchers over HTTP: their token, what they are told, and files that only they may fetch."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import SecretStr

from services.api.routes.launchers import report_seconds
from services.api.state import ApiState
from shared.artifacts.s3 import S3Store
from shared.metadata.repositories.model_servers import LauncherTerms, ModelServerRepository
from shared.settings import Settings
from tests.services.api.support import ADMIN_KEY, api_settings, assert_problem, client_of, running_app, state_of
from tests.services.api.test_registry import CONFIG, registered

TOKEN = "a-token-of-launchers"
EMPTY = {"kind": "cpu", "host": "here", "places": [{"place": 0, "state": "empty"}]}


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return api_settings(postgres_url, tmp_path, launcher_token=SecretStr(TOKEN))


@pytest.fixture
async def launcher(app: FastAPI, state: ApiState) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, TOKEN) as client:
        yield client
    async with state.transaction() as session:
        await session.execute(sa.text("DELETE FROM model_server"))
        await session.execute(sa.text("UPDATE deployment SET state = 'stopped'"))


async def place(state: ApiState, deployment_id: str) -> bool:
    async with state.transaction() as session:
        return await ModelServerRepository(session, LauncherTerms(30, 60)).place(deployment_id)


async def given(client: httpx2.AsyncClient, state: ApiState, name: str) -> dict[str, Any]:
    """Deploy a fresh model and give it to a free place."""
    model = await registered(state)
    made = await client.post("/v1/deployments", json={"name": name, "target": {"registry": model}})
    body: dict[str, Any] = made.json()
    assert await place(state, body["id"])
    return body


async def test_a_launcher_is_told_what_to_run_and_fetches_it(
    client: httpx2.AsyncClient, launcher: httpx2.AsyncClient, state: ApiState
) -> None:
    answer = (await launcher.post("/v1/launchers/one/report", json=EMPTY)).json()
    assert answer["places"] == [{"place": 0, "wanted": None}]
    assert answer["report_seconds"] == 4, "who runs nothing and shall run nothing reports less often"
    deployment = await given(client, state, "told")
    answer = (await launcher.post("/v1/launchers/one/report", json=EMPTY)).json()
    assert answer["report_seconds"] == 2
    wanted = answer["places"][0]["wanted"]
    assert (wanted["id"], wanted["name"], wanted["devices"]) == (f"{deployment['id']}:1", "told", [])
    (file,) = wanted["model"]["files"]
    facts = (file["name"], file["size"], file["sha256"])
    assert facts == ("config.json", len(CONFIG), sha256(CONFIG).hexdigest())
    assert (await launcher.get(file["url"])).content == CONFIG
    part = await launcher.get(file["url"], headers={"Range": "bytes=4-"})
    assert (part.status_code, part.content) == (206, CONFIG[4:])
    assert_problem(await launcher.get(file["url"], headers={"Range": "bytes=9999-"}), 416)


async def test_options_become_the_servers_own(
    client: httpx2.AsyncClient, launcher: httpx2.AsyncClient, state: ApiState
) -> None:
    tgi = EMPTY | {"kind": "tgi"}
    await launcher.post("/v1/launchers/one/report", json=tgi)
    model = await registered(state)
    options = {"server": "tgi", "maximum_input_tokens": 100, "maximum_total_tokens": 200, "quantize": "fp8"}
    body = {"name": "opts", "target": {"registry": model}, "options": options}
    assert await place(state, (await client.post("/v1/deployments", json=body)).json()["id"])
    wanted = (await launcher.post("/v1/launchers/one/report", json=tgi)).json()["places"][0]["wanted"]
    assert wanted["arguments"] == ["--max-input-tokens", "100", "--max-total-tokens", "200", "--quantize", "fp8"]


async def test_the_token_opens_files_of_what_the_launcher_serves_and_no_others(
    client: httpx2.AsyncClient, launcher: httpx2.AsyncClient, state: ApiState
) -> None:
    await launcher.post("/v1/launchers/one/report", json=EMPTY)
    await launcher.post("/v1/launchers/two/report", json=EMPTY)
    await given(client, state, "mine")
    answers = {
        name: (await launcher.post(f"/v1/launchers/{name}/report", json=EMPTY)).json() for name in ("one", "two")
    }
    (holder,) = [name for name, answer in answers.items() if answer["places"][0]["wanted"]]
    other = "two" if holder == "one" else "one"
    url = answers[holder]["places"][0]["wanted"]["model"]["files"][0]["url"]
    assert (await launcher.get(url)).status_code == 200
    assert_problem(await launcher.get(url.replace(f"/{holder}/", f"/{other}/")), 404)
    mine = (await client.get("/v1/deployments/mine")).json()["target"]["registry"]
    others = [(await client.get(f"/v1/registry/models/{await registered(state)}")).json()["files"][0]["id"]]
    files = (await client.get(f"/v1/registry/models/{mine}")).json()["files"]
    others += [file["id"] for file in files if file["kind"] in {"metrics", "adapter"}]
    for artifact in others:
        assert_problem(await launcher.get(f"/v1/launchers/{holder}/files/{artifact}"), 404)
    await client.delete("/v1/deployments/mine")
    assert_problem(await launcher.get(url), 404)


@pytest.mark.parametrize("secret", [None, ADMIN_KEY, TOKEN + "x", TOKEN[:-1], "é"])
async def test_nobody_without_the_token_is_heard_not_even_an_administrator(
    app: FastAPI, launcher: httpx2.AsyncClient, secret: str | None
) -> None:
    headers = httpx2.Headers({} if secret is None else {b"Authorization": f"Bearer {secret}".encode()})
    async with client_of(app, None) as client:
        report = await client.post("/v1/launchers/one/report", json=EMPTY, headers=headers)
        assert_problem(report, 401, "unauthorized")
        assert_problem(await client.get("/v1/launchers/one/files/art_1", headers=headers), 401, "unauthorized")


async def test_the_token_opens_nothing_else(launcher: httpx2.AsyncClient) -> None:
    for path in ("/v1/jobs", "/v1/deployments", "/v1/launchers"):
        assert (await launcher.get(path)).status_code in {401, 404}


async def test_without_a_token_in_the_settings_no_launcher_is_heard(postgres_url: str, tmp_path: Path) -> None:
    async with running_app(api_settings(postgres_url, tmp_path)) as app, client_of(app, "x") as client:
        body = assert_problem(await client.post("/v1/launchers/one/report", json=EMPTY), 403, "launchers_refused")
        assert "MULTIFACET_LAUNCHER_TOKEN" in body["detail"]


async def test_loopback_mode_asks_for_no_token_and_takes_servers_of_this_machine_alone(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = api_settings(postgres_url, tmp_path, authentication="loopback")
    there = {"place": 0, "state": "ready", "serving": "dep_1:1", "about": "dep_1:1"}
    async with running_app(settings) as app, client_of(app, None, "http://127.0.0.1") as client:
        for host, status in (("127.0.0.1", 200), ("[::1]", 200), ("10.0.0.1", 422), ("evil.example", 422)):
            body = EMPTY | {"places": [there | {"address": f"http://{host}:99"}]}
            assert (await client.post("/v1/launchers/loop/report", json=body)).status_code == status


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"more": 1}, "/more"),
        ({"kind": "gpt"}, "/kind"),
        ({"places": []}, "/places"),
        ({"places": [{"place": 64, "state": "empty"}]}, "/places/0/place"),
        ({"places": [{"place": 0, "state": "idle"}]}, "/places/0/state"),
        ({"places": [{"place": 0, "state": "empty", "detail": "x" * 5000}]}, "/places/0/detail"),
        ({"places": [{"place": 0, "state": "empty", "serving": "dep_1:1"}]}, "/places/0"),
        (
            {"places": [{"place": 0, "state": "ready", "serving": "dep_1:1", "address": "file:///etc/passwd"}]},
            "/places/0/address",
        ),
        (
            {"places": [{"place": 0, "state": "ready", "serving": "dep_1:1", "address": "http://a@b:80"}]},
            "/places/0/address",
        ),
        ({"places": [{"place": 0, "state": "empty"}] * 2}, ""),
        ({"devices": list(range(65))}, "/devices"),
    ],
)
async def test_reports_of_another_form_are_refused(
    launcher: httpx2.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    assert_problem(await launcher.post("/v1/launchers/one/report", json=EMPTY | changes), 422, pointers=[pointer])


async def test_a_report_has_a_limit_below_that_of_other_bodies(launcher: httpx2.AsyncClient) -> None:
    answer = await launcher.post("/v1/launchers/one/report", content=b" " * (600 << 10))
    assert_problem(answer, 413, "content_too_large")


async def test_names_of_launchers_are_plain(launcher: httpx2.AsyncClient) -> None:
    assert_problem(await launcher.post("/v1/launchers/a%20b/report", json=EMPTY), 422)


async def test_from_s3_files_come_by_signed_urls_that_need_no_key(
    postgres_url: str, tmp_path: Path, s3_settings: Settings
) -> None:
    changes = {
        "database_url": postgres_url,
        "work_folder": tmp_path,
        "bootstrap_key": SecretStr(ADMIN_KEY),
        "launcher_token": SecretStr(TOKEN),
    }
    settings = s3_settings.model_copy(update=changes)
    async with running_app(settings) as app, client_of(app) as client, client_of(app, TOKEN) as launcher:
        state = state_of(app)
        assert isinstance(state.store, S3Store)
        await state.store.ensure_bucket()
        await launcher.post("/v1/launchers/s3/report", json=EMPTY)
        await given(client, state, "signed")
        answer = (await launcher.post("/v1/launchers/s3/report", json=EMPTY)).json()
        (file,) = answer["places"][0]["wanted"]["model"]["files"]
        assert file["url"].startswith(f"http://{settings.s3_endpoint}/")
        async with httpx2.AsyncClient() as anybody:
            assert (await anybody.get(file["url"])).content == CONFIG
        await client.delete("/v1/deployments/signed")


@pytest.mark.parametrize(("lease", "expected"), [(4, 2), (15, 3), (20, 4), (600, 4)])
def test_a_quiet_launcher_reports_so_often_that_it_never_counts_as_gone(lease: float, expected: float) -> None:
    assert report_seconds(True, lease) == expected
    assert report_seconds(False, lease) == 2
