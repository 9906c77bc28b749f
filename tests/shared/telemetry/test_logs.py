"""Logs are JSON with the ids of the step, and never the text of an exception."""

import json
import logging

import pytest
import structlog

from shared.settings import Settings
from shared.telemetry.logs import configure_logging, error_place, step_context


@pytest.fixture(autouse=True)
def restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_lines_carry_the_ids_of_the_step_from_both_kinds_of_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(), "worker")
    with step_context(job_id="job_1", stage="augment", step_id="step_1", attempt_id=4):
        structlog.get_logger("a").info("ours", rows=3)
        logging.getLogger("b").warning("a library says %d", 5)
    structlog.get_logger("a").info("after")
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    for line in (first, second):
        assert (line["service"], line["job_id"], line["step_id"], line["attempt_id"]) == (
            "worker",
            "job_1",
            "step_1",
            4,
        )
    assert (first["event"], first["rows"], first["level"]) == ("ours", 3, "info")
    assert (second["event"], second["logger"], second["level"]) == ("a library says 5", "b", "warning")
    assert "job_id" not in third


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions_are_logged_by_class_and_place(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(Settings(log_format=log_format), "worker")  # type: ignore[arg-type]
    try:
        raise ValueError("a private prompt")
    except ValueError:
        structlog.get_logger("a").exception("ours")
        logging.getLogger("b").exception("theirs")
    text = capsys.readouterr().err
    assert "private" not in text
    assert text.count("ValueError at test_logs.py") == 2


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_level="warning"), "worker")
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    assert capsys.readouterr().err == ""


def test_the_place_is_where_the_error_was_raised() -> None:
    def inner() -> None:
        raise KeyError("text")

    with pytest.raises(KeyError) as raised:
        inner()
    place = error_place(raised.value)
    assert place.startswith("KeyError at test_logs.py:")
    assert place.endswith(" in inner")
    assert error_place(OSError("never raised")) == "OSError"
