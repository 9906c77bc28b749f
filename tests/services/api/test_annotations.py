"""Pairs that people compare: blind, shuffled, resumed; what came of it, and what is refused."""

import csv
import io
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from services.api import annotation_tasks
from services.api.annotation_pairs import order_for
from services.api.app import create_key
from services.api.state import ApiState
from shared.domain.annotations import Choice, Outcome, outcome_of
from shared.domain.states import JobState
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.statistics.pairwise import between, win_rate
from shared.verdict_files import agreement_report, read_verdicts
from tests.services.api.answered import answered_job
from tests.services.api.support import assert_problem, client_of, end_job, submit_directly


async def made(client: httpx2.AsyncClient, job: str, **more: Any) -> dict[str, Any]:
    body = {"name": "which?", "job": job, "first": "tuned", "second": "base", "seed": 3, **more}
    answer = await client.post("/v1/annotations", json=body)
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def judge_all(client: httpx2.AsyncClient, task: str, who: str, taste: str) -> list[int]:
    """Judge every pair: whoever's answer begins with `taste` is better. Returns the numbers in the order shown."""
    shown = []
    item = (await client.get(f"/v1/annotations/{task}/next", params={"annotator": who})).json()
    while item["number"] is not None:
        shown.append(item["number"])
        choice = "left" if item["left"].startswith(taste) else "right"
        body = {"annotator": who, "number": item["number"], "choice": choice, "seconds": 1.5}
        answer = await client.post(f"/v1/annotations/{task}/annotations", json=body)
        assert answer.status_code == 200, answer.text
        item = answer.json()
    assert (item["done"], item["total"]) == (len(shown), len(shown))
    return shown


