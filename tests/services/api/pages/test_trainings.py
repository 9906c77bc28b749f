"""A job's page shows how far its trainings are, also after a reload and after steps that were done again."""

import re
from pathlib import Path

import httpx2

from services.api.pages.sparkline import sparkline
from services.api.state import ApiState
from tests.services.api.support import submit_directly
from tests.services.api.trainings import log_steps, trained_job, training_job


def _section(page: str, training: str) -> str:
    """The text and the curve of one training on a job's page."""
    section = page.split(f'<h3 id="training-{training}">')[1].split("</section>")[0]
    return " ".join(re.sub(r"<(?!path)[^>]*>", " ", section).split())


async def test_a_training_that_runs_shows_step_loss_speed_and_time_left(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    job = await training_job(state)
    await log_steps(state, job.id, range(1, 9))
    for address in (f"/jobs/{job.id}", f"/jobs/{job.id}/live"):
        text = _section((await client.get(address)).text, "sft")
        assert "step 8 of 20" in text
        assert "Loss 3.3912" in text
        assert "Tokens per second 2,600" in text
        assert "Remaining 18 s" in text
        assert "lowest 3.3912, highest 6.7362" in text
        assert "from tiny-mistral with random weights" in text


async def test_a_training_that_waits_shows_what_it_will_do_and_no_figures(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    job = await training_job(state)
    page = (await client.get(f"/jobs/{job.id}")).text
    assert "loaded and checked first" in _section(page, "sft")
    waiting = _section(page, "dpo")
    assert "from the model of training sft" in waiting
    assert "Loss" not in waiting
    assert "loaded" not in waiting


async def test_before_the_first_step_a_training_tells_what_it_does(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await training_job(state, work={"done": 0, "total": None, "note": "rows <read>: 200"})
    text = (await client.get(f"/jobs/{job.id}")).text.split('<h3 id="training-sft">')[1].split("</section>")[0]
    assert "rows &lt;read&gt;: 200" in text
    assert "loaded and checked" not in text


async def test_pairs_show_margin_and_accuracy_and_evaluation_has_a_curve_of_its_own(
    client: httpx2.AsyncClient, state: ApiState
) -> None:
    job = await training_job(state)
    await log_steps(state, job.id, range(1, 11), "dpo")
    text = _section((await client.get(f"/jobs/{job.id}")).text, "dpo")
    assert "Chosen rated higher 66.7%" in text
    assert "Reward margin 0.1000" in text
    assert "held-out rows" in text
    assert re.search(r'class="second" d="M[^"]+"', text)
    assert "step 10 of 20" in text


async def test_steps_done_again_take_back_what_stood_after_them(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await training_job(state)
    await log_steps(state, job.id, range(1, 16))
    await log_steps(state, job.id, range(3, 6))
    text = _section((await client.get(f"/jobs/{job.id}")).text, "sft")
    path = re.search(r'class="first" d="([^"]+)"', text)
    assert path is not None
    assert len(re.findall("[ML]", path[1])) == 5
    assert "step 5 of 20" in text


async def test_a_loss_that_is_no_number_is_a_gap_and_a_dash(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await training_job(state)
    await log_steps(state, job.id, range(0), rows=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}])
    text = _section((await client.get(f"/jobs/{job.id}")).text, "sft")
    assert "Loss –" in text
    assert "lowest 2.0000, highest 2.0000" in text


async def test_steps_do_not_push_other_events_off_the_list(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await training_job(state)
    for _ in range(4):
        await log_steps(state, job.id, range(1, 21))
    page = (await client.get(f"/jobs/{job.id}")).text
    events = page.split("<h2>Events</h2>")[1]
    assert "job.state" in events
    assert "train.metrics" not in events


async def test_a_job_without_trainings_shows_none(client: httpx2.AsyncClient, state: ApiState) -> None:
    job = await submit_directly(state)
    assert "Training" not in (await client.get(f"/jobs/{job.id}")).text


def test_a_curve_has_a_gap_where_a_value_is_missing_and_a_dot_where_it_stands_alone() -> None:
    curve = sparkline([[(1, 3.0), (2, 2.0), (3, None), (4, 1.0), (5, None)]], 10)
    assert curve is not None
    assert [part[0] for part in re.findall(r"[MLh][^MLh]*", curve["paths"][0])] == ["M", "L", "M", "h"]
    assert (curve["low"], curve["high"]) == (1.0, 3.0)
    assert sparkline([[(1, None)], []], 10) is None


async def test_the_files_of_a_model_are_left_to_its_page(
    client: httpx2.AsyncClient, state: ApiState, tmp_path: Path
) -> None:
    job, _ = await trained_job(state, tmp_path)
    files = (await client.get(f"/jobs/{job.id}")).text.split("<h2>Files</h2>")[1].split("</section>")[0]
    assert re.findall(r">((?:sft|dpo)/[^<]+)</a>", files) == [
        f"{stage}/{name}" for stage in ("dpo", "sft") for name in ("metrics.jsonl", "preview.html", "training.json")
    ]
    assert "and 6 parts, manifests, files of models" in files
