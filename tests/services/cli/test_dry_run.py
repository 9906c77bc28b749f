"""Previews from the terminal: of a job that ran, and of a spec, over an api that answers what a test says."""

from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import yaml
from rich.console import Console

from services.cli import dry_run
from services.cli.client import ApiClient
from services.cli.dry_run import as_dry_run, is_spec, show_previews, submit_dry_run
from shared.domain.errors import MultifacetError
from shared.domain.jobs import JobSpec
from tests.services.cli.test_preview import PREVIEW

CHAIN: dict[str, Any] = {
    "name": "chain",
    "train": [
        {"preset": "janus-sft", "name": "sft", "data": {"job": "job_0"}, "push_to_hub": "me/model"},
        {"preset": "janus-dpo", "name": "dpo", "base": {"stage": "sft"}, "data": {"job": "job_0"}},
        {"preset": "janus-dpo", "name": "again", "base": {"stage": "dpo"}, "data": {"job": "job_0"}},
    ],
}
FILES = {"preview.json": msgspec.json.encode(PREVIEW), "preview.html": b"<html>rows</html>", "preflight.json": b"{}"}


class _Client:
    """An api with one job, whose stages left the files that `left` names."""

    url = "http://api"

    def __init__(
        self, states: dict[str, str], left: set[str], job_state: str = "succeeded", error: dict[str, Any] | None = None
    ) -> None:
        self.left = left
        self.job = {
            "id": "job_1",
            "state": job_state,
            "error": error,
            "spec": {"train": [{"name": name} for name in states]},
            "stages": [
                {"name": name, "kind": "train", "state": state, "ledger": {}, "rows_expected": None}
                for name, state in states.items()
            ],
        }
        self.posted: list[tuple[str, Any]] = []
        self.estimate: dict[str, Any] = {"calls": 900, "cost_micro_usd": 2_500_000}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/jobs/job_1"
        return self.job

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        self.posted.append((path, body))
        return self.estimate if path.endswith("estimate") else self.job

    def pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        stage = query["stage"]
        names = FILES if stage in self.left else ()
        return [{"id": f"{stage}.{name}", "name": name, "sha256": sha256(FILES[name]).hexdigest()} for name in names]

    def download(self, path: str, target: Path, expected_sha256: str) -> None:
        content = FILES[target.name]
        assert sha256(content).hexdigest() == expected_sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def shown(client: _Client, folder: Path, stage: str | None = None, rows: int = 1) -> tuple[str, list[Path]]:
    output = StringIO()
    pages = show_previews(
        cast("ApiClient", client), "job_1", stage, folder, rows, Console(file=output, soft_wrap=True, width=100)
    )
    return output.getvalue(), pages


def submitted(client: _Client, spec: Path, *, confirmed: bool = False) -> tuple[str | None, str]:
    output = StringIO()
    console = Console(file=output, soft_wrap=True, width=200)
    return submit_dry_run(cast("ApiClient", client), spec, [], console, confirmed=confirmed), output.getvalue()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(CHAIN))
    return path


def test_a_dry_run_of_a_chain_is_a_job_that_the_api_takes_and_that_makes_no_model() -> None:
    job = JobSpec.model_validate(as_dry_run(CHAIN))
    assert [training.dry_run for training in job.train] == [True] * 3
    assert [training.base.hub for training in job.train] == ["mistral-community/Mistral-7B-v0.2"] * 3
    assert [training.method.value for training in job.train] == ["sft", "dpo", "dpo"]
    assert job.train[0].push_to_hub is None
    assert job.name == "dry run of chain"


def test_the_spec_itself_is_left_as_it_was_and_a_base_that_is_no_earlier_training_too() -> None:
    before = yaml.safe_dump(CHAIN)
    as_dry_run(CHAIN)
    assert yaml.safe_dump(CHAIN) == before
    later = {"train": [{"name": "dpo", "base": {"stage": "sft"}}, {"name": "sft", "base": {"random": "tiny-mistral"}}]}
    assert as_dry_run(later)["train"][0]["base"] == {"stage": "sft"}


def test_the_spec_is_judged_as_written_before_its_dry_run_is_submitted(spec: Path) -> None:
    client = _Client({"sft": "succeeded"}, {"sft"})
    job_id, said = submitted(client, spec)
    assert job_id == "job_1"
    assert "http://api/jobs/job_1" in said
    assert client.posted == [("/v1/jobs/estimate", CHAIN), ("/v1/jobs", as_dry_run(CHAIN))]


