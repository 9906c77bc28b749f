"""What an operator sees of a whole job, and what nobody may see: at DEBUG, with traces, through every process of the product."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.cli.client import ApiClient
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import running_system
from services.cli.pull import pull_job
from shared.artifacts.tables import iterate_rows
from tests.end_to_end.conftest import END_STATES, Driver
from tests.support.collector import CollectedSpan, Collector, running_collector

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

SECONDS = 900
"""A training and a model server start by importing their libraries, which takes long on a busy machine."""
MARK = "quokkamarmalade"
"""In every instruction and question: a word that no program says by itself."""
SECRET = "sk-planted-key-of-a-provider-0123456789"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TOPICS = ("lighthouses", "bread", "chess", "tides", "glaciers", "violins", "bridges", "honey")
QUESTIONS = ("How do I explain {} to a child?", "Write a short story about {}.", "What should everybody know of {}?",
             "Compare old and new {} in a few sentences.", "Why do people care about {}?")  # fmt: skip


class Observed(msgspec.Struct, frozen=True):
    """A job that ran, everything that was logged and traced meanwhile, and the texts that stand in neither."""

    job: dict[str, Any]
    logs: dict[str, str]
    collector: Collector
    texts: set[str]
    scrape: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for text in self.logs.values() for line in text.splitlines() if line.startswith("{")]

    @property
    def trace(self) -> list[CollectedSpan]:
        return [span for span in self.collector.spans if span.trace_id == TRACE_ID]


@contextmanager
def observing(written: Path, **changes: Any) -> Iterator[Observed]:
    """A system of its own at DEBUG with traces, and one job on it that has ended."""
    folder = Path(tempfile.mkdtemp(prefix="mf-e2e-"))
    folder.chmod(0o755)
    try:
        with running_collector() as collector, pytest.MonkeyPatch.context() as environment:
            environment.setenv("MULTIFACET_LOG_LEVEL", "DEBUG")
            environment.setenv("MULTIFACET_LOG_FORMAT", "json")
            environment.setenv("MULTIFACET_OTLP_ENDPOINT", collector.address)
            environment.setenv("OPENAI_API_KEY", SECRET)
            with running_system(StateFolder(folder), tell=lambda _: None) as system:
                driver = Driver(system, folder)
                job_id = submit(system.api_url, driver.client, written, changes)
                job = driver.until(job_id, lambda job: job["state"] in END_STATES, SECONDS)
                ask_by_hand(system.api_url)
                scrape = httpx2.get(f"{system.api_url}/metrics", timeout=60).text
                pull_job(driver.client, job_id, written / "pulled", everything=True)
            logs = {path.name: path.read_text(errors="replace") for path in (folder / "logs").glob("*.log")}
        yield Observed(job, logs, collector, texts_of(written / "pulled"), scrape)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with observing(tmp_path_factory.mktemp("observed")) as found:
        yield found


def submit(url: str, client: ApiClient, folder: Path, changes: dict[str, Any]) -> str:
    """A job over marked instructions."""
    instructions = folder / "marked.jsonl"
    asked = [f"{question.format(topic)} Think of {MARK}." for topic in TOPICS for question in QUESTIONS]
    instructions.write_text("".join(json.dumps({"instruction": text}) + "\n" for text in asked))
    spec = {
        "name": "observed",
        "seed": 71,
        "sources": [{"file": client.upload(instructions)["id"]}],
        "teacher": {"provider": "simulator", "model": "simulator-small"},
        **changes,
    }
    headers = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
    answer = httpx2.post(f"{url}/v1/jobs", json=spec, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ask_by_hand(url: str) -> None:
    """Marked questions to the live routes: one that a model answers, and those that are refused."""
    target = {"provider": "simulator", "model": "simulator-small"}
    httpx2.post(f"{url}/v1/deployments", json={"name": "live", "target": target}, timeout=60).raise_for_status()
    messages = [{"role": "user", "content": f"Tell me about {MARK}."}]
    answered = httpx2.post(f"{url}/v1/chat/completions", json={"model": "live", "messages": messages}, timeout=60)
    assert answered.status_code == 200, answered.text
    for body in (
        {"model": "nobody", "messages": messages},
        {"model": "live", "messages": messages, "temperature": MARK},
        {"model": "live", "messages": MARK},
    ):
        assert httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code >= 400
    assert httpx2.post(f"{url}/v1/jobs", json={"name": "odd", MARK: [MARK]}, timeout=60).status_code == 422
    assert httpx2.post(f"{url}/v1/jobs", content=f'{{"{MARK}', timeout=60).status_code >= 400


def texts_of(folder: Path) -> set[str]:
    """The beginning of every text that the teacher or the trained model wrote."""
    found: set[str] = set()
    for path in folder.rglob("part-*.parquet"):
        for row in iterate_rows(path):
            for facet in row.facets:
                written = [facet.system, facet.response, *(answer.text for answer in facet.answers)]
                written += [preference.description for preference in facet.preferences]
                found.update(text[:40] for text in written if text and len(text) >= 12)
    return found


def test_the_job_came_to_its_end_through_every_kind_of_process(observed: Observed) -> None:
    assert observed.job["state"] == "succeeded", observed.job["error"]
    assert set(observed.logs) >= {"api.log", "controller.log", "worker.log", "simulator.log", "inference.log"}
    services = {line.get("service") for line in observed.lines}
    assert services >= {"api", "controller", "worker"}
    assert len(observed.texts) > 100


def test_no_prompt_no_answer_and_no_secret_is_logged_at_debug_or_traced(observed: Observed) -> None:
    nothing_shows(observed)


def nothing_shows(observed: Observed) -> None:
    for name, log in observed.logs.items():
        assert MARK not in log, name
        assert SECRET not in log, name
        assert [text for text in observed.texts if text in log] == [], name
    traced = observed.collector.bytes.decode("utf-8", "replace")
    assert MARK not in traced
    assert SECRET not in traced
    assert [text for text in observed.texts if text in traced] == []


def test_every_line_of_a_step_carries_its_ids(observed: Observed) -> None:
    steps_carry_their_ids(observed)


def steps_carry_their_ids(observed: Observed) -> None:
    ids = {"job_id", "stage", "step_id", "attempt_id", "trace_id"}
    done = [line for line in observed.lines if line["event"] == "step_done"]
    assert {line["stage"] for line in done} >= {stage["name"] for stage in observed.job["stages"]}
    of_steps = [line for line in observed.lines if line.get("service") == "step" or "attempt_id" in line]
    assert [line for line in of_steps if not ids <= set(line)] == []
    assert {line["trace_id"] for line in of_steps} == {TRACE_ID}


def test_one_trace_leads_from_the_request_to_each_call_of_a_model(observed: Observed) -> None:
    trace = observed.trace
    by_id = {span.span_id: span for span in trace}
    (request,) = [span for span in trace if span.parent_id == CALLER]
    assert (request.name, request.service) == ("POST /v1/jobs", "multifacet-api")
    assert request.attributes["http.response.status_code"] == 202
    rings = [span for span in trace if span.name.startswith("ring ")]
    assert {by_id[span.parent_id].name for span in rings} == {request.name}
    assert {span.service for span in rings} == {"multifacet-controller"}
    steps = [span for span in trace if span.name.startswith("step ")]
    assert {by_id[span.parent_id].name.split()[0] for span in steps} == {"ring"}
    assert {span.service for span in steps} == {"multifacet-worker"}
    assert {span.attributes["multifacet.job_id"] for span in steps} == {observed.job["id"]}
    assert {span.attributes["multifacet.stage"] for span in steps} == {
        stage["name"] for stage in observed.job["stages"]
    }
    calls = [span for span in trace if span.name == "chat simulator-small"]
    assert {by_id[span.parent_id].name for span in calls} >= {"step augment", "step compose", "step respond"}
    paid = [span for span in calls if not span.attributes["multifacet.cached"]]
    assert all(span.attributes["gen_ai.usage.output_tokens"] > 0 for span in paid if not span.failed)
    assert {by_id[span.parent_id].name for span in trace if span.name == "child"} >= {"step curate", "step assemble"}
    for span in trace:
        assert span.started_at <= span.ended_at
        assert (span.status_text, span.events) == ("", 0)


def test_a_scrape_tells_what_the_job_did(observed: Observed) -> None:
    told = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(observed.scrape)
        for sample in family.samples
    }
    assert told["multifacet_jobs", "succeeded"] == 1
    assert told["multifacet_steps", "curation", "succeeded"] >= 2
    assert told["multifacet_attempts_ended_total", "generation", "succeeded"] >= 1
    assert told["multifacet_llm_answers_total", "provider", "simulator", "simulator-small"] > 100
    assert told["multifacet_workers", "live", "training"] == 1
    assert told["multifacet_controller_leads",] == 1
    assert told["multifacet_deployments", "ready"] >= 1
    assert os.environ.get("OPENAI_API_KEY") is None


def test_a_training_and_the_server_of_its_model_show_no_text_either(tmp_path: Path) -> None:
    tiny = {"maximum_steps": 2, "maximum_rows": 8, "warmup_steps": 0, "checkpoint_every_steps": None}
    train = [{"preset": "smoke-cpu", "name": "sft", "method": "sft", **tiny}]
    answer = [{"name": "greedy", "candidate": {"stage": "sft"}, "decoding": {"max_tokens": 16, "temperature": 0}}]
    with observing(tmp_path, train=train, answer=answer) as observed:
        assert observed.job["state"] == "succeeded", observed.job["error"]
        nothing_shows(observed)
        steps_carry_their_ids(observed)
        served = [line for line in observed.lines if line.get("service") == "cpu_server"]
        assert served
        assert all(line["serving"] for line in served)
