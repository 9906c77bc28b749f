"""The child process of a whole step: `python -m shared.stages.child FOLDER`.

FOLDER holds `request.json` (see `ChildRequest`); the child writes `result.json` (see `ChildAnswer`) there, and lines (see
`child_lines`) to standard output. Whatever the step itself prints goes to standard error. When the worker dies its end
of our standard input closes: then the whole process group ends, so that nobody works for a step that others have taken.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from shared.artifacts.passing import disk_is_full
from shared.domain.errors import InputRefused, MultifacetError, StepDeferred, StepFailed, StepInterrupted
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger
from shared.domain.taxonomy import Taxonomy
from shared.settings import get_settings
from shared.stages.child_lines import LineWriter
from shared.stages.path_json import decode, encode
from shared.stages.protocol import InputObject, OutputObject, WholeContext, WholeResult
from shared.telemetry.logs import configure_logging, error_place, step_context

REQUEST_FILE = "request.json"
RESULT_FILE = "result.json"
DISK_FULL_STATUS = os.EX_IOERR
"""The exit status of a child that found its disk full."""


class ChildRequest(msgspec.Struct, frozen=True):
    """What the worker asks for. `spec` and `taxonomy` are JSON texts, validated again here."""

    run: str
    """`package.module:function`"""
    job_id: str
    stage: str
    step_id: str
    attempt_id: int
    spec: str
    taxonomy: str
    inputs: list[InputObject]
    output_folder: Path
    stage_ledgers: dict[str, Ledger]
    facts: dict[str, Any]
    trace_id: str | None = None
    """Of the step's trace, for the logs."""


class ChildError(msgspec.Struct, frozen=True):
    """Why the step did not come to its end. `kind`: refused and failed_step are final, deferred waits, stopped goes on later,
    failed is any other exception, named by `signature`."""

    kind: Literal["refused", "failed_step", "deferred", "stopped", "failed"]
    code: str
    message: str
    signature: str | None = None
    pointer: str | None = None
    seconds: float = 0.0


class ChildAnswer(msgspec.Struct, frozen=True):
    """Exactly one of the two is set."""

    result: WholeResult | None = None
    error: ChildError | None = None


def main(folder: Path) -> None:
    """Run the step that `folder` asks for. Exit status 0 means that an answer was written, whatever it says."""
    lines = LineWriter(_take_standard_output())
    threading.Thread(target=_end_with_worker, daemon=True).start()
    configure_logging(get_settings(), "step")
    request = decode((folder / REQUEST_FILE).read_bytes(), ChildRequest)
    with step_context(
        job_id=request.job_id,
        stage=request.stage,
        step_id=request.step_id,
        attempt_id=request.attempt_id,
        trace_id=request.trace_id,
    ):
        answer = _answer(request, lines)
    scratch = folder / f"{RESULT_FILE}.part"
    scratch.write_bytes(encode(answer))
    scratch.rename(folder / RESULT_FILE)


def _answer(request: ChildRequest, lines: LineWriter) -> ChildAnswer:
    try:
        context = WholeContext(
            job_id=request.job_id,
            stage=request.stage,
            spec=JobSpec.model_validate_json(request.spec),
            taxonomy=Taxonomy.model_validate_json(request.taxonomy),
            inputs=tuple(request.inputs),
            output_folder=request.output_folder,
            progress=lines.progress,
            stage_ledgers=request.stage_ledgers,
            facts=request.facts,
            attempt_id=request.attempt_id,
            emit=lines.emit,
            starts_from=lines.starts_from,
        )
        result = _load(request.run)(context)
        result.ledger.check()
        _check_outputs(result.outputs)
        return ChildAnswer(result=result)
    except InputRefused as error:
        return ChildAnswer(error=ChildError("refused", error.code, str(error), pointer=error.pointer))
    except StepFailed as error:
        return ChildAnswer(error=ChildError("failed_step", error.code, str(error)))
    except StepDeferred as error:
        return ChildAnswer(error=ChildError("deferred", error.code, str(error), seconds=error.seconds))
    except StepInterrupted as error:
        return ChildAnswer(error=ChildError("stopped", error.code, str(error)))
    except ModuleNotFoundError as error:
        return ChildAnswer(error=_package_missing(error, request))
    except MultifacetError as error:
        return ChildAnswer(error=ChildError("failed", error.code, str(error), signature=error_place(error)))
    except Exception as error:  # the worker decides what becomes of the step
        if disk_is_full(error):
            raise  # an answer could not be written either
        # The text of a foreign exception may quote data: its class and place are enough to find it.
        place = error_place(error)
        return ChildAnswer(error=ChildError("failed", "step_error", f"the step failed: {place}", signature=place))


def _package_missing(error: ModuleNotFoundError, request: ChildRequest) -> ChildError:
    """A worker takes all steps of its roles, also where a package that only some need is not installed."""
    message = (
        f"the stage {request.stage} needs the Python package {error.name}, which is not installed where this worker runs; "
        "install it there, or give the role to workers that have it"
    )
    return ChildError("failed_step", "package_missing", message)


def _load(run: str) -> Callable[[WholeContext], WholeResult]:
    module, _, function = run.partition(":")
    loaded: Callable[[WholeContext], WholeResult] = getattr(importlib.import_module(module), function)
    return loaded


def _check_outputs(outputs: tuple[OutputObject, ...]) -> None:
    missing = [output.name for output in outputs if not output.path.is_file()]
    if missing:
        raise StepFailed("output_missing", f"the step named outputs that it did not write: {', '.join(missing)}")


def _take_standard_output() -> BinaryIO:
    """Keep the pipe to the worker for ourselves; what anybody prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def _end_with_worker() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:
        if not disk_is_full(error):
            raise
        os._exit(DISK_FULL_STATUS)  # whatever else would be written at the end cannot be
