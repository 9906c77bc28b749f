"""From a doorbell to a commit: claims a step, runs it by its handler's shape, ends or commits the attempt."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
import urllib3.exceptions
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.artifacts.passing import passing_fault
from shared.artifacts.protocol import ArtifactStore
from shared.domain.errors import InputRefused, MultifacetError, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.domain.plan import JUDGING_STAGES, StageKind
from shared.llm.models import BoundModel, Find, LanguageModels
from shared.llm.protocol import LanguageModel, NobodyToAsk, Scorer
from shared.llm.providers import ResolvedModel, load_providers
from shared.llm.step_calls import StepCalls
from shared.metadata.repositories.events import NewEvent
from shared.metadata.repositories.steps import Claim, Progress, StepRepository
from shared.queue.lease import Lease, LeaseKeeper
from shared.queue.retry_policy import BACKOFF_SHARE, AttemptEnd, EndKind
from shared.scratch import Scratch
from shared.settings import Settings
from shared.stages.answering import AnsweringModels
from shared.stages.capacity import Capacity, StepLoad
from shared.stages.gpus import Gpus, visible_devices
from shared.stages.job_data import JobData, JobDataCache, code_version
from shared.stages.protocol import RowContext, RowStageHandler, WholeStepHandler
from shared.stages.row_runner import StepProduct, StepStopped, run_row_step
from shared.stages.step_inputs import input_part, job_facts, parts_beside, stage_ledgers, whole_inputs
from shared.stages.whole_runner import WINDING_UP_SECONDS, ChildCrashed, ChildFailed, run_whole_step
from shared.telemetry.logs import error_place, step_context
from shared.telemetry.tracing import current_span, current_trace, span, trace_id_of

_log = structlog.get_logger(__name__)

Handler = RowStageHandler | WholeStepHandler

_UNREACHABLE = (
    ConnectionError,
    TimeoutError,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    urllib3.exceptions.HTTPError,
)
"""A server that the step needs did not answer: not the step's fault."""

_NO_FAULT = frozenset({EndKind.PREEMPTED, EndKind.CANCELLED, EndKind.DEFERRED})
"""Ends of attempts that nothing went wrong in."""


