"""Profiles in the terminal: read from files, shown as they are stored, and inferred from choices."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import profiles
from services.cli.main import app
from services.cli.profiles import print_report, read_choices
from shared.domain.errors import MultifacetError

VERSION: dict[str, Any] = {
    "version": 2,
    "preferences": [
        {"seed": "numbered [bold] points"},
        {"subdimension": "tone", "pole": "formal"},
        {"description": "no fuss"},
    ],
    "system": "You are [red] somebody.",
    "note": "met in May",
    "created_at": "2026-01-01T12:34:56Z",
}
PROFILE = {
    "id": "profile_1",
    "name": "ada",
    "version": 2,
    "created_at": "2026-01-01T12:34",
    "changed_at": "2026-02-01T12:34",
}
REPORT: dict[str, Any] = {
    "choices": 40,
    "prompts": 39,
    "looked_at": 64,
    "verdict": {"outcome": "supported", "words": "80% [of] them"},
    "proposed": [
        {
            "preference": {"seed": "numbered points"},
            "evidence": {
                "source": "program",
                "chosen_follows": 21,
                "rejected_follows": 3,
                "silent": 16,
                "weight": 1.5,
                "examples_for": [7, 9],
            },
        }
    ],
}


class _Client:
    sent: tuple[str, str, Any] = ("", "", None)

    def get(self, path: str, **_: Any) -> Any:
        if path == "/v1/profiles":
            return {"items": [PROFILE]}
        return VERSION | {"version": 1} if path.endswith("/versions/1") else PROFILE | {"current": VERSION}

    def post(self, path: str, body: Any, **_: Any) -> Any:
        type(self).sent = ("POST", path, body)
        return REPORT if path.endswith("infer") else PROFILE | {"current": VERSION}

    def put(self, path: str, body: Any, **_: Any) -> Any:
        type(self).sent = ("PUT", path, body)
        return PROFILE | {"current": VERSION}


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    output = StringIO()
    monkeypatch.setattr(profiles, "ApiClient", _Client)
    monkeypatch.setattr(profiles, "_console", Console(file=output, width=160))
    return output


def run(*arguments: str) -> None:
    done = CliRunner().invoke(app, ["profiles", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


def test_profiles_are_listed_and_shown_with_their_message(output: StringIO) -> None:
    run()
    run("list")
    assert output.getvalue().count("ada") == 2
    run("show", "ada")
    for said in (
        "version 2",
        "numbered [bold] points",
        "tone: formal",
        "“no fuss”",
        "You are [red] somebody.",
        "met in May",
    ):
        assert said in output.getvalue()
    run("show", "ada", "--version", "1")
    assert "version 1 of" in output.getvalue()


def test_a_profile_is_made_and_changed_from_a_file(output: StringIO, tmp_path: Path) -> None:
    file = tmp_path / "ada.yaml"
    file.write_text("name: ada\npreferences:\n- seed: numbered points\n", encoding="utf-8")
    body = {"name": "ada", "preferences": [{"seed": "numbered points"}]}
    run("create", str(file))
    assert _Client.sent == ("POST", "/v1/profiles", body)
    run("change", "ada", str(file))
    assert _Client.sent == ("PUT", "/v1/profiles/ada", {"preferences": body["preferences"]})
    with pytest.raises(MultifacetError, match="names the profile 'ada', and 'bo'"):
        run("change", "bo", str(file))


def test_choices_are_read_from_json_lines_and_the_report_is_shown_and_kept(output: StringIO, tmp_path: Path) -> None:
    file, kept = tmp_path / "choices.jsonl", tmp_path / "report.json"
    choice = {"prompt": "p", "chosen": "a", "rejected": "b"}
    file.write_text(f"{json.dumps(choice)}\n\n{json.dumps(choice)}\n", encoding="utf-8")
    run("infer", str(file), "--judge", "simulator/simulator-large", "--out", str(kept))
    assert _Client.sent[2] == {
        "choices": [choice, choice],
        "judge": {"provider": "simulator", "model": "simulator-large"},
    }
    assert json.loads(kept.read_text(encoding="utf-8")) == REPORT
    assert "numbered points" in output.getvalue()
    with pytest.raises(MultifacetError, match="give provider/model"):
        run("infer", str(file), "--judge", "simulator")


def test_a_file_of_choices_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "choices.jsonl"
    broken.write_text('{"prompt": "p"}\n{"prompt"\n', encoding="utf-8")
    with pytest.raises(MultifacetError, match="line 2 of"):
        read_choices(broken)
    with pytest.raises(MultifacetError, match="give a UTF-8 file"):
        read_choices(tmp_path / "none.jsonl")
    listed = tmp_path / "choices.json"
    listed.write_text("[]", encoding="utf-8")
    with pytest.raises(MultifacetError, match="a file of choices is a mapping"):
        read_choices(listed)


def test_a_report_without_a_proposal_shows_its_verdict_alone() -> None:
    output = StringIO()
    print_report(REPORT | {"proposed": []}, Console(file=output, width=120))
    assert "80% [of] them" in output.getvalue()
    assert "weight" not in output.getvalue()
