"""Benches over HTTP: registered files, items, reviews by several people, exports, and jobs that ask a bench."""

import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest

from services.api.state import ApiState
from shared.bench_layout.records import BENCH_COLUMNS
from shared.domain.benches import item_id
from shared.domain.errors import InputRefused
from shared.domain.jobs import JobSpec
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Bench
from shared.stages.answer_inputs import question_inputs
from tests.services.api.benches import bench_of_job, lose_bytes, uploaded
from tests.services.api.support import assert_problem, client_of
from tests.support.benches import bench_facet, bench_line, bench_row

SIMULATED: dict[str, Any] = {
    "name": "janus",
    "candidate": {"provider": "simulator", "model": "simulator-large"},
    "decoding": {"repetition_penalty": None},
}
ROWS = [bench_row(0, bench_facet(0), bench_facet(2)), bench_row(1, bench_facet(0))]
FIRST, SECOND, THIRD = item_id(ROWS[0].row_id, 0), item_id(ROWS[0].row_id, 2), item_id(ROWS[1].row_id, 0)


async def review(
    client: httpx2.AsyncClient, bench: str, item: str, decision: str, reviewer: str = "ada", reason: str = ""
) -> httpx2.Response:
    body = {"decision": decision, "reason": reason, "reviewer": reviewer}
    return await client.put(f"/v1/benches/{bench}/items/{item}/review", json=body)


async def test_a_file_becomes_a_bench_and_every_line_that_is_none_is_named(client: httpx2.AsyncClient) -> None:
    file = await uploaded(
        client,
        [bench_line(), bench_line(system="At length."), bench_line(), bench_line(prompt="?", reference_answer="x")],
    )
    answer = await client.post("/v1/benches", json={"file": file})
    assert answer.status_code == 201, answer.text
    bench = answer.json()
    assert answer.headers["location"] == f"/v1/benches/{bench['id']}"
    assert (bench["name"], bench["rows"], bench["items"], bench["teacher"]) == ("mine.jsonl", 1, 2, None)
    assert bench["left_out"] == {"duplicate": 1, "short_reference": 1}
    assert [(line["line"], line["reason"]) for line in bench["rejected"]] == [(3, "duplicate"), (4, "short_reference")]
    assert bench["review"] == {"kept": 0, "dropped": 0, "undecided": 2}
    assert (await client.get(f"/v1/benches/{bench['id']}")).json() == bench
    page = (await client.get(f"/v1/benches/{bench['id']}/rejected", params={"offset": 1})).json()
    assert (page["lines_total"], [line["line"] for line in page["lines"]]) == (2, [4])
    again = await client.post("/v1/benches", json={"file": file, "name": "again"})
    assert assert_problem(again, 409, "bench_exists")["bench"] == bench["id"]


async def test_a_file_without_a_usable_line_is_refused_with_each_of_them(client: httpx2.AsyncClient) -> None:
    file = await uploaded(client, [bench_line(rubrics=[]), bench_line(system="")])
    problem = assert_problem(await client.post("/v1/benches", json={"file": file}), 422, "no_usable_item", ["/file"])
    assert problem["left_out"] == {"no_rubrics": 1, "no_system_message": 1}
    assert [error["detail"].split(":")[:2] for error in problem["errors"]] == [
        ["line 1", " no_rubrics"],
        ["line 2", " no_system_message"],
    ]
    other = await uploaded(client, [{"prompt": "a", "output": "b"}])
    assert_problem(await client.post("/v1/benches", json={"file": other}), 422, pointers=["/file"])
    assert_problem(await client.post("/v1/benches", json={"file": "file_none"}), 422, pointers=["/file"])
    files = [bench["file_id"] for bench in (await client.get("/v1/benches")).json()["items"]]
    assert not {file, other} & set(files)


