"""Running a whole step: inputs downloaded, the work done by a child process in a group of its own, outputs uploaded."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from shared.artifacts.protocol import ArtifactStore
from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.domain.models import ModelRegistration
from shared.queue.lease import Lease
from shared.queue.retry_policy import EndKind
from shared.stages.child import REQUEST_FILE, RESULT_FILE, ChildAnswer, ChildError, ChildRequest, decode_answer, encode
from shared.stages.job_data import JobData
from shared.stages.outputs import upload_outputs
from shared.stages.protocol import InputObject, InputReference, WholeResult, WholeStepHandler
from shared.stages.row_runner import StepProduct, StepStopped

_log = structlog.get_logger(__name__)

_DOWNLOADS_AT_ONCE = 8
_END_SECONDS = 3.0
"""Between asking the child to end and killing its group."""


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
    report: Callable[[dict[str, Any]], Awaitable[None]],
    grace_seconds: float,
) -> StepProduct:
    """Run `handler` in a child process and upload what it made; `folder` is this attempt's scratch folder.

    The child's process group is killed when the lease asks to stop or this coroutine is cancelled; when the worker has to
    leave, the step has `grace_seconds` to finish first. Raises StepStopped,
    ChildCrashed, ChildFailed, and InputRefused, StepFailed and StepDeferred as the step raised them.
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
    )
    await asyncio.to_thread((folder / REQUEST_FILE).write_bytes, encode(request))
    result = await _run_child(lease, folder, report, grace_seconds)
    for output in result.outputs:
        if not output.path.resolve().is_relative_to(outputs.resolve()):
            raise StepFailed("output_misplaced", f"the output {output.name} does not lie in the step's output folder")
    artifacts = await upload_outputs(store, claim, result.outputs, lineage)
    return StepProduct(result.ledger, artifacts, result.summary, _registration(result.model, lineage))


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
    lease: Lease, folder: Path, report: Callable[[dict[str, Any]], Awaitable[None]], grace_seconds: float
) -> WholeResult:
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "shared.stages.child", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    reader = asyncio.create_task(_follow(process, report))
    ended = asyncio.create_task(asyncio.to_thread(process.wait))
    stopped = asyncio.create_task(lease.stop.wait())
    try:
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if lease.reason is EndKind.PREEMPTED:
            await asyncio.wait({ended}, timeout=grace_seconds)
        if not ended.done():
            if not lease.lost.is_set():
                _signal_group(process, signal.SIGTERM)
                await asyncio.wait({ended}, timeout=_END_SECONDS)
            raise StepStopped
        await reader
        return await asyncio.to_thread(_result, process.returncode, folder)
    finally:
        # Also after a good end: a grandchild that was left behind must not outlive the step.
        _signal_group(process, signal.SIGKILL)
        stopped.cancel()
        await asyncio.shield(asyncio.gather(ended, reader, stopped, return_exceptions=True))
        assert process.stdin is not None
        process.stdin.close()


async def _follow(process: "subprocess.Popen[bytes]", report: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Hand every progress line on until the child closes its end."""
    assert process.stdout is not None
    with process.stdout as stream:
        while line := await asyncio.to_thread(stream.readline):
            with suppress(msgspec.DecodeError):
                await report(msgspec.json.decode(line, type=dict[str, Any]))


def _result(status: int, folder: Path) -> WholeResult:
    path = folder / RESULT_FILE
    if status != 0 or not path.exists():
        raise ChildCrashed(f"signal {-status}" if status < 0 else f"exit status {status}")
    answer: ChildAnswer = decode_answer(path.read_bytes())
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
        case "failed":
            raise ChildFailed(error)


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    # The child leads a session of its own, so its pid is the group's id even after it has ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
