"""Waiting for a server that starts."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from services.cli.embedded.postgres import EmbeddedPostgres
from shared.domain.errors import MultifacetError

RECOVERS = "connection failed: FATAL:  the database system is starting up"


class Answers:
    """Stands for connections: so many refusals, then one that is taken."""

    def __init__(self, refusals: int, text: str) -> None:
        self.refusals, self.text = refusals, text

    def __call__(self, *_: object, **__: object) -> "Answers":
        self.refusals -= 1
        if self.refusals >= 0:
            raise psycopg.OperationalError(self.text)
        return self

    def close(self) -> None:
        pass


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    (tmp_path / "log").write_text("")
    server = EmbeddedPostgres(tmp_path / "pg", tmp_path / "log")
    monkeypatch.setattr(server, "alive", lambda: True)

    def wait(answers: Answers) -> None:
        monkeypatch.setattr(psycopg, "connect", answers)
        server._await_answer(0.0)

    return wait


def test_a_server_that_recovers_from_a_crash_is_given_its_time(waiting: Callable[[Answers], None]) -> None:
    waiting(Answers(3, RECOVERS))


def test_one_that_does_not_answer_otherwise_is_given_up(waiting: Callable[[Answers], None]) -> None:
    with pytest.raises(MultifacetError, match=r"did not answer within 0.0 s.*no route"):
        waiting(Answers(3, "no route"))
