"""Logs are JSON with the ids of the step, and never the text of an exception."""

import asyncio
import contextvars
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog

from shared.settings import Settings
from shared.telemetry.logs import HANDED_ON_VARIABLE, configure_logging, error_place, handed_on, step_context

LOGGERS = ("multifacet", "services", "shared", "__main__", "uvicorn")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
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


def test_libraries_are_heard_from_warning_on_and_ours_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_level="DEBUG"), "worker")
    logging.getLogger("openai._base_client").debug("Request options: a private prompt")
    logging.getLogger("anything").info("a private prompt")
    logging.getLogger("anything").warning("told")
    logging.getLogger("services.inference.cpu_server.engine").debug("ours by the standard library")
    structlog.get_logger("a").debug("ours")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["told", "ours by the standard library", "ours"]


def test_a_thread_of_its_own_says_which_service_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(), "worker")
    thread = threading.Thread(target=lambda: structlog.get_logger("a").info("from a thread"))
    thread.start()
    thread.join()
    contextvars.Context().run(lambda: structlog.get_logger("a").info("from an empty context"))
    assert [json.loads(line)["service"] for line in capsys.readouterr().err.splitlines()] == ["worker", "worker"]


def test_a_child_process_carries_the_ids_that_were_handed_on() -> None:
    with step_context(job_id="job_1", stage="train", step_id="step_1", attempt_id=7, trace_id="abc"):
        environment = os.environ | handed_on()
    program = """
import structlog
from shared.settings import Settings
from shared.telemetry.logs import configure_logging, handed_on
configure_logging(Settings(), "step")
structlog.get_logger("a").info("in a child")
print(handed_on())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    line = json.loads(ended.stderr)
    assert (line["service"], line["job_id"], line["step_id"], line["attempt_id"], line["trace_id"]) == (
        "step", "job_1", "step_1", 7, "abc"
    )  # fmt: skip
    assert "job_1" in ended.stdout, "and hands them on to its own children"


def test_what_was_handed_on_and_is_no_object_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("[1]", "no json"):
        monkeypatch.setenv(HANDED_ON_VARIABLE, text)
        configure_logging(Settings(), "step")
        structlog.get_logger("a").info("said")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["said", "said"]


async def test_a_lost_error_of_a_task_is_told_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(), "worker")
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": ValueError("a private prompt")}
    )
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "handle": "a private prompt"})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["error"]) == ("Task exception was never retrieved", "ValueError")
    assert second["event"] == "lost"


def test_warnings_are_told_by_class_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(), "worker")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging(Settings(), "worker")
        warnings.warn("input_value='a private prompt'", UserWarning, stacklevel=1)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["category"]) == ("python_warning", "UserWarning")
    assert line["place"].startswith("test_logs.py:")


def test_errors_that_nobody_caught_are_told_by_their_frames() -> None:
    program = """
import sys, threading
from shared.settings import Settings
from shared.telemetry.logs import configure_logging
configure_logging(Settings(), "worker")
def fail():
    raise ValueError("a private prompt")
class Odd:
    def __del__(self):
        raise KeyError("a private prompt")
thread = threading.Thread(target=fail, name="steps")
thread.start()
thread.join()
odd = Odd()
del odd
fail()
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "private" not in ended.stderr
    of_thread, unraisable, last = map(json.loads, ended.stderr.splitlines())
    assert (of_thread["event"], of_thread["thread"]) == ("uncaught_error", "steps")
    assert (unraisable["event"], unraisable["error"]) == ("unraisable_error", "KeyError at <string>:10 in __del__")
    assert last["error"] == "ValueError at <string>:7 in fail"
    assert last["frames"] == ["<string>:16 in <module>", "<string>:7 in fail"]
    assert last["service"] == "worker"
