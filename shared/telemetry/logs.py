"""Structured logs on standard error: one JSON object (or one readable line) per event.

Whatever is logged while a step runs carries its job_id, step_id and attempt_id. Prompts, answers and secrets are never
logged: what is bound and logged are ids, names, counts and classes of errors.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import Processor

from shared.settings import Settings

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(settings: Settings, service: str) -> None:
    """Set up structlog and the standard library's logging alike for this process. `service` names the process."""
    render: Processor
    if settings.log_format == "json":
        render = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_traceback, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Third parties tell of every request at these levels.
    for name in ("alembic", "urllib3", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.contextvars.bind_contextvars(service=service)


@contextmanager
def step_context(*, job_id: str, stage: str, step_id: str, attempt_id: int) -> Iterator[None]:
    """Bind the ids to every line logged inside, also by tasks started inside."""
    with structlog.contextvars.bound_contextvars(job_id=job_id, stage=stage, step_id=step_id, attempt_id=attempt_id):
        yield


def error_place(error: BaseException) -> str:
    """Class and place of an error, such as `ValueError at handlers.py:41 in process`: tells it apart without its text, which
    might quote data."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" at {code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"


def _without_traceback(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace an exception by its class and place: tracebacks quote values, and values may be prompts."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = error_place(error)
    event.pop("stack_info", None)
    return event