class StepRunner:
    """Runs the steps of one worker process on its event loop."""

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        sessions: async_sessionmaker[AsyncSession],
        store: ArtifactStore,
        keeper: LeaseKeeper,
        handlers: Mapping[StageKind, Handler],
        capacity_changed: Callable[[int], None],
        gpus: Gpus | None = None,
    ) -> None:
        self._settings = settings
        self._gpus = gpus or Gpus(sessions, settings.lease_seconds, "", ())
        self._worker_id = worker_id
        self._sessions = sessions
        self._store = store
        self._keeper = keeper
        self._handlers = dict(handlers)
        self._jobs = JobDataCache(sessions)
        self._models: LanguageModels | None = None
        self._models_lock = asyncio.Lock()
        self._scratch: Scratch | None = None
        self._scratch_lock = threading.Lock()
        self.capacity = Capacity(
            settings.worker_slots,
            settings.worker_most_slots,
            lambda: 0 if self._models is None else self._models.queue_seconds,
            capacity_changed,
        )

    async def close(self) -> None:
        if self._models is not None:
            await self._models.close()
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.close)
            self._scratch = None

    def _work_folder(self) -> Path:
        """A new folder for an attempt."""
        with self._scratch_lock:
            if self._scratch is None:
                self._scratch = Scratch(self._settings.work_folder, "worker")
        return self._scratch.make_folder()

    async def answer(self, step_id: str, dispatch_no: int, trace: str | None = None) -> bool:
        """Run the step that a doorbell names, unless it is taken, stale or this worker leaves; its span goes on from `trace`, a
        `traceparent`. Returns whether it ran. Never raises."""
        heard_at = time.time()
        try:
            if self._keeper.draining:
                async with self._sessions() as session, session.begin():
                    await StepRepository(session).decline(step_id, dispatch_no)
                return False
            async with self._sessions() as session, session.begin():
                claim = await StepRepository(session).claim(
                    step_id, dispatch_no, self._worker_id, self._settings.lease_seconds
                )
        except Exception as error:  # noqa: BLE001  the controller rings again
            _log.warning("claim_failed", step_id=step_id, error=error_place(error))
            return False
        if claim is None:
            return False
        lease = self._keeper.add(claim)
        with (
            span(f"step {claim.kind}", "consumer", parent=trace, started_at=heard_at) as opened,
            step_context(
                job_id=claim.job_id,
                stage=claim.stage,
                step_id=claim.step_id,
                attempt_id=claim.attempt_id,
                trace_id=trace_id_of(current_trace()),
            ),
        ):
            opened.set(
                {
                    "multifacet.job_id": claim.job_id,
                    "multifacet.stage": claim.stage,
                    "multifacet.step_id": claim.step_id,
                    "multifacet.attempt_id": claim.attempt_id,
                    "multifacet.shard": claim.shard,
                }
            )
            try:
                with self.capacity.step() as load:
                    await self._run_claimed(lease, load)
            except Exception as error:  # noqa: BLE001  the lease runs out and the step starts over
                opened.fail("step_not_ended")
                _log.error("step_not_ended", error=error_place(error))
            finally:
                self._keeper.remove(lease)
        return True

    async def _run_claimed(self, lease: Lease, load: StepLoad) -> None:
        started = time.monotonic()
        work = asyncio.create_task(self._produce(lease, load))
        lost = asyncio.create_task(lease.lost.wait())
        grace = asyncio.create_task(self._grace(lease))
        try:
            await asyncio.wait({work, lost, grace}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        finally:
            for task in (work, lost, grace):
                task.cancel()
            await asyncio.gather(work, lost, grace, return_exceptions=True)
        if lease.lost.is_set():
            current_span().fail("abandoned")
            _log.warning("step_abandoned", seconds=round(time.monotonic() - started, 3))
            return
        if work.cancelled():
            await self._end(lease, _stopped(lease))
            return
        error = work.exception()
        if error is not None:
            await self._end(lease, attempt_end(error, lease))
            return
        _log.info("step_done", shard=lease.claim.shard, seconds=round(time.monotonic() - started, 3))

    async def _grace(self, lease: Lease) -> None:
        """Returns when a step that was asked to stop must be made to."""
        await lease.stop.wait()
        whole = isinstance(self._handlers.get(StageKind(lease.claim.kind)), WholeStepHandler)
        # A whole step ends its own child after the grace; this is for downloads and uploads that take longer.
        await asyncio.sleep(self._settings.cancel_grace_seconds + (WINDING_UP_SECONDS if whole else 0))
        if lease.finished and lease.reason is EndKind.PREEMPTED:
            await lease.lost.wait()

    async def _produce(self, lease: Lease, load: StepLoad) -> None:
        """Run the handler and commit."""
        claim = lease.claim
        handler = self._handlers.get(StageKind(claim.kind))
        if handler is None:
            raise StepFailed(
                "no_handler",
                f"the worker of the queue has no handler for stages of kind {claim.kind}; seen: "
                f"{', '.join(sorted(self._handlers))}; start workers of the same release",
            )
        folder = await asyncio.to_thread(self._work_folder)
        try:
            data = await self._jobs.get(claim.job_id)
            if isinstance(handler, RowStageHandler):
                product = await self._run_rows(lease, load, handler, data, folder)
            else:
                product = await self._run_whole(lease, handler, data, folder)
            await self._commit(lease, product)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run_rows(
        self, lease: Lease, load: StepLoad, handler: RowStageHandler, data: JobData, folder: Path
    ) -> StepProduct:
        claim = lease.claim
        async with self._sessions() as session:
            part = await input_part(session, claim)
            beside = await parts_beside(session, claim) if handler.joins else {}
        models = await self._language_models()

        async def report(ledger: Ledger, progress: dict[str, Any]) -> None:
            await self._report(claim, ledger, progress)

        calls = StepCalls(lease.stop.is_set)

        def bind(resolved: ResolvedModel, find: Find | None = None) -> BoundModel:
            return models.bind_resolved(
                resolved,
                project_id=claim.project_id,
                job_id=claim.job_id,
                stage=claim.stage,
                budget_micro_usd=claim.budget_micro_usd,
                turn=claim.attempt_id,
                calls=calls,
                find=find,
            )

        spec = data.spec
        scorer: Scorer | None = None
        judge: LanguageModel | None = None
        teacher: LanguageModel
        if handler.kind is StageKind.ANSWER:
            asked = AnsweringModels(self._sessions, models.providers, claim.project_id, claim.job_id, bind)
            number = [answer.name for answer in spec.answer].index(claim.stage)
            teacher = NobodyToAsk()
            if not spec.answer[number].candidate.exists:
                teacher = await asked.candidate(spec.answer[number], f"/answer/{number}")
            scorer = await asked.reward(spec.answer[number])
        elif handler.kind is StageKind.MEASURE:
            teacher = NobodyToAsk()
        elif handler.kind in JUDGING_STAGES:
            teacher = judge = bind(models.providers.require(spec.require_judge(), "/judge"))
        else:
            teacher = bind(models.providers.require(spec.require_teacher(), "/teacher"))
            judge = None if spec.judge is None else bind(models.providers.require(spec.judge, "/judge"))
        context = RowContext(
            job_id=claim.job_id,
            stage=claim.stage,
            spec=spec,
            taxonomy=data.taxonomy,
            teacher=teacher,
            judge=judge,
            scorer=scorer,
        )
        return await run_row_step(
            lease=lease,
            handler=handler,
            context=context,
            part=part,
            beside=beside,
            store=self._store,
            folder=folder,
            maximum_rows_at_once=self._settings.maximum_in_flight,
            lineage=_lineage(claim, [part.id, *(one.id for one in beside.values())], handler.prompt_versions),
            report=report,
            flush=models.flush,
            rows_started=load.rows_started,
        )

    async def _run_whole(self, lease: Lease, handler: WholeStepHandler, data: JobData, folder: Path) -> StepProduct:
        claim = lease.claim
        async with self._sessions() as session:
            inputs, ids = await whole_inputs(session, claim, data.spec, handler)
            ledgers = await stage_ledgers(session, claim.job_id)
            facts = await job_facts(session, claim, data.spec)

        async def report(progress: dict[str, Any]) -> None:
            await self._report(claim, None, progress)

        async def emit(events: Sequence[NewEvent]) -> None:
            await self._emit(lease, events)

        async with self._gpus.leased_for(lease, data.spec) as devices:
            return await run_whole_step(
                lease=lease,
                handler=handler,
                data=data,
                inputs=inputs,
                stage_ledgers=ledgers,
                facts=facts,
                store=self._store,
                folder=folder,
                lineage=_lineage(claim, ids, {}),
                report=report,
                emit=emit,
                grace_seconds=self._settings.cancel_grace_seconds,
                environment=visible_devices(devices),
            )

    async def _language_models(self) -> LanguageModels:
        """The process's language models, made when the first row step needs them."""
        async with self._models_lock:
            if self._models is None:
                models = LanguageModels(self._settings, load_providers(self._settings.providers_file))
                # What it starts outlives the step that happens to be the first, whose ids and span are bound here.
                await asyncio.create_task(models.start(), context=Context())
                self._models = models
            return self._models

    async def _report(self, claim: Claim, ledger: Ledger | None, progress: dict[str, Any]) -> None:
        try:
            async with self._sessions() as session, session.begin():
                await StepRepository(session).report([Progress(claim.attempt_id, ledger, progress)])
        except Exception as error:  # noqa: BLE001  progress is for watching; the work goes on
            _log.warning("progress_not_shown", error=error_place(error))

    async def _emit(self, lease: Lease, events: Sequence[NewEvent]) -> None:
        """Add events to the job, again and again while the database is away; without a lease they are dropped."""
        while not lease.lost.is_set():
            try:
                async with self._sessions() as session, session.begin():
                    await StepRepository(session).emit(lease.claim, events)
                return
            except _UNREACHABLE as error:
                _log.warning("events_retried", error=error_place(error))
                await asyncio.sleep(0.2)
            except Exception as error:  # noqa: BLE001  events are for watching; the work goes on
                _log.warning("events_not_kept", error=error_place(error))
                return

    async def _commit(self, lease: Lease, product: StepProduct) -> None:
        """Commit, again and again while the database is away; a commit after the lease's end is refused there."""
        lease.closing = True
        while True:
            try:
                with span("commit"):
                    async with self._sessions() as session, session.begin():
                        done = await StepRepository(session).commit(
                            lease.claim,
                            product.ledger,
                            product.artifacts,
                            product.summary,
                            product.model,
                            product.bench,
                        )
                if not done:
                    _log.warning("commit_refused")
                    lease.lose()
                return
            except _UNREACHABLE as error:
                _log.warning("commit_retried", error=error_place(error))
                await asyncio.sleep(0.2)

    async def _end(self, lease: Lease, end: AttemptEnd) -> None:
        lease.closing = True
        current_span().set({"multifacet.end": end.kind.value})
        if end.kind not in _NO_FAULT:
            current_span().fail(end.code)
        _log.info("step_ended_early", kind=end.kind.value, code=end.code, signature=end.signature)
        while not lease.lost.is_set():
            try:
                async with self._sessions() as session, session.begin():
                    await StepRepository(session).end(
                        lease.claim.attempt_id, end, backoff_seconds=self._settings.lease_seconds * BACKOFF_SHARE
                    )
                return
            except _UNREACHABLE as error:
                _log.warning("end_retried", error=error_place(error))
                await asyncio.sleep(0.2)


def attempt_end(error: BaseException, lease: Lease) -> AttemptEnd:
    """What an error that came out of a step means for its attempt."""
    match error:
        case StepStopped():
            return _stopped(lease)
        case InputRefused():
            return AttemptEnd(EndKind.REFUSED, error.code, str(error), pointer=error.pointer)
        case StepFailed():
            return AttemptEnd(EndKind.REFUSED, error.code, str(error))
        case StepDeferred():
            return AttemptEnd(EndKind.DEFERRED, error.code, str(error), seconds=error.seconds)
        case ChildCrashed():
            return AttemptEnd(EndKind.CRASHED, "child_crashed", str(error), signature=error.signature)
        case ChildFailed():
            inner = error.error
            return AttemptEnd(EndKind.FAILED, inner.code, inner.message, signature=inner.signature)
        case _ if isinstance(error, _UNREACHABLE):
            return AttemptEnd(EndKind.UNREACHABLE, "unreachable", f"a server did not answer: {error_place(error)}")
        case _ if (fault := passing_fault(error)) is not None:
            return AttemptEnd(EndKind.UNREACHABLE, fault.code, fault.message)
        case MultifacetError():
            return AttemptEnd(EndKind.FAILED, error.code, str(error), signature=error_place(error))
        case _:
            place = error_place(error)
            return AttemptEnd(EndKind.FAILED, "step_error", f"the step failed: {place}", signature=place)


def _stopped(lease: Lease) -> AttemptEnd:
    match lease.reason:
        case EndKind.CANCELLED:
            return AttemptEnd(EndKind.CANCELLED, "cancelled", "the job was stopped")
        case EndKind.PREEMPTED:
            return AttemptEnd(EndKind.PREEMPTED, "preempted", "the worker was told to leave")
        case _:
            return AttemptEnd(EndKind.PREEMPTED, "preempted", "somebody else told the step's process to stop")


def _lineage(claim: Claim, inputs: list[str], prompts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "inputs": inputs,
        "parameters": claim.parameters,
        "prompts": dict(prompts),
        "code_version": code_version(),
    }
