"""Artifacts over HTTP: records, bytes, ranges, and reports that cannot harm."""

from pathlib import Path
from random import Random

import httpx2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.api.problems import Problem
from services.api.ranges import byte_range
from services.api.state import ApiState
from shared.metadata.repositories.artifacts import ArtifactRepository
from tests.services.api.support import add_artifact, assert_problem, job_with_rows, submit_directly

CONTENT = Random(0).randbytes(3_000_000)


@pytest.fixture
async def artifact_id(state: ApiState, tmp_path: Path) -> str:
    path = tmp_path / "part"
    path.write_bytes(CONTENT)
    job = await submit_directly(state)
    return await add_artifact(state, job, "augment", "part-00000.parquet", path, ordinal=1, rows=3)


async def _key_of(state: ApiState, artifact_id: str) -> str:
    async with state.transaction() as session:
        artifact = await ArtifactRepository(session).get("default", artifact_id)
    assert artifact is not None
    return artifact.key


async def test_the_bytes_come_whole_with_their_hash(client: httpx2.AsyncClient, artifact_id: str) -> None:
    record = (await client.get(f"/v1/artifacts/{artifact_id}")).json()

    answer = await client.get(f"/v1/artifacts/{artifact_id}/content")

    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{record["sha256"]}"'
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"].startswith('attachment; filename="part-00000.parquet"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    same = await client.get(f"/v1/artifacts/{artifact_id}/content", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


async def test_the_headers_can_be_had_without_the_bytes(
    client: httpx2.AsyncClient, state: ApiState, artifact_id: str
) -> None:
    path = f"/v1/artifacts/{artifact_id}/content"
    whole = await client.get(path)

    answer = await client.head(path, headers={"Range": "bytes=0-1"})

    assert (answer.status_code, answer.content) == (200, b"")
    assert dict(answer.headers) == dict(whole.headers)
    assert (await client.head("/v1/artifacts/artifact_absent/content")).status_code == 404
    await state.store.delete(await _key_of(state, artifact_id))
    assert (await client.head(path)).status_code == 410


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-1999999", 10, 2_000_000),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=0-99999999", 0, 3_000_000),
    ],
)
async def test_a_range_is_cut(client: httpx2.AsyncClient, artifact_id: str, header: str, start: int, end: int) -> None:
    answer = await client.get(f"/v1/artifacts/{artifact_id}/content", headers={"Range": header})

    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


async def test_ranges_that_cannot_be(client: httpx2.AsyncClient, artifact_id: str) -> None:
    path = f"/v1/artifacts/{artifact_id}/content"
    outside = await client.get(path, headers={"Range": "bytes=3000000-"})
    assert_problem(outside, 416, "range_not_satisfiable")
    assert outside.headers["content-range"] == "bytes */3000000"
    for ignored in ("lines=1-2", "bytes=5-2", "bytes=0-1,4-5", "bytes=-"):
        assert (await client.get(path, headers={"Range": ignored})).status_code == 200
    stale = await client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (stale.status_code, len(stale.content)) == (200, len(CONTENT))


@given(size=st.integers(1, 1000), first=st.integers(0, 1100), last=st.integers(0, 1100))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_range_never_leaves_the_object(size: int, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}"):
        found: tuple[int, int] | None = None
        refused = False
        try:
            found = byte_range(header, size)
        except Problem:
            refused = True
        if refused:
            assert first >= size or (header.startswith("bytes=-") and last == 0)
        elif found is None:
            assert last < first
        else:
            assert 0 <= found[0] < found[1] <= size


async def test_a_report_is_shown_in_a_sandbox(client: httpx2.AsyncClient, state: ApiState, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("<script>fetch('/v1/keys')</script>")
    job = await submit_directly(state)
    made = await add_artifact(state, job, "report", "report.html", path, media_type="text/html", job_level=True)

    answer = await client.get(f"/v1/artifacts/{made}/content")

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert answer.headers["content-disposition"].startswith("inline")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    saved = await client.get(f"/v1/artifacts/{made}/content", params={"download": True})
    assert saved.headers["content-disposition"].startswith("attachment")
    assert (await client.get(f"/v1/artifacts/{made}")).json()["job_level"] is True


async def test_lists_are_paged_by_stage_and_name(client: httpx2.AsyncClient, state: ApiState, tmp_path: Path) -> None:
    job = await job_with_rows(state, tmp_path)
    first = (await client.get(f"/v1/jobs/{job.id}/artifacts", params={"limit": 3})).json()
    rest = (await client.get(f"/v1/jobs/{job.id}/artifacts", params={"before": first["next"]})).json()

    names = [(item["stage"], item["name"]) for item in first["items"] + rest["items"]]

    assert rest["next"] is None
    assert names == [
        ("curate", "rejected.parquet"),
        ("respond", "part-00000.parquet"),
        ("respond", "part-00001.parquet"),
        ("respond", "part-00002.parquet"),
    ]
    only = await client.get(f"/v1/jobs/{job.id}/artifacts", params={"stage": "curate"})
    assert len(only.json()["items"]) == 1


async def test_bytes_that_are_gone_and_artifacts_of_others(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    mine = await submit_directly(state)
    made = await add_artifact(state, mine, "augment", "x.txt", path, media_type="text/plain")
    await state.store.delete(f"artifacts/default/{mine.id}/00-augment/x.txt")
    assert_problem(await client.get(f"/v1/artifacts/{made}/content"), 410, "object_not_found")
    theirs = await add_artifact(state, await submit_directly(state, "other"), "augment", "x.txt", path)
    assert_problem(await client.get(f"/v1/artifacts/{theirs}"), 404, "not_found")
    assert_problem(await client.get(f"/v1/artifacts/{theirs}/content"), 404, "not_found")
