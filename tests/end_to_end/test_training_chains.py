"""Trainings that build on each other and on what jobs and people left, through every process of the product."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from services.cli.pull import pull_job
from tests.end_to_end.conftest import Driver

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SECONDS = 300
"""A training starts by importing its libraries, which takes long on a busy machine."""


def training(name: str, method: str, **values: Any) -> dict[str, Any]:
    tiny = {"maximum_steps": 2, "maximum_rows": 8, "warmup_steps": 0, "checkpoint_every_steps": None}
    return {"preset": "smoke-cpu", "name": name, "method": method, **tiny, **values}


def trained(driver: Driver, job_id: str) -> dict[str, dict[str, Any]]:
    """The models of a finished job, by stage."""
    job = driver.until(job_id, lambda job: job["state"] in {"succeeded", "failed", "cancelled"}, SECONDS)
    assert job["state"] == "succeeded", job["error"]
    models = driver.client.get("/v1/registry/models", job=job_id)["items"]
    return {model["stage"]: model for model in models}


def report(folder: Path) -> str:
    (path,) = folder.rglob("report*.html")
    return path.read_text()


def test_trainings_build_on_each_other_on_an_earlier_jobs_data_and_on_an_upload(driver: Driver, tmp_path: Path) -> None:
    first = driver.submit(seed=71, train=[training("orpo", "orpo")])
    assert list(trained(driver, first)) == ["orpo"]
    pull_job(driver.client, first, tmp_path / "first", everything=True)
    assert AutoConfig.from_pretrained(tmp_path / "first" / "orpo" / "model").architectures == ["MistralForCausalLM"]
    assert "orpo" in report(tmp_path / "first")

    pairs = tmp_path / "general.jsonl"
    rows = [
        {"prompt": f"What is {number} and {number}?", "chosen": f"It is {2 * number}.", "rejected": "Who knows?"}
        for number in range(12)
    ]
    pairs.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    file_id = driver.client.upload(pairs)["id"]
    chain = [
        training("sft", "sft", data={"job": first}, maximum_steps=None, epochs=1),
        training("rm-one", "rm", data={"job": first}, base={"stage": "sft"}),
        training("rm-two", "rm", data={"file": file_id}, base={"stage": "rm-one"}),
    ]
    second = driver.client.post("/v1/jobs", {"name": "chain", "train": chain})["id"]
    models = trained(driver, second)
    assert set(models) == {"sft", "rm-one", "rm-two"}
    assert models["rm-two"]["lineage"]["chain"] == ["sft of chain/sft", "rm of chain/rm-one"]
    assert models["rm-two"]["lineage"]["random_weights"]
    assert models["sft"]["lineage"]["data"]["job_id"] == first
    assert models["sft"]["lineage"]["data"]["simulator"]
    assert models["rm-two"]["lineage"]["data"]["file_id"] == file_id

    pull_job(driver.client, second, tmp_path / "second", everything=True)
    folder = tmp_path / "second"
    scores = AutoModelForSequenceClassification.from_pretrained(folder / "rm-two" / "model")
    assert scores.config.num_labels == 1
    told = json.loads((folder / "rm-one" / "training.json").read_text())
    assert told["evaluation"]["rewards/accuracies"] is not None
    page = report(folder)
    assert all(name in page for name in ("sft", "rm-one", "rm-two"))
    assert "random weights" in page.lower()
