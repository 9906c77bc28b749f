"""Files and taxonomies: upload, look, inspection, limits."""

from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml

from services.api.state import ApiState
from shared.artifacts.s3 import S3Store
from shared.domain.taxonomy import default_taxonomy
from shared.settings import Settings
from tests.services.api.support import (
    ADMIN_KEY,
    SPEC,
    api_settings,
    assert_problem,
    client_of,
    running_app,
    state_of,
)

ROWS = b'{"instruction": "What is rain?"}\n{"instruction": "Why is the sea salty?"}\n{"other": 1}\n'


async def upload(client: httpx2.AsyncClient, content: bytes = ROWS, name: str = "own.jsonl") -> dict[str, Any]:
    answer = await client.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/files/{made['id']}"
    return made


@pytest.mark.parametrize("kind", ["directory", "s3"])
async def test_a_file_is_stored_as_it_was_sent(
    kind: str, postgres_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = api_settings(postgres_url, tmp_path)
    if kind == "s3":
        s3: Settings = request.getfixturevalue("s3_settings")
        names = [name for name in Settings.model_fields if name.startswith("s3_")]
        settings = settings.model_copy(update={"artifact_store": "s3", **{name: getattr(s3, name) for name in names}})
    async with running_app(settings) as app, client_of(app) as client:
        store = state_of(app).store
        if isinstance(store, S3Store):
            await store.ensure_bucket()
        content = ROWS * 50_000
        made = await upload(client, content, "my data (1).jsonl")

        assert made["size"] == len(content)
        stored = [info async for info in store.list_objects("uploads/default/")]
        mine = next(info for info in stored if made["id"] in info.key)
        assert await store.get_bytes(mine.key) == content
        assert (await client.get(f"/v1/files/{made['id']}")).json() == made
        assert made["id"] in {file["id"] for file in (await client.get("/v1/files")).json()["items"]}
        answer = await client.post("/v1/jobs", json={**SPEC, "sources": [{"file": made["id"], "limit": 10}]})
        assert answer.status_code == 202, answer.text


async def test_inspection_shows_what_a_mapping_finds(client: httpx2.AsyncClient) -> None:
    made = await upload(client)

    found = (await client.get(f"/v1/files/{made['id']}/inspection")).json()

    assert found["format"] == "jsonl"
    assert found["rows"] == 3
    assert found["sample"][0] == "What is rain?"
    assert found["unusable_rows"] == {"missing_field": 1}
    mapped = await client.get(f"/v1/files/{made['id']}/inspection", params={"mapping": "{instruction} Please."})
    assert mapped.json()["sample"][0] == "What is rain? Please."
    refused = await client.get(f"/v1/files/{made['id']}/inspection", params={"mapping": "$.absent"})
    assert_problem(refused, 422, "input_refused", ["/mapping"])


async def test_uploads_that_are_refused(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.post("/v1/files", files={"file": ("a.jsonl", b"")}), 422, "input_refused", ["/file"])
    assert_problem(await client.post("/v1/files", files={"data": ("a.jsonl", b"x")}), 422, "input_refused", ["/file"])
    assert_problem(await client.post("/v1/files", data={"file": "no file"}), 415)
    assert_problem(await client.post("/v1/files", json={"file": "x"}), 415, "unsupported_media_type")
    two = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    assert_problem(await client.post("/v1/files", files=two), 400)
    broken = {"Content-Type": "multipart/form-data"}
    assert_problem(await client.post("/v1/files", content=b"x", headers=broken), 400)
    assert_problem(await client.get("/v1/files/file_unknown"), 404, "not_found")
    assert_problem(await client.get("/v1/files/file_unknown/inspection"), 404, "not_found")


async def test_an_upload_above_the_limit_leaves_nothing(postgres_url: str, tmp_path: Path) -> None:
    settings = api_settings(postgres_url, tmp_path, upload_limit_bytes=100_000)
    async with running_app(settings) as app, client_of(app) as client:
        before = len((await client.get("/v1/files")).json()["items"])
        for size in (100_001, 500_000):
            answer = await client.post("/v1/files", files={"file": ("a.jsonl", b"x" * size)})
            body = assert_problem(answer, 413, "content_too_large")
            assert "MULTIFACET_UPLOAD_LIMIT_BYTES" in body["detail"]
        assert len((await client.get("/v1/files")).json()["items"]) == before
        await upload(client, b'{"instruction": "x"}\n' + b"\n" * (100_000 - 21))


async def test_a_path_as_file_name_stays_inside_the_uploads(client: httpx2.AsyncClient, state: ApiState) -> None:
    made = await upload(client, ROWS, "../../artifacts/default/x\\..\\evil.jsonl")

    assert made["name"] == "evil.jsonl"
    keys = [info.key async for info in state.store.list_objects("")]
    assert [key for key in keys if made["id"] in key] == [f"uploads/default/{made['id']}/evil.jsonl"]


def small_taxonomy() -> dict[str, Any]:
    def seed(name: str, pole: str) -> dict[str, Any]:
        return {"name": name, "pole": pole, "description": f"The person wants {name}."}

    part = {
        "name": "length",
        "description": "How long an answer is.",
        "poles": [{"name": "short", "description": "Few words."}, {"name": "long", "description": "Many words."}],
        "seeds": [seed("few words", "short"), seed("many words", "long")],
    }
    return {
        "name": "small",
        "dimensions": [{"name": "style", "description": "How it is said.", "subdimensions": [part]}],
    }


@pytest.mark.parametrize("media_type", ["application/json", "application/yaml"])
async def test_a_taxonomy_can_be_uploaded_and_used(client: httpx2.AsyncClient, media_type: str) -> None:
    taxonomy = small_taxonomy() | {"name": media_type}
    text = orjson.dumps(taxonomy) if media_type == "application/json" else yaml.safe_dump(taxonomy).encode()
    headers = {"Content-Type": media_type}

    made = await client.post("/v1/taxonomies", content=text, headers=headers)
    again = await client.post("/v1/taxonomies", content=text, headers=headers)

    assert (made.status_code, again.status_code) == (201, 200)
    view = made.json()
    assert again.json()["id"] == view["id"]
    assert (view["dimensions"], view["subdimensions"], view["seeds"]) == (1, 1, 2)
    read = (await client.get(f"/v1/taxonomies/{view['id']}")).json()
    assert read["body"]["dimensions"][0]["subdimensions"][0]["seeds"][0]["name"] == "few words"
    job = await client.post("/v1/jobs", json={**SPEC, "taxonomy": view["id"]})
    assert job.status_code == 202, job.text


async def test_the_default_taxonomy_stands_first(client: httpx2.AsyncClient) -> None:
    items = (await client.get("/v1/taxonomies")).json()["items"]
    assert items[0]["id"] == "multifacet"
    detail = (await client.get("/v1/taxonomies/multifacet")).json()
    assert detail["version"] == items[0]["version"] == default_taxonomy().version
    assert detail["seeds"] >= 107


async def test_unusable_taxonomies_are_refused_with_a_pointer(client: httpx2.AsyncClient) -> None:
    place = "/dimensions/0/subdimensions/0"

    def changed(change: Any) -> bytes:
        taxonomy = small_taxonomy()
        change(taxonomy["dimensions"][0]["subdimensions"][0])
        return orjson.dumps(taxonomy)

    def one_pole(part: dict[str, Any]) -> None:
        del part["poles"][1]

    def duplicate(part: dict[str, Any]) -> None:
        part["seeds"][1]["name"] = "Few Words"

    cases = [
        (changed(one_pole), f"{place}/poles"),
        (changed(duplicate), f"{place}/seeds/1/name"),
        (changed(lambda part: part["seeds"][0].update(colour="red")), f"{place}/seeds/0/colour"),
        (changed(lambda part: part["seeds"][0].update(check={"kind": "magic"})), f"{place}/seeds/0/check"),
        (changed(lambda part: part["seeds"][0].update(description="a\0b")), f"{place}/seeds/0/description"),
        (b"{}", "/name"),
        (b"", ""),
        (b"\xff", ""),
        (b"a: &x [1]\nb: *x", ""),
        (b"[" * 50_000, ""),
        (b"- " * 500_000, ""),
        (b"? " * 100_000, ""),
        (b'{"a":' * 50_000, ""),
    ]
    for body, pointer in cases:
        answer = await client.post("/v1/taxonomies", content=body, headers={"Content-Type": "application/json"})
        assert_problem(answer, 422, "input_refused", [pointer])
    assert_problem(await client.post("/v1/taxonomies", content=b"x", headers={"Content-Type": "text/html"}), 415)
    assert_problem(await client.get("/v1/taxonomies/taxonomy_unknown"), 404, "not_found")


async def test_providers_are_named_without_addresses_and_keys(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/providers")

    names = {item["name"]: item for item in answer.json()["items"]}
    assert names["simulator"]["simulator"] is True
    assert {"name": "simulator-large", "priced": True} in names["simulator"]["models"]
    assert "http" not in answer.text
    assert "KEY" not in answer.text
    assert ADMIN_KEY not in answer.text
