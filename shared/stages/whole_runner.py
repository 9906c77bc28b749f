"""Running a whole step: inputs downloaded, the work done by a child process in a group of its own, outputs uploaded."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from shared.artifacts.protocol import ArtifactStore
from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.domain.models import ModelRegistration
from shared.metadata.repositories.events import NewEvent
from shared.queue.lease import Lease
from shared.queue.retry_policy import EndKind
from shared.stages.child import DISK_FULL_STATUS, REQUEST_FILE, RESULT_FILE, ChildAnswer, ChildError, ChildRequest
from shared.stages.child_lines import EventLine, Line, ProgressLine, StartLine, decode_line
from shared.stages.job_data import JobData
from shared.stages.outputs import upload_outputs
from shared.stages.path_json import decode, encode
from shared.stages.protocol import InputObject, InputReference, WholeResult, WholeStepHandler
from shared.stages.row_runner import StepProduct, StepStopped
from shared.telemetry.logs import handed_on
from shared.telemetry.tracing import current_trace, span, trace_id_of

_log = structlog.get_logger(__name__)

_DOWNLOADS_AT_ONCE = 8
_END_SECONDS = 3.0
"""Between asking the child to end and killing its group."""
WINDING_UP_SECONDS = _END_SECONDS + 2.0
"""What a stop may take beyond the grace."""
_LINES_KEPT = 1000

ReportWhole = Callable[[dict[str, Any]], Awaitable[None]]
"""Shows {done, total, note} of the running attempt."""
EmitEvents = Callable[[Sequence[NewEvent]], Awaitable[None]]
"""Adds events of the running attempt to its job."""


class ChildCrashed(Exception):
    """The child ended without an answer. `signature` names how, so that repeats are recognised."""

    def __init__(self, signature: str) -> None:
        super().__init__(f"the child process ended without an answer: {signature}")
        self.signature = signature


class ChildFailed(Exception):
    """The step raised an exception in the child."""

    def __init__(self, error: ChildError) -> None:
        super().__init__(error.message)
        self.error = error


async def run_whole_step(
    *,
    lease: Lease,
    handler: WholeStepHandler,
    data: JobData,
    inputs: Sequence[InputReference],
    stage_ledgers: dict[str, Ledger],
    facts: dict[str, Any],
    store: ArtifactStore,
    folder: Path,
    lineage: dict[str, Any],
    report: ReportWhole,
    emit: EmitEvents,
    grace_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> StepProduct:
    """Run `handler` in a child process and upload what it made; `folder` is this attempt's scratch folder, `environment` is set
    for the child beside the worker's own.

    The child's process group is killed when the lease asks to stop or this coroutine is cancelled. The step has `grace_seconds`
    first where the worker has to leave, and where the handler stops itself, which is told at once; a result that it still
    comes to is stored. Raises StepStopped (also where the child says that it stopped), ChildCrashed, ChildFailed, and
    InputRefused, StepFailed and StepDeferred as the step raised them.
    """
    claim = lease.claim
    outputs = folder / "outputs"
    outputs.mkdir()
    request = ChildRequest(
        run=handler.run,
        job_id=claim.job_id,
        stage=claim.stage,
        step_id=claim.step_id,
        attempt_id=claim.attempt_id,
        spec=data.spec.model_dump_json(),
        taxonomy=data.taxonomy.model_dump_json(),
        inputs=await _download(store, inputs, folder / "inputs"),
        output_folder=outputs,
        stage_ledgers=stage_ledgers,
        facts=facts,
        trace_id=trace_id_of(current_trace()),
    )
    await asyncio.to_thread((folder / REQUEST_FILE).write_bytes, encode(request))
    if lease.stop.is_set() and (handler.stops_itself or lease.reason is not EndKind.PREEMPTED):
        raise StepStopped
    with span("child"):
        result = await _run_child(lease, handler, folder, Told(report, emit), grace_seconds, environment or {})
    lease.finished = True
    for output in result.outputs:
        if not output.path.resolve().is_relative_to(outputs.resolve()):
            raise StepFailed("output_misplaced", f"the output {output.name} does not lie in the step's output folder")
    artifacts = await upload_outputs(store, claim, result.outputs, lineage)
    return StepProduct(result.ledger, artifacts, result.summary, _registration(result.model, lineage), result.bench)


def _registration(model: ModelRegistration | None, lineage: dict[str, Any]) -> ModelRegistration | None:
    """The step's own lineage stands beside what the child told of the model's."""
    return None if model is None else msgspec.structs.replace(model, lineage={**model.lineage, **lineage})


async def _download(store: ArtifactStore, inputs: Sequence[InputReference], folder: Path) -> list[InputObject]:
    gate = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)
    places = [(reference.stage, reference.name) for reference in inputs]
    if len(set(places)) != len(places):
        raise ValueError(f"two inputs of one name among {sorted(places)}")

    async def download(reference: InputReference) -> InputObject:
        path = folder / reference.stage / reference.name
        path.parent.mkdir(parents=True, exist_ok=True)
        async with gate:
            await store.get_file(reference.key, path, reference.sha256)
        return InputObject(
            reference.stage, reference.name, path, reference.rows, reference.metadata, reference.id, reference.sha256
        )

    return list(await asyncio.gather(*map(download, inputs)))


async def _run_child(
    lease: Lease,
    handler: WholeStepHandler,
    folder: Path,
    told: "Told",
    grace: float,
    environment: Mapping[str, str],
) -> WholeResult:
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "shared.stages.child", str(folder)],
        env={**os.environ, **environment, **handed_on()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    reader = asyncio.create_task(told.follow(process))
    passing_on = asyncio.create_task(told.pass_on())
    ended = asyncio.create_task(asyncio.to_thread(process.wait))
    stopped = asyncio.create_task(lease.stop.wait())
    try:
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        signalled = not ended.done() and await _stop_child(lease, handler, process, ended, grace)
        if not ended.done() or lease.lost.is_set():
            raise StepStopped
        _signal_group(process, signal.SIGKILL)  # a helper that was left behind may hold the pipe open
        await asyncio.gather(reader, passing_on)
        return await asyncio.to_thread(_result, process.returncode, folder, told.start, signalled)
    finally:
        # Also after a good end: a grandchild that was left behind must not outlive the step.
        _signal_group(process, signal.SIGKILL)
        stopped.cancel()
        passing_on.cancel()
        told.discard()
        await asyncio.shield(asyncio.gather(ended, reader, passing_on, stopped, return_exceptions=True))
        assert process.stdin is not None
        process.stdin.close()


async def _stop_child(
    lease: Lease,
    handler: WholeStepHandler,
    process: "subprocess.Popen[bytes]",
    ended: "asyncio.Task[int]",
    grace: float,
) -> bool:
    """Let a child end that shall stop: within the grace if it may use it, then by SIGTERM to its group. Returns whether a child
    that stops itself was told to, so that whatever it ended of is taken for its stop."""
    if lease.lost.is_set():
        return False
    if handler.stops_itself:
        # To the one process: its helpers must live on until it has put away what they do together.
        process.send_signal(signal.SIGTERM)
    if handler.stops_itself or lease.reason is EndKind.PREEMPTED:
        await asyncio.wait({ended}, timeout=grace)
    if not ended.done() and not lease.lost.is_set():
        _signal_group(process, signal.SIGTERM)
        await asyncio.wait({ended}, timeout=_END_SECONDS)
        if not handler.stops_itself:
            raise StepStopped
    return handler.stops_itself


class Told:
    """What a child tells while it runs: handed on in batches, in its order, never faster than the database takes it."""

    def __init__(self, report: ReportWhole, emit: EmitEvents) -> None:
        self.start: str | None = None
        """What the child said it goes on from."""
        self._report = report
        self._emit = emit
        # A full queue leaves lines in the pipe, and a full pipe makes the child wait: nothing is lost, nothing piles up.
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue(_LINES_KEPT)
        self._discarding = False

    async def follow(self, process: "subprocess.Popen[bytes]") -> None:
        """Read until the child closes its end."""
        assert process.stdout is not None
        with process.stdout as stream:
            while text := await asyncio.to_thread(stream.readline):
                with suppress(msgspec.DecodeError):
                    line = decode_line(text)
                    if isinstance(line, StartLine):
                        self.start = line.point
                    elif not self._discarding:
                        await self._lines.put(line)
        if not self._discarding:
            await self._lines.put(None)

    def discard(self) -> None:
        """Nobody hands on what comes from now on; `follow` comes to its end without."""
        self._discarding = True
        while not self._lines.empty():
            self._lines.get_nowait()

    async def pass_on(self) -> None:
        """Hand on what was read until the end."""
        ended = False
        while not ended:
            lines = [await self._lines.get()]
            while not self._lines.empty():
                lines.append(self._lines.get_nowait())
            ended = lines[-1] is None
            if events := [(line.type, line.data) for line in lines if isinstance(line, EventLine)]:
                await self._emit(events)
            progress = [line for line in lines if isinstance(line, ProgressLine)]
            if progress:
                await self._report(msgspec.structs.asdict(progress[-1]))


def _result(status: int, folder: Path, start: str | None, signalled: bool) -> WholeResult:
    path = folder / RESULT_FILE
    if status != 0 or not path.exists():
        if signalled:
            _log.warning("child_ended_by_its_stop", status=status)
            raise StepStopped
        if status == DISK_FULL_STATUS:
            raise OSError(errno.ENOSPC, "the step found its disk full")
        raise ChildCrashed(_from_where(f"signal {-status}" if status < 0 else f"exit status {status}", start))
    answer = decode(path.read_bytes(), ChildAnswer)
    if answer.result is not None:
        return answer.result
    error = answer.error
    assert error is not None, "an answer holds a result or an error"
    match error.kind:
        case "refused":
            raise InputRefused(error.message, error.pointer)
        case "failed_step":
            raise StepFailed(error.code, error.message)
        case "deferred":
            raise StepDeferred(error.message, error.seconds)
        case "stopped":
            raise StepStopped
        case "failed":
            if signalled:
                _log.warning("child_failed_in_its_stop", error=error.signature)
                raise StepStopped
            signature = None if error.signature is None else _from_where(error.signature, start)
            raise ChildFailed(msgspec.structs.replace(error, signature=signature))


def _from_where(signature: str, start: str | None) -> str:
    """A crash is the same only if it came from the same point: a step that gets further each time is not poisoned."""
    return signature if start is None else f"{signature}, started from {start}"


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    # The child leads a session of its own, so its pid is the group's id even after it has ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