def test_a_refused_dry_run_is_told_with_its_training_and_its_place_in_the_spec(spec: Path) -> None:
    error = {"code": "input_refused", "message": "all 9 rows are too long", "stage": "dpo", "pointer": "/train/1"}
    client = _Client({"sft": "succeeded", "dpo": "failed"}, {"sft"}, "failed", error)
    with pytest.raises(
        MultifacetError, match=r"was refused: 'dpo' all 9 rows are too long \(at /train/1 of the spec\)"
    ):
        submitted(client, spec)


def test_a_spec_without_trainings_is_not_submitted(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("sources: [{bundled: demo}]")
    client = _Client({}, set())
    with pytest.raises(MultifacetError, match="no `train`"):
        submitted(client, path)
    assert client.posted == []


@pytest.mark.parametrize("agrees", [True, False])
def test_who_has_a_collection_made_for_it_is_asked_before_a_real_teacher_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def answer(estimate: dict[str, Any], *_: Any, **__: Any) -> bool:
        asked.append(estimate)
        return agrees

    monkeypatch.setattr(dry_run, "agreed", answer)
    path = tmp_path / "spec.yaml"
    for provider in ("openai", "simulator"):
        teacher = {"provider": provider, "model": "m"}
        path.write_text(yaml.safe_dump({"sources": [{"bundled": "demo"}], "teacher": teacher, **CHAIN}))
        client = _Client({"sft": "succeeded"}, {"sft"})
        job_id, said = submitted(client, path)
        assert "collection is made first" in said
        assert (job_id is not None) is (agrees or provider == "simulator")
        assert len(client.posted) == (1 if job_id is None else 2)
    assert asked == [{"calls": 900, "cost_micro_usd": 2_500_000}]


def test_every_training_is_printed_and_its_page_lies_where_pull_puts_it(tmp_path: Path) -> None:
    said, pages = shown(_Client({"sft": "succeeded", "dpo": "succeeded"}, {"sft", "dpo"}), tmp_path)
    assert pages == [tmp_path / "sft" / "preview.html", tmp_path / "dpo" / "preview.html"]
    assert [page.read_bytes() for page in pages] == [FILES["preview.html"]] * 2
    assert said.index("training sft") < said.index("training dpo")
    assert said.count("401 of 402 rows are trained on") == 2
    assert str(tmp_path / "dpo" / "preview.html") in said
    only, pages = shown(_Client({"sft": "succeeded", "dpo": "succeeded"}, {"sft", "dpo"}), tmp_path, "dpo")
    assert "training sft" not in only
    assert len(pages) == 1


def test_a_training_without_a_preview_is_named_beside_those_that_have_one(tmp_path: Path) -> None:
    said, pages = shown(_Client({"sft": "succeeded", "dpo": "cancelled"}, {"sft"}), tmp_path)
    assert len(pages) == 1
    assert "training 'dpo' is cancelled and has left no preview" in said


@pytest.mark.parametrize(("state", "advice"), [("running", "ask again"), ("failed", "multifacet watch")])
def test_a_job_without_any_preview_says_why_and_what_to_do(tmp_path: Path, state: str, advice: str) -> None:
    with pytest.raises(MultifacetError, match=rf"'sft' is {state} and has left no preview.*{advice}"):
        shown(_Client({"sft": state}, set()), tmp_path)


def test_an_unknown_training_and_a_job_without_any_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MultifacetError, match="no training 'ppo'; its trainings: sft, dpo"):
        shown(_Client({"sft": "succeeded", "dpo": "succeeded"}, set()), tmp_path, "ppo")
    with pytest.raises(MultifacetError, match="job_1 has no training"):
        shown(_Client({}, set()), tmp_path)


@pytest.mark.parametrize(
    ("target", "expected"), [("job_01m8", False), ("missing.yaml", True), ("SPEC.YML", True), ("spec.json", True)]
)
def test_a_spec_is_told_from_a_job_by_its_name(target: str, expected: bool) -> None:
    assert is_spec(target) is expected


def test_any_file_is_a_spec_however_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "job_1"
    path.write_text("train: []")
    assert is_spec(str(path))
