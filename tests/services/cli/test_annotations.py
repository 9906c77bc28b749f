"""Annotation tasks in the terminal: made, listed, told and exported by commands alone."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from services.api.state import ApiState
from services.cli.main import app
from shared.settings import Settings
from tests.services.api.answered import answered_job
from tests.services.api.pages.browsing import on_a_thread
from tests.services.api.support import ADMIN_KEY, api_settings, running_server

pytestmark = pytest.mark.slow


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["annotations", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_task_is_made_told_and_exported(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Settings = api_settings(postgres_url, tmp_path)
    with running_server(settings) as url:
        monkeypatch.setenv("MULTIFACET_URL", url)
        monkeypatch.setenv("MULTIFACET_API_KEY", ADMIN_KEY)
        assert "there is no annotation task yet" in run()

        async def make(state: ApiState) -> str:
            return (await answered_job(state, tmp_path)).id

        job = str(on_a_thread(settings, make))
        made = run("create", job, "tuned", "base", "--name", "which [one]?", "--limit", "4")
        task = made.splitlines()[0]
        assert "4 pairs; no pair: no_answer: 1, not_drawn: 6, same_text: 1" in made
        assert "which [one]?" in run("list")
        body = {"annotator": "ada", "number": 0, "choice": "both_good"}
        from services.cli.client import ApiClient

        ApiClient().post(f"/v1/annotations/{task}/annotations", body)
        told = run("results", task)
        assert "first wins, ties half" in told
        assert "0.500" in told
        assert "judge: flip rate" in told
        run("export", task, "--out", str(tmp_path / "out.jsonl"))
        (line,) = (tmp_path / "out.jsonl").read_bytes().splitlines()
        assert orjson.loads(line)["outcome"] == "both_good"
        run("export", task, "--out", str(tmp_path / "out.csv"))
        assert "both_good" in (tmp_path / "out.csv").read_text()
