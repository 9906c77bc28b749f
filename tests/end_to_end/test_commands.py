"""The `multifacet` command as a person types it, against a running system."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shared.domain
from tests.end_to_end.conftest import Driver
from tests.support.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def multifacet(url: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=folder,
        env=os.environ
        | {"MULTIFACET_URL": url, "PYTHONPATH": str(root), "COLUMNS": "120", "NO_COLOR": "1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def write_job(folder: Path) -> None:
    lines = [
        {"question": f"How do I keep {thing} fresh for longer than a week?"} for thing in ("bread", "basil", "fish")
    ]
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "job.yaml").write_text(
        "name: typed [by] hand\n"
        "sources: [{file: 'upload:own.jsonl', mapping: {instruction: '{question}'}}]\n"
        "teacher: {provider: simulator, model: simulator-small}\n"
    )


def test_a_file_of_ones_own_goes_from_estimate_to_results_by_commands_alone(driver: Driver, tmp_path: Path) -> None:
    url = driver.system.api_url
    write_job(tmp_path)
    estimated = multifacet(url, tmp_path, "estimate", "job.yaml", "--upload", "own.jsonl")
    assert estimated.returncode == 0, estimated.stderr
    assert "respond" in estimated.stdout
    assert "in all $" in estimated.stdout
    submitted = multifacet(url, tmp_path, "submit", "job.yaml", "--upload", "own.jsonl", "--watch")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.splitlines()[0]
    assert f"job {job_id} succeeded" in submitted.stdout
    assert "nothing was paid" in submitted.stdout
    assert "typed [by] hand" in multifacet(url, tmp_path, "jobs").stdout
    pulled = multifacet(url, tmp_path, "pull", job_id)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "out" / job_id / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "absent.yaml"), "cannot be read"),
        (("submit", "list.yaml"), "a job spec is a mapping"),
        (("submit", "unknown.yaml"), "/colour"),
        (("submit", "job.yaml", "--upload", "absent.jsonl"), "there is no file absent.jsonl"),
        (("submit", "job.yaml"), "no --upload gave a file of that name"),
        (("submit", "job.yaml", "--upload", "own.jsonl", "--upload", "list.yaml"), "list.yaml is not used"),
        (("submit", "binary.yaml"), "cannot be read as YAML or JSON"),
        (("submit", "nan.yaml"), "/max_reject_rate"),
        (("submit", "half.yaml"), "/name"),
        (("submit", "five.yaml"), "/sources"),
        (("submit", "files.yaml"), "/sources/0/file"),
        (("retry", "job_absent", "--budget-usd", "nan"), "/budget_usd"),
        (("watch", "job_absent"), "404"),
        (("cancel", "job_absent"), "404"),
        (("pull", "job_absent"), "404"),
    ],
)
def test_a_mistake_is_told_in_words_and_ends_with_1(
    driver: Driver, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write_job(tmp_path)
    (tmp_path / "list.yaml").write_text("- 1\n")
    good = (tmp_path / "job.yaml").read_text().replace("file: 'upload:own.jsonl'", "bundled: demo")
    teacher = "teacher: {provider: simulator, model: simulator-small}\n"
    for name, text in {
        "unknown": good + "colour: red\n",
        "binary": good + "taxonomy: !!binary aGFsbG8=\n",
        "nan": good + "max_reject_rate: .nan\n",
        "half": good.replace("typed [by] hand", '"\\uD800"'),
        "five": "sources: 5\n" + teacher,
        "files": "sources: [{file: [a]}]\n" + teacher,
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    ended = multifacet(driver.system.api_url, tmp_path, *arguments)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_system_that_does_not_run_is_told_in_words(tmp_path: Path) -> None:
    ended = multifacet(f"http://127.0.0.1:{free_port()}", tmp_path, "jobs")
    assert ended.returncode == 1
    assert "MULTIFACET_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taxonomy_and_a_benchmark_of_ones_own_go_with_the_job(driver: Driver, tmp_path: Path) -> None:
    write_job(tmp_path)
    own = (Path(shared.domain.__path__[0]) / "taxonomies" / "multifacet.yaml").read_text()
    (tmp_path / "own.yaml").write_text(re.sub("(?m)^name: .*$", "name: of my own", own, count=1))
    (tmp_path / "bench.txt").write_text("How do I keep basil fresh for longer than a week?\n")
    with (tmp_path / "job.yaml").open("a") as job:
        job.write("name: 2024-01-01\ntaxonomy: upload:own.yaml\nstop_after: curate\n")
        job.write("curate: {decontaminate_against: ['upload:bench.txt']}\n")
    uploads = [text for name in ("own.jsonl", "own.yaml", "bench.txt") for text in ("--upload", name)]
    submitted = multifacet(driver.system.api_url, tmp_path, "submit", "job.yaml", *uploads, "--watch")
    assert submitted.returncode == 0, submitted.stderr
    job = driver.job(submitted.stdout.splitlines()[0])
    assert job["name"] == "2024-01-01"
    assert job["stages"][0]["ledger"]["reasons"] == {"contaminated": 1}
    assert driver.client.get(f"/v1/taxonomies/{job['spec']['taxonomy']}")["name"] == "of my own"


@pytest.mark.long
def test_a_job_that_reached_its_budget_ends_well_with_a_higher_one(driver: Driver, tmp_path: Path) -> None:
    url = driver.system.api_url
    # Dearer than estimated: refusals are paid for and asked again.
    driver.faults({"classes": {"respond": {"shares": {"refusal_field": 0.3}}}})
    # By a model that no other test asks: estimates learn from earlier jobs of the same model.
    changes = {"seed": 800, "teacher": {"provider": "simulator", "model": "simulator-large"}}
    estimate = driver.client.post("/v1/jobs/estimate", driver.spec(**changes))["cost_micro_usd"]
    job_id = driver.submit(**changes, budget_usd=estimate / 1e6 * 1.0001, respond={"quality_retries": 3})
    job = driver.finished(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "budget_exhausted"), job["error"]
    assert job["cost_micro_usd"] <= estimate * 1.05
    driver.faults({})
    retried = multifacet(url, tmp_path, "retry", job_id, "--budget-usd", str(estimate / 1e6 * 10))
    assert retried.returncode == 0, retried.stderr
    assert driver.finished(job_id)["state"] == "succeeded"


@pytest.mark.long
def test_stored_answers_are_removed_by_command_and_the_same_job_pays_again(driver: Driver, tmp_path: Path) -> None:
    write_job(tmp_path)
    arguments = ("submit", "job.yaml", "--upload", "own.jsonl", "--watch")
    assert multifacet(driver.system.api_url, tmp_path, *arguments).returncode == 0
    calls = driver.simulator_calls()
    assert multifacet(driver.system.api_url, tmp_path, *arguments).returncode == 0
    assert driver.simulator_calls() == calls
    purged = multifacet(driver.system.api_url, tmp_path, "purge-cache")
    assert purged.returncode == 0
    assert int(purged.stdout.split()[0].replace(",", "")) > 0
    assert multifacet(driver.system.api_url, tmp_path, *arguments).returncode == 0
    assert driver.simulator_calls() > calls


@pytest.mark.long
def test_acceptance_asks_a_real_provider_within_its_budget_and_audits_what_it_made(
    driver: Driver, tmp_path: Path
) -> None:
    state = {"MULTIFACET_STATE_FOLDER": str(driver.state_folder)}
    lines = [
        {"instruction": f"How do I keep {thing} fresh for a week?"} for thing in ("bread", "basil", "fish", "figs")
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = ("acceptance", "--teacher", "stand-in/simulator-large", "--instructions", "own.jsonl", "--out", "out")
    poor = multifacet("", tmp_path, *common, "--budget-usd", "0.01", "--yes", **state)
    assert poor.returncode == 1
    assert "above the budget of $0.01" in poor.stderr
    declined = multifacet("", tmp_path, *common, **state)
    assert declined.returncode == 1
    assert not (tmp_path / "out").exists()
    done = multifacet("", tmp_path, *common, "--yes", **state)
    assert "teacher and judge are one model" in done.stdout
    assert "collection: layout collection" in done.stdout, done.stderr
    # A handful of rows can look bad by chance; what is said at the end decides the exit code.
    assert done.returncode == (0 if "\n0 bad," in done.stdout else 1)
    assert (tmp_path / "out" / "audit.html").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
    job = next(item for item in driver.client.get("/v1/jobs", limit=5)["items"] if item["name"] == "acceptance own")
    assert job["budget_micro_usd"] == 5_000_000
    assert 0 < job["cost_micro_usd"] < 5_000_000
    assert not job["teacher_is_simulator"]