async def test_several_reviewers_decide_by_majority_and_the_last_word_of_each_counts(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    bench = await bench_of_job(state, tmp_path, ROWS)
    assert (await review(client, bench, FIRST, "keep")).json()["outcome"] == "kept"
    assert (await review(client, bench, FIRST, "drop", reason="off topic")).json()["outcome"] == "dropped"
    tied = (await review(client, bench, FIRST, "keep", " bob ")).json()
    assert tied["outcome"] == "kept"
    assert [(one["reviewer"], one["decision"], one["reason"]) for one in tied["reviews"]] == [
        ("ada", "drop", "off topic"),
        ("bob", "keep", ""),
    ]
    assert (await review(client, bench, FIRST, "drop", "cy")).json()["outcome"] == "dropped"
    await review(client, bench, THIRD, "keep", "cy")
    view = (await client.get(f"/v1/benches/{bench}")).json()
    assert view["review"] == {"kept": 1, "dropped": 1, "undecided": 1}
    assert view["reviewers"] == [
        {"reviewer": "ada", "kept": 0, "dropped": 1, "undecided": 2},
        {"reviewer": "bob", "kept": 1, "dropped": 0, "undecided": 2},
        {"reviewer": "cy", "kept": 1, "dropped": 1, "undecided": 1},
    ]

    page = await client.get("/benches")
    (shown,) = [row for row in page.text.split("<tr>") if bench in row]
    assert '<td class="number">2</td>' in shown.split('<td class="number">2</td>', 1)[1]  # instructions, then reviewed

    async def items(**query: Any) -> list[str]:
        page = (await client.get(f"/v1/benches/{bench}/items", params=query)).json()
        assert page["items_total"] == 3
        return [item["id"] for item in page["items"]]

    assert await items() == [FIRST, SECOND, THIRD]
    assert await items(offset=1, limit=1) == [SECOND]
    assert await items(outcome="undecided") == [SECOND]
    assert await items(outcome="dropped") == [FIRST]
    assert await items(outcome="undecided", reviewer="bob") == [SECOND, THIRD]
    item = (await client.get(f"/v1/benches/{bench}/items/{SECOND}")).json()
    assert (item["position"], item["facet_index"], item["system"]) == (1, 2, "You answer person 2 in few words.")
    assert [len(rubric["levels"]) for rubric in item["rubrics"]] == [5, 5]


async def test_exports_have_the_released_columns_and_leave_out_what_was_dropped(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    bench = await bench_of_job(state, tmp_path, ROWS, 'a "name"\N{SNOWMAN}')
    await review(client, bench, FIRST, "drop", reason="two\nlines")
    exported = await client.get(f"/v1/benches/{bench}/export")
    assert exported.headers["content-type"] == "application/jsonl"
    assert "attachment" in exported.headers["content-disposition"]
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [tuple(line) for line in lines] == [BENCH_COLUMNS] * 2
    assert [line["system"] for line in lines] == [
        "You answer person 2 in few words.",
        "You answer person 0 in few words.",
    ]
    asked = {"layout": "multifaceted_bench", "format": "parquet"}
    table = pq.read_table(io.BytesIO((await client.get(f"/v1/benches/{bench}/export", params=asked)).content))
    assert table.to_pylist() == lines
    reviews = await client.get(f"/v1/benches/{bench}/reviews")
    (said,) = [json.loads(line) for line in reviews.text.splitlines()]
    assert said.pop("decided_at")
    assert said == {
        "item": FIRST,
        "row_id": ROWS[0].row_id,
        "facet_index": 0,
        "position": 0,
        "reviewer": "ada",
        "decision": "drop",
        "reason": "two\nlines",
        "outcome": "dropped",
    }
    again = await client.post("/v1/files", files={"file": ("again.jsonl", exported.content)})
    registered = await client.post("/v1/benches", json={"file": again.json()["id"], "name": "again"})
    assert (registered.json()["items"], registered.json()["left_out"]) == (2, {})
    for item in (SECOND, THIRD):
        await review(client, bench, item, "drop")
    assert_problem(await client.get(f"/v1/benches/{bench}/export"), 409, "bench_empty")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"decision": "maybe"}, "/decision"),
        ({"reviewer": "  "}, "/reviewer"),
        ({"reviewer": "a\nb"}, "/reviewer"),
        ({"reviewer": None}, "/reviewer"),
        ({"reason": "x" * 2001}, "/reason"),
        ({"reasons": ""}, "/reasons"),
    ],
)
async def test_a_review_that_says_nothing_clear_is_refused(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    bench = await bench_of_job(state, tmp_path, ROWS)
    body = {"decision": "keep", "reason": "", "reviewer": "ada"} | change
    answer = await client.put(f"/v1/benches/{bench}/items/{FIRST}/review", json=body)
    assert_problem(answer, 422, pointers=[pointer])


async def test_unknown_benches_and_items_are_not_found_and_lost_bytes_are_gone(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    bench = await bench_of_job(state, tmp_path, ROWS)
    for path in ("", "/items", "/items/x", "/rejected", "/export", "/reviews"):
        assert_problem(await client.get(f"/v1/benches/bench_none{path}"), 404, "not_found")
    assert_problem(await client.get(f"/v1/benches/{bench}/items/{FIRST}9"), 404, "not_found")
    assert_problem(await review(client, bench, "none:0", "keep"), 404, "not_found")
    lost = await bench_of_job(state, tmp_path, [*ROWS, bench_row(2, bench_facet(0))])
    await lose_bytes(state, lost)
    assert_problem(await client.get(f"/v1/benches/{lost}"), 410, "bench_gone")
    async with client_of(client._transport.app, None) as nobody:  # type: ignore[attr-defined]
        assert_problem(await nobody.get("/v1/benches"), 401)


async def test_a_job_asks_what_the_review_of_a_bench_left(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    bench = await bench_of_job(state, tmp_path, ROWS)
    await review(client, bench, FIRST, "drop")
    spec = {"questions": {"bench": bench}, "answer": [SIMULATED]}
    estimate = (await client.post("/v1/jobs/estimate", json=spec)).json()
    assert [stage["calls"] for stage in estimate["stages"] if stage["stage"] == "janus"] == [2]
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    assert answer.json()["teacher_is_simulator"]
    claim = claim_of(answer.json()["id"])
    async with state.transaction() as session:
        (held,) = await question_inputs(session, claim, JobSpec.model_validate(spec))
    assert (held.stage, held.name, held.metadata["dropped"]) == ("bench", "bench-rows.parquet", [FIRST])
    split = await client.post("/v1/jobs", json={**spec, "questions": {"bench": bench, "split": "train"}})
    assert_problem(split, 422, pointers=["/questions/split"])
    for item in (SECOND, THIRD):
        await review(client, bench, item, "drop")
    assert_problem(await client.post("/v1/jobs", json=spec), 422, pointers=["/questions/bench"])


async def test_an_uploaded_bench_is_asked_and_is_not_called_simulated(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    file = await uploaded(client, [bench_line(), bench_line(system="At length.")])
    bench = (await client.post("/v1/benches", json={"file": file})).json()["id"]
    prompt = bench_line()["prompt"]
    answers = [{"prompt": prompt, "system": system, "output": "Rayleigh."} for system in ("At length.", "Short.")]
    spec = {
        "questions": {"bench": bench, "maximum_rows": 1},
        "answer": [{"name": "theirs", "candidate": {"file": await uploaded(client, answers, "answers.jsonl")}}],
    }
    answer = await client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    assert not answer.json()["teacher_is_simulator"]
    async with state.transaction() as session:
        (held,) = await question_inputs(session, claim_of(answer.json()["id"]), JobSpec.model_validate(spec))
    assert (held.stage, held.metadata) == ("upload", {"name": "mine.jsonl", "dropped": []})


async def test_a_bench_that_is_not_there_or_whose_bytes_are_gone_is_refused_with_a_pointer(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    spec: dict[str, Any] = {"questions": {"bench": "bench_none"}, "answer": [SIMULATED]}
    assert_problem(await client.post("/v1/jobs", json=spec), 422, pointers=["/questions/bench"])
    async with state.transaction() as session:
        with pytest.raises(InputRefused) as refused:
            await question_inputs(session, claim_of("job_1"), JobSpec.model_validate(spec))
    assert refused.value.pointer == "/questions/bench"
    bench = await bench_of_job(state, tmp_path, ROWS)
    spec["questions"]["bench"] = bench
    assert (await client.post("/v1/jobs/estimate", json=spec)).status_code == 200
    await lose_bytes(state, bench)
    assert_problem(await client.post("/v1/jobs", json=spec), 422, pointers=["/questions/bench"])
    async with state.transaction() as session:
        (await session.get_one(Bench, bench)).job_id = None
    assert_problem(await client.post("/v1/jobs", json=spec), 422, pointers=["/questions/bench"])


def claim_of(job_id: str) -> Claim:
    return Claim(
        attempt_id=1,
        step_id="step_1",
        shard=0,
        rows_expected=None,
        project_id="default",
        job_id=job_id,
        stage="select",
        kind="select",
        ordinal=0,
        needs=(),
        parameters={},
        budget_micro_usd=None,
    )
