"""Calls, tokens and money of jobs, and of live calls by day: counted in memory, kept in Postgres, at most one second apart."""

import asyncio
from typing import Any

import msgspec
import psycopg
import structlog

from shared.domain.errors import StepFailed
from shared.llm.database import DurableConnection
from shared.llm.prices import format_usd
from shared.metadata.patience import PATIENCE_SECONDS

_log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0

_COUNTERS = (
    "calls",
    "cached_calls",
    "retries",
    "rate_limited",
    "prompt_tokens",
    "completion_tokens",
    "prompt_characters",
    "completion_characters",
    "cost_micro_usd",
    "unpriced_calls",
)
_UPSERT = (
    f"INSERT INTO usage (job_id, stage, provider, model, request_class, project_id, {', '.join(_COUNTERS)}) "
    f"VALUES ({', '.join(['%s'] * (6 + len(_COUNTERS)))}) "
    "ON CONFLICT (job_id, stage, provider, model, request_class) DO UPDATE SET "
    + ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _COUNTERS)
)
_CHARGE = (
    "UPDATE job SET cost_micro_usd = cost_micro_usd + %s, unpriced_calls = unpriced_calls + %s WHERE id = %s "
    "RETURNING cost_micro_usd"
)


class Counters(msgspec.Struct):
    """What is added to one row of `usage`. `calls` are paid answers, `cached_calls` replays, `retries` tries that were
    made again, `rate_limited` those of them that were answered 429. Characters are counted for paid answers only."""

    calls: int = 0
    cached_calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_characters: int = 0
    completion_characters: int = 0
    cost_micro_usd: int = 0
    unpriced_calls: int = 0


class UsageKey(msgspec.Struct, frozen=True):
    """`job_id` is that of a job, or made by `shared.domain.live_calls.live_account_of`."""

    job_id: str
    stage: str
    provider: str
    model: str
    request_class: str
    project_id: str


class JobAccount:
    """What one job may spend and has spent, as far as this worker knows.

    `stored` is the job's cost in Postgres (all workers, refreshed by each flush), `unflushed` what this worker spent
    since, `in_flight` what its open calls are expected to cost. A call waits while those would pass the budget, and is
    refused once the money is spent: the overshoot is at most the calls in flight.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.budget_micro_usd: int | None = None
        self.stored = 0
        self.unflushed = 0
        self.in_flight = 0
        self.loaded = False
        self.loading = asyncio.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def spent(self) -> int:
        return self.stored + self.unflushed

    async def reserve(self, expected_micro_usd: int) -> None:
        """Reserve money for one call.

        Raises:
            StepFailed: `budget_exhausted`.
        """
        while self.budget_micro_usd is not None:
            if self.spent >= self.budget_micro_usd:
                raise StepFailed(
                    "budget_exhausted",
                    f"job {self.job_id} has spent {format_usd(self.spent)} of its budget of "
                    f"{format_usd(self.budget_micro_usd)}; what was made is kept: retry the job with a higher budget",
                )
            if not self.in_flight or self.spent + self.in_flight + expected_micro_usd <= self.budget_micro_usd:
                break
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self.in_flight += expected_micro_usd

    def settle(self, expected_micro_usd: int, cost_micro_usd: int) -> None:
        """The call is over and has cost so much."""
        self.in_flight -= expected_micro_usd
        self.unflushed += cost_micro_usd
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for settled in waiting:
                if not settled.done():
                    settled.set_result(None)


class UsageLedger:
    """All accounts and counters of a worker process."""

    def __init__(self, database_url: str, patience: float = PATIENCE_SECONDS) -> None:
        self._connection = DurableConnection(database_url, "usage", patience)
        self._accounts: dict[str, JobAccount] = {}
        self._counters: dict[UsageKey, Counters] = {}
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._flush_loop())

    async def close(self, timeout_seconds: float = 10.0) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await asyncio.wait_for(self.flush(), timeout_seconds)
        except (TimeoutError, psycopg.Error) as error:
            _log.error("usage_not_stored", error=f"{type(error).__name__}: {error}"[:300], rows=len(self._counters))
        await self._connection.close()

    def account(self, job_id: str, budget_micro_usd: int | None) -> JobAccount:
        """The account of a job. The budget may have been raised since the last call."""
        account = self._accounts.get(job_id)
        if account is None:
            account = self._accounts[job_id] = JobAccount(job_id)
        account.budget_micro_usd = budget_micro_usd
        account.loaded = False  # other workers may have spent since
        return account

    def counters(self, key: UsageKey) -> Counters:
        """Where to count; do not keep it across an await (a flush starts new ones)."""
        counters = self._counters.get(key)
        if counters is None:
            counters = self._counters[key] = Counters()
        return counters

    async def load(self, account: JobAccount) -> None:
        """Read what the job has cost so far; calls after the first are free."""
        async with account.loading:
            if not account.loaded:
                stored = await self._connection.run(lambda connection: _read_cost(connection, account.job_id))
                account.stored = max(account.stored, stored)
                account.loaded = True

    async def flush(self) -> None:
        """Add everything counted so far to `usage` and to the jobs' costs, in one transaction.

        A connection that breaks in the commit may count a second's usage twice: the budget errs on the safe side.
        """
        async with self._flushing:
            if not self._counters:
                return
            counters, self._counters = self._counters, {}
            costs: dict[str, tuple[int, int]] = {}
            for key, counted in counters.items():
                cost, unpriced = costs.get(key.job_id, (0, 0))
                costs[key.job_id] = (cost + counted.cost_micro_usd, unpriced + counted.unpriced_calls)
            work = asyncio.ensure_future(self._connection.run(lambda connection: _write(connection, counters, costs)))
            try:
                totals = await asyncio.shield(work)
            except asyncio.CancelledError:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                if work.cancelled() or work.exception() is not None:
                    self._put_back(counters)
                raise
            except Exception:
                self._put_back(counters)
                raise
            for job_id, (cost, _) in costs.items():
                account = self._accounts.get(job_id)
                if account is not None:
                    account.unflushed -= cost
                    account.stored = totals.get(job_id, account.stored + cost)

    def _put_back(self, counters: dict[UsageKey, Counters]) -> None:
        for key, counted in counters.items():
            current = self.counters(key)
            for name in _COUNTERS:
                setattr(current, name, getattr(current, name) + getattr(counted, name))

    async def _flush_loop(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except psycopg.Error as error:  # what was counted was put back, the next turn tries again
                _log.error("usage_not_stored", error=f"{type(error).__name__}: {error}"[:300])


async def _read_cost(connection: psycopg.AsyncConnection[Any], job_id: str) -> int:
    cursor = await connection.execute("SELECT cost_micro_usd FROM job WHERE id = %s", (job_id,))
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def _write(
    connection: psycopg.AsyncConnection[Any], counters: dict[UsageKey, Counters], costs: dict[str, tuple[int, int]]
) -> dict[str, int]:
    """One transaction; rows are locked in the order of their keys, so that two workers cannot deadlock."""
    totals: dict[str, int] = {}
    async with connection.transaction(), connection.cursor() as cursor:
        for job_id, (cost, unpriced) in sorted(costs.items()):
            await cursor.execute(_CHARGE.encode(), (cost, unpriced, job_id))
            row = await cursor.fetchone()
            if row is not None:
                totals[job_id] = int(row[0])
        rows = [
            (
                *(key.job_id, key.stage, key.provider, key.model, key.request_class, key.project_id),
                *msgspec.structs.astuple(counted),
            )
            for key, counted in counters.items()
        ]
        await cursor.executemany(_UPSERT.encode(), sorted(rows))
    return totals
