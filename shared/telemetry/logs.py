"""Structured logs on standard error: one JSON object (or one readable line) per event.

Whatever is logged while a step runs carries its job_id, step_id and attempt_id, in the worker and in every process below it.
Prompts, answers and secrets are never logged: what is bound and logged are ids, names, counts and classes of errors. Libraries
are heard from WARNING on whatever the level is, since some write what they send and get at DEBUG.
"""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.settings import Settings

HANDED_ON_VARIABLE = "MULTIFACET_LOG_CONTEXT"
"""Environment of a child process: a JSON object of the ids that its lines carry."""

_OURS = ("multifacet", "services", "shared", "__main__")
"""Loggers that follow the level; structlog's lines all come by the first."""

_log = structlog.get_logger(__name__)

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(settings: Settings, service: str) -> None:
    """Set up structlog, the standard library's logging, warnings and uncaught errors alike for this process. `service` names the
    process; every line carries it, from every thread, with the ids that a parent process handed on."""
    render: Processor
    if settings.log_format == "json":
        render = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared = (*_SHARED, _always(_handed_on() | {"service": service}))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: logging.getLogger(_OURS[0]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _without_repetition],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_traceback, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn").setLevel(max(level, logging.INFO))  # where it listens
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread
    sys.unraisablehook = _log_unraisable


@contextmanager
def step_context(
    *, job_id: str, stage: str, step_id: str, attempt_id: int, trace_id: str | None = None
) -> Iterator[None]:
    """Bind the ids to every line logged inside, also by tasks and threads started inside; `trace_id` of a step that is traced."""
    ids: dict[str, str | int] = {"job_id": job_id, "stage": stage, "step_id": step_id, "attempt_id": attempt_id}
    if trace_id is not None:
        ids["trace_id"] = trace_id
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def handed_on() -> dict[str, str]:
    """Environment variables that make a child process carry the ids that are bound here."""
    return {HANDED_ON_VARIABLE: orjson.dumps(_handed_on() | structlog.contextvars.get_contextvars()).decode()}


def error_place(error: BaseException) -> str:
    """Class and place of an error, such as `ValueError at handlers.py:41 in process`: tells it apart without its text, which
    might quote data."""
    places = _places(error.__traceback__)
    return f"{type(error).__name__} at {places[-1]}" if places else type(error).__name__


def _places(trace: TracebackType | None) -> list[str]:
    """`file:line in function` of each frame, outermost first."""
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return places


def _handed_on() -> dict[str, Any]:
    try:
        ids = orjson.loads(os.environ.get(HANDED_ON_VARIABLE) or "{}")
    except orjson.JSONDecodeError:
        return {}
    return ids if isinstance(ids, dict) else {}


def _always(fields: Mapping[str, Any]) -> Processor:
    def add(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        for name, value in fields.items():
            event.setdefault(name, value)
        return event

    return add


def _without_traceback(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace an exception by its class and place: tracebacks quote values, and values may be prompts."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = error_place(error)
    event.pop("stack_info", None)
    return event


def _without_repetition(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """asyncio tells of a lost error in the first line, and repeats its text in those below."""
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning's class and place; its text may quote values (pydantic's does)."""
    del message, file, line
    _log.warning("python_warning", category=category.__name__, place=f"{Path(filename).name}:{lineno}")


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("uncaught_error", error=error_place(error.with_traceback(trace)), frames=_places(trace))


def _log_uncaught_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or issubclass(arguments.exc_type, SystemExit):
        return
    name = None if arguments.thread is None else arguments.thread.name
    places = _places(arguments.exc_traceback)
    _log.critical("uncaught_error", error=error_place(arguments.exc_value), frames=places, thread=name)


def _log_unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    error = arguments.exc_value
    _log.error("unraisable_error", error=None if error is None else error_place(error))
