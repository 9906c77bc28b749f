"""Workers in the terminal, over an api that answers what a test says."""

from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from services.cli import pools
from services.cli.main import app

ANSWER: dict[str, Any] = {
    "pools": [
        {"pool": "composition", "ready": 12, "running": 2, "slots": 2, "workers": 1},
        {"pool": "training", "ready": 0, "running": 0, "slots": 0, "workers": 0},
    ],
    "groups": [
        {"name": "composition", "desired": 3, "running": 1, "minimum": 0, "maximum": 4, "stale": False,
         "detail": "3 starts in a row failed", "seen_at": "2026-01-01T12:34:56Z"},
        {"name": "old", "desired": 0, "running": 0, "minimum": 0, "maximum": 1, "stale": True, "detail": "",
         "seen_at": "2026-01-01T12:34:56Z"},
    ],
    "workers": [
        {"id": "w1", "roles": ["composition"], "running": 2, "slots": 2, "draining": False, "started_at": "2026-01-01T12:34:56Z"},
        {"id": "w2", "roles": ["composition", "training"], "running": 0, "slots": 2, "draining": True,
         "started_at": "2026-01-01T12:34:56Z"},
    ],
}  # fmt: skip


class _Client:
    answer: dict[str, Any] = ANSWER
    sent: ClassVar[list[tuple[str, Any]]] = []

    def get(self, path: str) -> Any:
        assert path == "/v1/pools"
        return self.answer

    def post(self, path: str, body: Any) -> Any:
        self.sent.append((path, body))
        return {"workers": ["w1"] if body else []}


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> type[_Client]:
    monkeypatch.setattr(pools, "ApiClient", _Client)
    monkeypatch.setattr(pools._console, "_width", 160)
    _Client.answer, _Client.sent = ANSWER, []
    return _Client


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["pools", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_tables_tell_demand_wishes_and_workers() -> None:
    text = said()
    for words in ("composition", "12", "3 starts in a row failed", "0 to 4", "2 of 2", "working", "leaving", "all"):
        assert words in text
    assert "not heard of since 2026-01-01 12:34" in text


def test_without_workers_it_says_that_steps_wait(client: type[_Client]) -> None:
    client.answer = {**ANSWER, "groups": [], "workers": []}
    assert "no worker lives: steps wait" in said()


def test_draining_tells_who_was_told(client: type[_Client]) -> None:
    assert "w1 was told to leave" in said("drain", "composition", "--worker", "w1")
    assert "leave already" in said("drain", "composition")
    assert client.sent == [
        ("/v1/pools/composition/drain", {"worker": "w1"}),
        ("/v1/pools/composition/drain", {}),
    ]
