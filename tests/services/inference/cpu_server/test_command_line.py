"""The command line: limits that fit the model, and options refused in words."""

import json
from pathlib import Path

import pytest

from services.inference.cpu_server.command_line import parse_arguments
from shared.domain.errors import InputRefused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"max_position_embeddings": 1000}))
    for name in ("model.safetensors", "tokenizer.json"):
        (model / name).touch()
    return model


def test_without_options_the_limits_are_the_models(folder: Path) -> None:
    arguments = parse_arguments(["--model-id", str(folder)])
    assert (arguments.limits.max_input_tokens, arguments.limits.max_total_tokens) == (999, 1000)
    assert (arguments.hostname, arguments.name) == ("127.0.0.1", str(folder))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 131072}))
    assert parse_arguments(["--model-id", str(folder)]).limits.max_total_tokens == 4096


def test_options_are_taken_as_they_are_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").touch()
    options = ["--max-input-tokens", "10", "--max-total-tokens", "20", "--max-best-of", "3", "--slots", "2"]
    options += ["--served-name", "sea", "--lora-adapters", f"a={tmp_path},b={tmp_path}"]
    arguments = parse_arguments(["--model-id", str(folder), *options])
    assert (arguments.limits.max_input_tokens, arguments.limits.max_total_tokens) == (10, 20)
    assert (arguments.limits.max_best_of, arguments.slots, arguments.name) == (3, 2, "sea")
    assert arguments.adapters == {"a": tmp_path, "b": tmp_path}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-total-tokens", "1001"], "set 1000 or less"),
        (["--max-total-tokens", "20", "--max-input-tokens", "20"], "set less"),
        (["--lora-adapters", "kind"], "NAME=FOLDER"),
        (["--lora-adapters", "kind=/nowhere"], "adapter_config.json"),
    ],
)
def test_options_that_cannot_be_kept_are_refused_with_what_to_set(folder: Path, options: list[str], said: str) -> None:
    with pytest.raises(InputRefused, match=said):
        parse_arguments(["--model-id", str(folder), *options])


@pytest.mark.parametrize(
    "options", [["--slots", "0"], ["--port", "x"], ["--graceful-termination-timeout", "-1"], ["--what"]]
)
def test_options_of_the_wrong_form_end_with_2(folder: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--model-id", str(folder), *options])
    assert ended.value.code == 2


def test_help_tells_of_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    told = capsys.readouterr().out
    flags = [
        "--model-id",
        "--hostname",
        "--port",
        "--max-input-tokens",
        "--max-total-tokens",
        "--max-concurrent-requests",
    ]
    flags += ["--max-best-of", "--max-stop-sequences", "--max-top-n-tokens", "--max-client-batch-size", "--dtype"]
    flags += ["--lora-adapters", "--slots", "--served-name", "--graceful-termination-timeout", "--payload-limit"]
    for flag in flags:
        assert flag in told
