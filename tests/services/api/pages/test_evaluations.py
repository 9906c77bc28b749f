"""The pages of evaluations: figures with their intervals, what weakens them, and two beside each other."""

import re
from pathlib import Path

import httpx2
from fastapi import FastAPI

from services.api.app import create_key
from services.api.state import ApiState
from shared.domain.states import JobState
from shared.settings import Settings
from tests.services.api.evaluations import finished_evaluation, stored_evaluation
from tests.services.api.support import client_of, end_job, submit_directly


def _text(page: str) -> str:
    main = page.split("<main")[-1]
    return " ".join(re.sub(r"<[^>]*>", " ", main).split())


async def test_the_list_shows_first_figures_and_says_what_is_incomplete(
    app: FastAPI, client: httpx2.AsyncClient, state: ApiState, settings: Settings, tmp_path: Path
) -> None:
    key = await create_key(settings, "elsewhere", "test", ["read"])
    async with client_of(app, key) as stranger:
        empty = await stranger.get("/evaluations")
        assert "No evaluations yet" in empty.text
        job = await finished_evaluation(state, tmp_path, "<b>one</b>", lost=2)
        assert "one" not in _text((await stranger.get("/evaluations")).text)
        assert (await stranger.get(f"/evaluations/{job.id}")).status_code == 404
    other = await submit_directly(state)
    page = (await client.get("/evaluations")).text
    assert "<b>one" not in page
    assert "base score 3.00, checks 100%" in _text(page)
    assert "tuned score 4.00, wins 83%, checks 100%" in _text(page)
    assert "incomplete" in _text(page)
    assert f"/evaluations/{job.id}" in page
    assert other.id not in page


async def test_the_leaderboard_has_the_best_first_with_intervals_and_names_what_was_lost(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job = await finished_evaluation(state, tmp_path, lost=1)
    page = await client.get(f"/evaluations/{job.id}")
    assert page.status_code == 200
    text = _text(page.text)
    board = re.search(r"Candidate (.*) Below each figure", text)
    assert board is not None
    assert board[1].index("tuned") < board[1].index("base")
    assert re.search(r"tuned 4\.00 .* 83\.3% \d+\.\d% to \d+\.\d%", board[1])
    assert "win rates are against base" in text
    assert "base − tuned -1.00" in text
    assert "Incomplete: judge-tuned lost 54 of 324 verdicts (no_verdict: 54)." in text
    assert "data-figure=" in page.text
    assert "report.html" in text
    assert re.search(r'href="/v1/artifacts/[^"]*/content" target="_blank" rel="noopener">Report', page.text)
    live = await client.get(f"/evaluations/{job.id}/live")
    assert "Candidate" in _text(live.text)


async def test_before_there_are_figures_the_page_shows_how_far_the_stages_are(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    job = await stored_evaluation(state)
    text = _text((await client.get(f"/evaluations/{job.id}")).text)
    for words in ("judge-tuned pending", "The figures come when every verdict is in", "Cancel"):
        assert words in text
    await end_job(state, job.id, JobState.FAILED)
    text = _text((await client.get(f"/evaluations/{job.id}")).text)
    assert "teacher_failed" in text
    assert "It ended before its figures were worked out" in text


async def test_two_evaluations_stand_beside_each_other_and_what_differs_is_said(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    one = await finished_evaluation(state, tmp_path, "one")
    same = await finished_evaluation(state, tmp_path, "same")
    unlike = await finished_evaluation(state, tmp_path, "unlike", questions={"bench": "bench_2"})
    page = (await client.get(f"/evaluations/{one.id}", params={"beside": same.id})).text
    assert page.count('class="leaderboard"') == 2
    assert "The two are not alike" not in page
    assert f'data-part="/evaluations/{one.id}/live?beside={same.id}"' in page
    page = (await client.get(f"/evaluations/{one.id}", params={"beside": unlike.id})).text
    assert "The two are not alike in what was asked:" in _text(page)
    plain = (await client.get(f"/evaluations/{one.id}", params={"beside": ""})).text
    assert plain.count('class="leaderboard"') == 1
    assert (await client.get(f"/evaluations/{one.id}", params={"beside": "job_none"})).status_code == 404
