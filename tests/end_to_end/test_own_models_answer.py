"""One job from instructions to the ranked answers of the models that it trained, on model servers that it deployed itself."""

from pathlib import Path
from typing import Any

import pytest

from services.cli.pull import pull_job
from shared.artifacts.tables import iterate_rows
from tests.end_to_end.conftest import END_STATES, Driver

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SECONDS = 600
"""Two trainings and two model servers start by importing their libraries, which takes long on a busy machine."""
SHORT = {"max_tokens": 24}


def training(name: str, method: str) -> dict[str, Any]:
    tiny = {"maximum_steps": 2, "maximum_rows": 8, "warmup_steps": 0, "checkpoint_every_steps": None}
    return {"preset": "smoke-cpu", "name": name, "method": method, **tiny}


def test_a_trained_model_answers_and_a_trained_reward_model_ranks(driver: Driver, tmp_path: Path) -> None:
    best_of = {"candidate": {"stage": "sft"}, "samples": 4, "reward": {"stage": "rm"}, "decoding": SHORT}
    greedy = {"candidate": {"stage": "sft"}, "decoding": {**SHORT, "temperature": 0}}
    job_id = driver.submit(
        seed=71,
        sources=[{"bundled": "demo", "limit": 40}],
        train=[training("sft", "sft"), training("rm", "rm")],
        answer=[{"name": "best-of", **best_of}, {"name": "greedy", **greedy}],
    )
    job = driver.until(job_id, lambda job: job["state"] in END_STATES, SECONDS)
    assert job["state"] == "succeeded", job["error"]
    ledgers = {stage["name"]: stage["ledger"] for stage in job["stages"]}
    assert ledgers["select"]["facets_out"] > 0
    models = {model["stage"]: model["id"] for model in driver.client.get("/v1/registry/models", job=job_id)["items"]}
    written = pull_job(driver.client, job_id, tmp_path, everything=True)
    for name, samples in (("best-of", 4), ("greedy", 1)):
        ledger = ledgers[name]
        assert ledger["facets_in"] == ledgers["select"]["facets_out"]
        assert ledger["facets_in"] == ledger["facets_out"] + ledger["facets_rejected"]
        parts = [path for path in written if path.parent.name == name and path.name.startswith("part-")]
        facets = [facet for path in parts for row in iterate_rows(path) for facet in row.facets]
        for facet in facets:
            assert len(facet.answers) == samples
            made = {one.stage: one.model for one in facet.provenance}
            assert made[name] == models["sft"]
            assert made.get(f"{name}:reward") == (models["rm"] if samples > 1 else None)
            assert all((answer.reward is None) is (samples == 1 or answer.fault != "") for answer in facet.answers)
            assert sum(answer.best for answer in facet.answers) == (1 if facet.alive else 0)
    # Other tests have deployments of their own on this system.
    driver.until(job_id, lambda _: not any(name.startswith(job_id) for name in deployed(driver)), 60)


def deployed(driver: Driver) -> list[str]:
    return [deployment["name"] for deployment in driver.client.get("/v1/deployments")["items"]]