async def test_pairs_are_made_of_both_candidates_answers_and_what_is_none_is_counted(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await answered_job(state, tmp_path)
    view = await made(client, job.id)
    assert (view["items"], view["left_out"]) == (10, {"no_answer": 1, "same_text": 1})
    limited = await made(client, job.id, limit=4)
    assert (limited["items"], limited["left_out"]["not_drawn"]) == (4, 6)
    listed = (await client.get("/v1/annotations")).json()["items"]
    assert [one["id"] for one in listed] == [limited["id"], view["id"]]


async def test_what_an_annotator_is_shown_tells_nothing_of_the_candidates(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = await made(client, (await answered_job(state, tmp_path)).id)
    answer = await client.get(f"/v1/annotations/{task['id']}/next", params={"annotator": "ada"})
    assert answer.json().keys() == {"done", "total", "number", "instruction", "preferences", "left", "right"}
    assert "tuned" not in answer.text
    assert "swapped" not in answer.text
    plain = await made(client, task["job_id"], shows_preferences=False)
    item = (await client.get(f"/v1/annotations/{plain['id']}/next", params={"annotator": "ada"})).json()
    assert item["preferences"] == []


async def test_annotators_see_all_pairs_each_in_their_own_order_with_sides_swapped_evenly(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    ada = await judge_all(client, task, "ada", "TUNED")
    bob = await judge_all(client, task, "bob", "TUNED")
    assert sorted(ada) == sorted(bob) == list(range(10))
    assert ada != bob
    exported = [orjson.loads(line) for line in (await client.get(f"/v1/annotations/{task}/export")).text.splitlines()]
    assert sum(one["swapped"] for one in exported) == len(exported) / 2
    assert {one["outcome"] for one in exported} == {"first"}


async def test_work_goes_on_where_it_was_left_and_the_last_verdict_can_be_taken_back(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    first = (await client.get(f"/v1/annotations/{task}/next", params={"annotator": "ada"})).json()
    body = {"annotator": " ada ", "number": first["number"], "choice": "both_good"}
    second = (await client.post(f"/v1/annotations/{task}/annotations", json=body)).json()
    again = (await client.get(f"/v1/annotations/{task}/next", params={"annotator": "ada"})).json()
    assert again == second != first
    undone = (await client.delete(f"/v1/annotations/{task}/annotations/last", params={"annotator": "ada"})).json()
    assert undone["number"] == first["number"]
    assert (await client.get(f"/v1/annotations/{task}/next", params={"annotator": "ada"})).json() == first
    nothing = await client.delete(f"/v1/annotations/{task}/annotations/last", params={"annotator": "ada"})
    assert nothing.json() == {"number": None}


async def test_results_tell_who_wins_how_far_people_agree_and_what_the_judge_says(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    await judge_all(client, task, "ada", "TUNED")
    await judge_all(client, task, "bob", "TUNED")
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert results["outcomes"] == {"first": 20, "both_good": 0, "both_bad": 0, "second": 0}
    assert results["majorities"]["first"] == 10
    assert results["win_rate"]["interval"]["estimate"] == 1.0
    assert [(one["name"], one["judged"], one["median_seconds"]) for one in results["annotators"]] == [
        ("ada", 10, 1.5),
        ("bob", 10, 1.5),
    ]
    # The judge said `win` of the candidate in both orders, as people do.
    assert results["calibration"]["accuracy"]["estimate"] == 1.0
    assert results["calibration"]["flip_rate"]["estimate"] == 0.0
    await judge_all(client, task, "eve", "BASE")
    disputed = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert disputed["krippendorff"]["estimate"] < 0.1
    assert len(disputed["kappas"]) == 3


async def test_who_always_takes_the_same_side_shows(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    await judge_all(client, task, "ada", "")  # every text begins with nothing: always left
    await judge_all(client, task, "bob", "TUNED")
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert [one["left"]["estimate"] for one in results["annotators"]] == [1.0, 0.5]
    assert results["outcomes"] == {"first": 15, "both_good": 0, "both_bad": 0, "second": 5}


async def test_a_key_that_only_reads_judges_nothing_and_other_projects_see_nothing(
    app: FastAPI, client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    key = (await client.post("/v1/keys", json={"name": "reader", "scopes": ["read"]})).json()["key"]
    body = {"annotator": "ada", "number": 0, "choice": "left"}
    async with client_of(app, key) as reading:
        assert (await reading.get(f"/v1/annotations/{task}/results")).status_code == 200
        for answer in (
            await reading.post(f"/v1/annotations/{task}/annotations", json=body),
            await reading.get(f"/v1/annotations/{task}/next", params={"annotator": "ada"}),
            await reading.delete(f"/v1/annotations/{task}/annotations/last", params={"annotator": "ada"}),
        ):
            assert_problem(answer, 403, "forbidden")
    other = await create_key(state.settings, "others", "k", ["read", "write"])
    async with client_of(app, other) as stranger:
        assert (await stranger.get("/v1/annotations")).json()["items"] == []
        assert_problem(await stranger.post(f"/v1/annotations/{task}/annotations", json=body), 404)


async def test_the_baselines_side_is_turned_round_for_the_judge(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id, first="base", second="tuned"))["id"]
    await judge_all(client, task, "ada", "TUNED")
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert results["outcomes"]["second"] == 10
    assert results["calibration"]["accuracy"]["estimate"] == 1.0


async def test_without_a_comparison_the_results_say_why_the_judge_is_not_known(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path, compared=False)).id))["id"]
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert results["calibration"] is None
    assert "compared no answers" in results["calibration_note"]
    assert results["win_rate"] is None


async def test_without_the_judges_words_in_the_store_the_rest_is_told(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await answered_job(state, tmp_path)
    task = (await made(client, job.id))["id"]
    await judge_all(client, task, "ada", "TUNED")
    async with state.transaction() as session:
        (part,) = await ArtifactRepository(session).of_stages(job.id, ["compare-tuned"])
    await state.store.delete(part.key)
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert results["win_rate"]["interval"]["estimate"] == 1.0
    assert results["calibration"] is None
    assert "compare-tuned" in results["calibration_note"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
async def test_the_export_is_read_as_a_file_of_verdicts_with_the_same_win_rate(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, kind: str
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    await judge_all(client, task, "ada", "TUNED")
    await judge_all(client, task, "bob", "")
    exported = tmp_path / f"out.{kind}"
    exported.write_bytes((await client.get(f"/v1/annotations/{task}/export", params={"format": kind})).content)
    file = read_verdicts(exported, texts="lengths")
    assert (file.layout, file.lines, file.used, file.left_out) == ("battles", 20, 20, {})
    assert {battle.instruction for battle in file.battles} == {f"{number:016x}" for number in range(10)}
    agreement = agreement_report(file)
    results = (await client.get(f"/v1/annotations/{task}/results")).json()["results"]
    assert agreement.krippendorff["nominal"].estimate == results["krippendorff"]["estimate"]
    assert win_rate(between(file.battles, "tuned", "base")).interval.estimate == pytest.approx(0.75)
    assert results["win_rate"]["interval"]["estimate"] == 0.75
    # "TUNED says 1 and more" and "BASE says 1 and more", of the facets' own words.
    assert {(one.first_words, one.second_words) for one in file.battles} == {(3, 3), (5, 5), (7, 7)}


async def test_the_csv_holds_what_the_json_lines_hold(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    await judge_all(client, task, "ada", "BASE")
    lines = [orjson.loads(line) for line in (await client.get(f"/v1/annotations/{task}/export")).text.splitlines()]
    table = (await client.get(f"/v1/annotations/{task}/export", params={"format": "csv"})).text
    assert [row["outcome"] for row in csv.DictReader(io.StringIO(table))] == [line["outcome"] for line in lines]
    assert {line["outcome"] for line in lines} == {"second"}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"job": "job_absent"}, "/job"),
        ({"first": "judge"}, "/first"),
        ({"second": "tuned"}, "/second"),
        ({"name": "a\0b"}, "/name"),
        ({"name": "Is Tuned better?"}, "/name"),
        ({"limit": 0}, "/limit"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_a_task_that_cannot_be_is_refused_at_the_option_in_fault(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    job = await answered_job(state, tmp_path)
    body = {"name": "which?", "job": job.id, "first": "tuned", "second": "base", **change}
    assert_problem(await client.post("/v1/annotations", json=body), 422, pointers=[pointer])


async def test_a_job_that_has_not_succeeded_or_left_no_pair_is_refused(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    running = await submit_directly(state)
    body = {"name": "which?", "job": running.id, "first": "tuned", "second": "base"}
    assert_problem(await client.post("/v1/annotations", json=body), 422, pointers=["/job"])
    failed = await submit_directly(state)
    await end_job(state, failed.id, JobState.FAILED)
    assert_problem(await client.post("/v1/annotations", json={**body, "job": failed.id}), 422, pointers=["/job"])
    alike = await answered_job(state, tmp_path, count=1)
    problem = assert_problem(
        await client.post("/v1/annotations", json={**body, "job": alike.id}), 422, pointers=["/second"]
    )
    assert "same_text: 1" in problem["detail"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"number": 99}, "/number"),
        ({"choice": "neither"}, "/choice"),
        ({"annotator": "  "}, "/annotator"),
        ({"annotator": "a" * 81}, "/annotator"),
        ({"annotator": "a\0"}, "/annotator"),
        ({"seconds": -1}, "/seconds"),
    ],
)
async def test_a_verdict_that_cannot_be_is_refused(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    body = {"annotator": "ada", "number": 0, "choice": "left", **change}
    assert_problem(await client.post(f"/v1/annotations/{task}/annotations", json=body), 422, pointers=[pointer])


async def test_more_pairs_than_a_task_holds_need_a_limit(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_tasks, "MAXIMUM_ITEMS", 9)
    job = await answered_job(state, tmp_path)
    body = {"name": "which?", "job": job.id, "first": "tuned", "second": "base"}
    problem = assert_problem(await client.post("/v1/annotations", json=body), 422, pointers=["/limit"])
    assert "10 pairs are more than the 9" in problem["detail"]
    assert (await made(client, job.id, limit=9))["items"] == 9


async def test_a_pair_that_is_not_there_is_not_found(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    task = (await made(client, (await answered_job(state, tmp_path)).id))["id"]
    shown = await client.get(f"/v1/annotations/{task}/items/9", params={"annotator": "ada"})
    assert shown.json()["number"] == 9
    assert_problem(await client.get(f"/v1/annotations/{task}/items/10", params={"annotator": "ada"}), 404)


@pytest.mark.parametrize("place", ["", "/next?annotator=a", "/results", "/export", "/items/0?annotator=a"])
async def test_an_unknown_task_is_not_found(client: httpx2.AsyncClient, place: str) -> None:
    assert_problem(await client.get(f"/v1/annotations/annotation_absent{place}"), 404)


@given(st.integers(0, 200), st.integers(0, 2**31 - 1), st.text(max_size=20))
def test_every_order_holds_every_pair_once_and_is_the_same_again(items: int, seed: int, annotator: str) -> None:
    order = order_for(annotator, items, seed)
    assert sorted(order) == list(range(items))
    assert order == order_for(annotator, items, seed)


def test_a_choice_is_told_by_whose_answer_it_is() -> None:
    assert outcome_of(Choice.LEFT, swapped=False) is outcome_of(Choice.RIGHT, swapped=True) is Outcome.FIRST
    assert outcome_of(Choice.LEFT, swapped=True) is outcome_of(Choice.RIGHT, swapped=False) is Outcome.SECOND
    assert outcome_of(Choice.BOTH_BAD, swapped=True) is Outcome.BOTH_BAD
