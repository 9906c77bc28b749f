"""Deployments in the terminal, over an api that answers what a test says."""

from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import deployments
from services.cli.client import ApiClient
from services.cli.deployments import print_deployment, target_of, wait_until_settled
from services.cli.main import app
from shared.domain.errors import MultifacetError

ROW: dict[str, Any] = {
    "id": "dep_1",
    "name": "my-model",
    "state": "starting",
    "detail": "its server starts",
    "wanted_revision": 2,
    "serving_revision": 1,
    "target": {"registry": "model_1", "provider": None, "model": None},
    "options": {"server": "tgi"},
    "job_id": None,
    "created_at": "2026-01-01T12:34:56Z",
    "changed_at": "2026-01-01T12:34:56Z",
    "stopped_at": None,
}
PROVIDER = {"registry": None, "provider": "openai", "model": "gpt"}


class _Client:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.sent: list[tuple[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        if path == "/v1/deployments":
            return {"items": self.rows}
        return self.rows.pop(0)

    def post(self, path: str, body: Any = None) -> Any:
        self.sent.append((path, body))
        return self.rows.pop(0)

    def delete(self, path: str) -> Any:
        self.sent.append((path, None))
        return self.rows.pop(0)


def run(monkeypatch: pytest.MonkeyPatch, client: _Client, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(deployments, "ApiClient", lambda: client)
    monkeypatch.setattr(deployments.time, "sleep", lambda _: None)
    result = CliRunner().invoke(app, ["deployments", *arguments])
    return result.exit_code, result.output


def test_waiting_tells_each_change_once_and_ends_with_the_wanted_revision() -> None:
    rows = [ROW, ROW, ROW | {"state": "ready", "detail": "", "serving_revision": 2}]
    told: list[str] = []
    end = wait_until_settled(cast("ApiClient", _Client(*rows)), ROW, told.append, lambda _: None)
    assert end["state"] == "ready"
    assert told == ["my-model starting: its server starts", "my-model ready"]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ({"state": "ready", "serving_revision": 2}, 0),
        (
            {"state": "ready", "serving_revision": 1, "wanted_revision": 1, "detail": "revision 2 could not be served"},
            1,
        ),
        ({"state": "failed", "serving_revision": None}, 1),
    ],
)
def test_a_revision_that_could_not_be_served_ends_the_wait_with_1(
    monkeypatch: pytest.MonkeyPatch, last: dict[str, Any], status: int
) -> None:
    client = _Client(ROW, ROW, ROW | last)
    code, said = run(monkeypatch, client, "create", "my-model", "--model", "model_1", "--server", "tgi", "--wait")
    assert code == status, said
    body = {"name": "my-model", "target": {"registry": "model_1"}, "options": {"server": "tgi"}}
    assert client.sent == [("/v1/deployments", body)]


def test_options_that_are_not_given_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Client(ROW)
    assert run(monkeypatch, client, "create", "m", "--provider", "openai/a/b")[0] == 0
    assert client.sent == [("/v1/deployments", {"name": "m", "target": {"provider": "openai", "model": "a/b"}})]


@pytest.mark.parametrize(("model", "provider"), [(None, None), ("model_1", "a/b"), (None, "openai"), (None, "/x")])
def test_a_target_is_one_thing_and_whole(model: str | None, provider: str | None) -> None:
    with pytest.raises(MultifacetError, match="--"):
        target_of(model, provider)


def test_names_stay_one_part_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    client = _Client(ROW, ROW)
    run(monkeypatch, client, "rollback", "a/../b")
    run(monkeypatch, client, "stop", "../keys")
    assert [path for path, _ in client.sent] == ["/v1/deployments/a%2F..%2Fb/rollback", "/v1/deployments/..%2Fkeys"]


def test_one_deployment_is_printed_with_revisions_and_history() -> None:
    row = ROW | {
        "places": [{"id": "tgi/0", "state": "ready"}],
        "revisions": [
            {"revision": 2, "target": PROVIDER, "state": "failed", "ready_at": None, "error": "no [bold] memory"},
            {
                "revision": 1,
                "target": ROW["target"],
                "state": "ready",
                "ready_at": "2026-01-01T12:00:00Z",
                "error": None,
            },
        ],
        "events": [{"created_at": "2026-01-01T12:00:00Z", "revision": 1, "type": "ready", "detail": "on tgi/0"}],
        "job_id": "job_9",
    }
    out = StringIO()
    print_deployment(row, Console(file=out, width=160))
    text = out.getvalue()
    for part in ("model_1", "openai/gpt", "no [bold] memory", "tgi/0 (ready)", "job job_9", "2026-01-01 12:00"):
        assert part in text


def test_the_list_names_what_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(monkeypatch, _Client(ROW, ROW | {"name": "hosted", "target": PROVIDER}))
    assert code == 0
    assert "my-model" in said
    assert "openai/gpt" in said
    assert "nothing is deployed" in run(monkeypatch, _Client())[1]
