"""Models in the terminal, over an api that answers what a test says."""

from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from services.cli import models
from services.cli.client import ApiClient
from services.cli.main import app
from services.cli.models import print_model, pull_model
from shared.domain.errors import MultifacetError
from shared.domain.training_presets import training_preset, training_preset_names

MODEL: dict[str, Any] = {
    "id": "model_1",
    "name": "my [bold] model",
    "job_id": "job_1",
    "stage": "sft",
    "method": "sft",
    "tuning": "lora",
    "base": {"source": "hub", "name": "mistralai/Mistral-7B-v0.2", "revision": None, "sha256": "b"},
    "parameter_count": 7_241_732_096,
    "dtype": "bfloat16",
    "adapter_only": False,
    "metrics": {"final": {"loss": 1.23456, "tokens": 90_000}, "evaluation": {"eval_loss": 2.34567}},
    "lineage": {"data": {"job_id": "job_0", "file_id": None, "simulator": False}, "random_weights": False},
    "created_at": "2026-01-01T12:34:56.789Z",
    "files": [
        {"id": "art_1", "name": "model/a/b.json", "kind": "model", "sha256": "x", "size": 12_345},
        {"id": "art_2", "name": "adapter/c.json", "kind": "adapter", "sha256": "y", "size": 1},
    ],
}


class _Client:
    def __init__(self, **changes: Any) -> None:
        self.model = MODEL | changes
        self.fetched: list[tuple[str, Path, str]] = []

    def get(self, path: str, **query: Any) -> Any:
        return {"items": [self.model]} if path == "/v1/registry/models" else self.model

    def download(self, path: str, target: Path, expected_sha256: str) -> None:
        self.fetched.append((path, target, expected_sha256))


def pulled(client: _Client, folder: Path) -> list[Path]:
    return pull_model(cast("ApiClient", client), "model_1", folder)


def test_the_files_of_a_whole_model_lie_in_the_folder_itself(tmp_path: Path) -> None:
    client = _Client()
    assert pulled(client, tmp_path) == [tmp_path / "a" / "b.json"]
    assert client.fetched == [("/v1/artifacts/art_1/content", tmp_path / "a" / "b.json", "x")]


def test_of_adapters_alone_the_adapters_are_pulled(tmp_path: Path) -> None:
    assert pulled(_Client(adapter_only=True), tmp_path) == [tmp_path / "c.json"]


@pytest.mark.parametrize("name", ["model/../../out", "/etc/out"])
def test_no_file_is_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    client = _Client(files=[MODEL["files"][0] | {"name": name}])
    with pytest.raises(MultifacetError, match="outside"):
        pulled(client, tmp_path)
    assert client.fetched == []


def test_a_model_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(MultifacetError, match="no files of kind model"):
        pulled(_Client(files=[]), tmp_path)


def test_a_model_is_shown_with_its_base_and_figures() -> None:
    output = StringIO()
    print_model(MODEL, Console(file=output, width=120))
    for said in (
        "my [bold] model",
        "mistralai/Mistral-7B-v0.2",
        "supervised fine-tuning (SFT) of LoRA adapters",
        "the collection of job_0",
        "7,241,732,096",
        "1.2346",
        "2.3457",
        "2026-01-01 12:34",
        "12,345",
        "model/a/b.json",
    ):
        assert said in output.getvalue()


@pytest.mark.parametrize("doubtful", [True, False])
def test_a_trial_and_a_model_of_simulated_texts_are_called_so(doubtful: bool) -> None:
    data = {"job_id": "job_1", "file_id": None, "simulator": doubtful}
    output = StringIO()
    print_model(MODEL | {"lineage": {"data": data, "random_weights": doubtful}}, Console(file=output, width=120))
    assert ("a trial" in output.getvalue()) is doubtful
    assert ("simulator" in output.getvalue()) is doubtful


def test_ids_are_whole_in_the_narrowest_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = "model_01m8hyrvj51cqbs2jexwp72bb8"
    monkeypatch.setattr(models, "ApiClient", lambda: _Client(id=identity))
    output = StringIO()
    monkeypatch.setattr(models, "_console", Console(file=output, width=80))
    assert CliRunner().invoke(app, ["models"]).exit_code == 0
    assert identity in output.getvalue()


def test_who_has_no_model_is_told_where_to_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Client, "get", lambda *_, **__: {"items": []})
    monkeypatch.setattr(models, "ApiClient", _Client)
    output = StringIO()
    monkeypatch.setattr(models, "_console", Console(file=output, width=80))
    assert CliRunner().invoke(app, ["models"]).exit_code == 0
    assert "docs/training.md" in output.getvalue()


def test_the_list_names_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ApiClient", _Client)
    output = StringIO()
    monkeypatch.setattr(models, "_console", Console(file=output, width=200))
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 0, done.output
    for said in ("model_1", "my [bold] model", "lora", "7.24 B", "2.3457", "2026-01-01 12:34"):
        assert said in output.getvalue()


def test_presets_are_listed_and_printed_as_yaml() -> None:
    listed = CliRunner().invoke(app, ["training-presets"])
    assert tuple(listed.output.split()) == training_preset_names()
    printed = CliRunner().invoke(app, ["training-presets", "janus-sft"])
    assert yaml.safe_load(printed.output) == training_preset("janus-sft")
    unknown = CliRunner().invoke(app, ["training-presets", "janus"])
    assert "there is no training preset 'janus'" in str(unknown.exception)
