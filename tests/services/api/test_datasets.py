"""Data sets over HTTP: pages, filters and counts agree with the rows that were written."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.api.datasets import Recent, RowFilter, data_sets
from services.api.local_objects import LocalObjects, ObjectReference
from services.api.row_scans import Scan
from services.api.row_tables import Positions
from services.api.state import ApiState
from shared.domain.rows import InstructionRow
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.tables import Artifact
from tests.services.api.support import add_artifact, assert_problem, instruction_row, job_with_rows, submit_directly

ROWS = [instruction_row(number) for number in range(120)]


async def page(client: httpx2.AsyncClient, job_id: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/v1/jobs/{job_id}/datasets/rows", params={"dataset": "respond", **query})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(("offset", "limit"), [(0, 20), (45, 20), (99, 7), (110, 20), (120, 20), (10**12, 20)])
async def test_pages_are_cut_over_parts(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, offset: int, limit: int
) -> None:
    job = await job_with_rows(state, tmp_path)

    found = await page(client, job.id, offset=offset, limit=limit)

    assert [item["position"] for item in found["rows"]] == list(range(120))[offset : offset + limit]
    assert [item["row"]["source_row"] for item in found["rows"]] == list(range(120))[offset : offset + limit]
    assert (found["rows_total"], found["rows_matched"], found["matched_is_exact"]) == (120, 120, True)


async def test_a_row_comes_whole(client: httpx2.AsyncClient, state: ApiState, tmp_path: Path) -> None:
    job = await job_with_rows(state, tmp_path)

    row = (await page(client, job.id, offset=3, limit=1))["rows"][0]["row"]

    first, second = row["facets"]
    assert row["instruction"] == "Question number 3?"
    assert first["preferences"][0]["check"] == {"kind": "maximum_words", "parameters": {"words": 50}}
    assert first["check_results"] == {"conciseness": "pass"}
    assert first["rejection"] is None
    assert second["rejection"]["reason"] == "too_similar"


def passes(row: InstructionRow, wanted: dict[str, str]) -> bool:
    """The filter, restated over the records that were written."""
    entries = [preference for facet in row.facets for preference in facet.preferences]
    fields = {name: wanted[name] for name in ("dimension", "subdimension", "pole") if name in wanted}
    if fields and not any(all(getattr(entry, name) == value for name, value in fields.items()) for entry in entries):
        return False
    if "reason" in wanted and not any(f.rejection and f.rejection.reason == wanted["reason"] for f in row.facets):
        return False
    texts = [row.instruction, *(facet.system or "" for facet in row.facets), *(f.response or "" for f in row.facets)]
    texts += [text for entry in entries for text in (entry.preference, entry.description)]
    return wanted.get("contains", "").lower() in "\n".join(texts).lower()


@pytest.mark.parametrize(
    "wanted",
    [
        {"dimension": "style"},
        {"subdimension": "depth 2"},
        {"pole": "thorough"},
        {"dimension": "informativeness", "pole": "brief"},
        {"dimension": "style", "subdimension": "depth 2"},
        {"dimension": "nothing"},
        {"reason": "too_similar"},
        {"reason": "unheard"},
        {"contains": "NEEDLE"},
        {"contains": "number 11"},
        {"contains": "keyword 7", "subdimension": "depth 3", "reason": "too_similar"},
        {"contains": "nowhere"},
    ],
)
async def test_filters_find_exactly_what_passes(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, wanted: dict[str, str]
) -> None:
    job = await job_with_rows(state, tmp_path)
    expected = [row.source_row for row in ROWS if passes(row, wanted)]

    seen: list[int] = []
    while True:
        found = await page(client, job.id, offset=len(seen), limit=25, **wanted)
        seen += [item["row"]["source_row"] for item in found["rows"]]
        assert all(item["position"] == item["row"]["source_row"] for item in found["rows"])
        if len(found["rows"]) < 25:
            break

    assert seen == expected
    assert found["matched_is_exact"]
    assert found["rows_matched"] == len(expected)


def test_a_cache_keeps_what_was_used_last_within_its_weight() -> None:
    cache = Recent[str](10, len)
    for text in ("aaaa", "bbb", "ccc"):
        cache.put((text,), text)
    assert cache.get(("aaaa",)) == "aaaa"
    cache.put(("ddd",), "ddd")  # 13 in all: the one used longest ago goes
    assert [cache.get((text,)) for text in ("aaaa", "bbb", "ccc", "ddd")] == ["aaaa", None, "ccc", "ddd"]
    cache.put(("ccc",), "ccccccc")  # heavier than before; alone with the one used last
    assert [cache.get((text,)) for text in ("aaaa", "ccc", "ddd")] == [None, "ccccccc", "ddd"]
    cache.put(("big",), "x" * 99)  # what is in use is kept even where it is too heavy
    assert cache.get(("big",)) == "x" * 99
    assert list(cache) == [("big",)]


async def test_the_list_names_every_table(client: httpx2.AsyncClient, state: ApiState, tmp_path: Path) -> None:
    job = await job_with_rows(state, tmp_path)
    table = pa.table({"system": ["s"] * 4, "prompt": ["p"] * 4, "output": ["o"] * 4})
    path = tmp_path / "table.parquet"
    pq.write_table(table, path)
    for name in ("collection/train.parquet", "collection/test.parquet", "exports/sft/train.parquet"):
        await add_artifact(state, job, "assemble", name, path, ordinal=4, rows=4)
    await add_artifact(state, job, "assemble", "exports/sft/provenance.parquet", path, ordinal=4, rows=4)

    items = (await client.get(f"/v1/jobs/{job.id}/datasets")).json()["items"]

    assert [(item["dataset"], item["split"], item["rows"]) for item in items] == [
        ("collection", "test", 4),
        ("collection", "train", 4),
        ("sft", "train", 4),
        ("sft-provenance", "all", 4),
        ("respond", "all", 120),
        ("curate-rejected", "all", 3),
    ]
    chosen = await page(client, job.id, dataset="collection")
    assert (chosen["split"], chosen["rows"][0]["row"]) == ("train", {"system": "s", "prompt": "p", "output": "o"})
    rejected = await page(client, job.id, dataset="curate-rejected", reason="duplicate")
    assert [item["row"]["source_row"] for item in rejected["rows"]] == [0, 1]
    answer = await client.get(f"/v1/jobs/{job.id}/datasets/rows", params={"dataset": "sft", "split": "test"})
    assert "respond/all" in assert_problem(answer, 404, "not_found")["detail"]
    unfit = await client.get(f"/v1/jobs/{job.id}/datasets/rows", params={"dataset": "sft", "pole": "x"})
    assert_problem(unfit, 422, "input_refused", ["/pole"])


async def test_counts_are_those_of_living_preferences(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await job_with_rows(state, tmp_path)
    living = Counter(
        (entry.dimension, entry.subdimension, entry.pole, entry.preference)
        for row in ROWS
        for facet in row.facets
        if facet.rejection is None
        for entry in facet.preferences
    )

    answer = await client.get(f"/v1/jobs/{job.id}/datasets/facets", params={"dataset": "respond", "top": 2})

    found = answer.json()
    assert found["preferences"] == living.total()
    assert found["reasons"] == {"too_similar": 40}
    for dimension in found["dimensions"]:
        assert dimension["count"] == sum(n for key, n in living.items() if key[0] == dimension["name"])
        assert dimension["count"] == sum(part["count"] for part in dimension["subdimensions"])
        for part in dimension["subdimensions"]:
            inside = Counter[str]()
            poles = Counter[str]()
            for (_, subdimension, pole, keywords), number in living.items():
                if subdimension == part["name"]:
                    inside[keywords] += number
                    poles[pole] += number
            assert part["poles"] == dict(poles)
            assert part["count"] == inside.total()
            assert len(part["preferences"]) <= 2
            assert all(inside[item["name"]] == item["count"] for item in part["preferences"])
            assert part["other"] == part["count"] - sum(item["count"] for item in part["preferences"])


async def test_the_pole_of_a_collection_stands_in_its_details(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    def entry(number: int, pole: str) -> dict[str, Any]:
        return {
            "preference_set": [
                {"dimension": d, "subdimension": "s", "preference": f"k{number}", "description": "x"} for d in "ab"
            ],
            "preference_details": [{"dimension": d, "pole": p} for d, p in (("a", pole), ("b", "same"))],
        }

    path = tmp_path / "collection.parquet"
    table = pa.Table.from_pylist([entry(n, "up" if n % 3 else "down") for n in range(9)])
    await asyncio.to_thread(pq.write_table, table, path, row_group_size=4)
    job = await submit_directly(state)
    await add_artifact(state, job, "assemble", "collection/train.parquet", path, ordinal=4, rows=9)

    found = await page(client, job.id, dataset="collection", dimension="a", pole="down")
    assert [item["position"] for item in found["rows"]] == [0, 3, 6]
    assert (await page(client, job.id, dataset="collection", dimension="b", pole="down"))["rows_matched"] == 0
    counts = (await client.get(f"/v1/jobs/{job.id}/datasets/facets")).json()
    first = next(item for item in counts["dimensions"] if item["name"] == "a")
    assert first["subdimensions"][0]["poles"] == {"up": 6, "down": 3}


async def test_a_search_that_was_left_goes_on_where_it_stopped() -> None:
    read: list[int] = []

    def source(passed: int) -> Iterator[Positions]:
        for unit in range(passed, 10):
            read.append(unit)
            yield np.array([unit * 10, unit * 10 + 1])

    scan = Scan(asyncio.get_running_loop())
    await asyncio.to_thread(scan.run, source, lambda: True)
    assert (read, scan.done) == ([0], False)
    assert (await scan.wait_for(99, 0))[1:] == (2, False)
    await asyncio.to_thread(scan.run, source, lambda: len(read) >= 4)
    await asyncio.to_thread(scan.run, source, lambda: False)

    positions, matched, exact = await scan.wait_for(99, 0)

    assert read == list(range(10))
    assert (matched, exact) == (20, True)
    assert positions.tolist() == [unit * 10 + more for unit in range(10) for more in (0, 1)]


async def test_many_readers_of_one_new_filter_share_one_scan(state: ApiState, tmp_path: Path) -> None:
    job = await job_with_rows(state, tmp_path)
    async with state.transaction() as session:
        artifacts = await ArtifactRepository(session).list("default", job.id)
    data = next(item for item in data_sets(artifacts) if item.dataset == "respond")

    pages = await asyncio.gather(
        *(state.datasets.page(data, RowFilter(contains="needle"), 0, 5) for _ in range(20)),
        *(state.datasets.page(data, RowFilter(dimension="style"), 50, 5) for _ in range(20)),
    )

    assert len({str(found.rows) for found in pages[:20]}) == 1
    assert all([position for position, _ in found.rows] == [50, 51, 52, 53, 54] for found in pages[20:])


async def test_an_empty_table_has_no_rows_and_no_counts(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await job_with_rows(state, tmp_path, rows=0)
    path = tmp_path / "empty.parquet"
    await asyncio.to_thread(pq.write_table, pa.table({"reason": pa.array([], pa.string())}), path)
    await add_artifact(state, job, "assemble", "collection/train.parquet", path, ordinal=4, rows=0)

    assert (await page(client, job.id, dataset="collection"))["rows"] == []
    assert (await page(client, job.id, dataset="collection", reason="x", contains="y"))["rows_matched"] == 0
    counts = await client.get(f"/v1/jobs/{job.id}/datasets/facets")
    assert (counts.json()["preferences"], counts.json()["dimensions"]) == (0, [])


async def test_rows_whose_bytes_are_gone(client: httpx2.AsyncClient, state: ApiState, tmp_path: Path) -> None:
    job = await job_with_rows(state, tmp_path)
    async with state.transaction() as session:
        artifacts = await ArtifactRepository(session).list("default", job.id, stage="respond")
    for artifact in artifacts:
        await state.store.delete(artifact.key)
    for query in ({}, {"contains": "needle"}, {"pole": "brief"}):
        answer = await client.get(f"/v1/jobs/{job.id}/datasets/rows", params={"dataset": "respond", **query})
        assert_problem(answer, 410, "object_not_found")


async def test_local_copies_are_shared_and_the_oldest_go_first(state: ApiState, tmp_path: Path) -> None:
    references = []
    for number in range(4):
        stored = await state.store.put_bytes(f"uploads/default/x/{number}-{tmp_path.name}", bytes([number]) * 100)
        references.append(ObjectReference(stored.key, stored.sha256, stored.size))
    objects = LocalObjects(state.store, tmp_path / "cache", maximum_bytes=250)

    async def read(reference: ObjectReference) -> bytes:
        async with objects.local(reference) as path:
            return path.read_bytes()

    async with objects.local(references[0]) as held:
        contents = await asyncio.gather(*(read(reference) for reference in references * 3))
        assert contents[:4] == [bytes([number]) * 100 for number in range(4)]
        assert held.exists()
    kept = list((tmp_path / "cache").glob("*/*"))
    assert sum(path.stat().st_size for path in kept) <= 250
    assert await read(references[1]) == bytes([1]) * 100
    await objects.close()
    assert list((tmp_path / "cache").iterdir()) == []


def test_artifacts_that_are_no_tables_make_no_data_set() -> None:
    def artifact(name: str, rows: int | None) -> Artifact:
        return Artifact(
            id=name, project_id="p", job_id="j", stage="report", name=name, key=name, kind="x", media_type="x",
            sha256="0", size=1, rows=rows, details={}, lineage={},
        )  # fmt: skip

    assert data_sets([artifact("report.html", None), artifact("sample.jsonl", 5), artifact("x.parquet", None)]) == []


async def test_a_job_without_tables(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)
    assert (await client.get(f"/v1/jobs/{job.id}/datasets")).json()["items"] == []
    assert_problem(await client.get(f"/v1/jobs/{job.id}/datasets/rows"), 404, "not_found")
