"""The system's figures as Prometheus metrics: names, labels and help texts stand here, the counts come from the tables.

States and pools that nothing is in are told as 0, so that an alert need not tell "none" from "not known".
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.domain.deployments import DeploymentState, ServerState
from shared.domain.plan import SERVICES
from shared.domain.states import AttemptState, JobState, StepState
from shared.metadata.repositories.metrics import GroupFigures, MetricsRepository, PoolFigures, SystemFigures
from shared.telemetry.logs import error_place

_log = structlog.get_logger(__name__)

KEPT_SECONDS = 5.0
"""Figures are counted at most so often, however many scrape."""
_TIMEOUT_SECONDS = 10.0

_MICRO = 1_000_000
_ENDED = tuple(state.value for state in AttemptState if state is not AttemptState.RUNNING)
_LEASE_EXPIRED = "lease_expired"


class SystemMetrics:
    """Counts at most once in KEPT_SECONDS, one count at a time."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], launcher_lease_seconds: float) -> None:
        self._sessions = sessions
        self._launcher_lease_seconds = launcher_lease_seconds
        self._counting = asyncio.Lock()
        self._counted_at: float | None = None
        self._figures: SystemFigures | None = None
        self._seconds = 0.0

    async def collector(self) -> "SystemCollector":
        """What can be told now. A database that does not answer is told as `multifacet_database_up 0`, without figures."""
        async with self._counting:
            if self._counted_at is None or time.monotonic() - self._counted_at >= KEPT_SECONDS:
                started = time.monotonic()
                self._figures = await self._count()
                self._counted_at = time.monotonic()
                self._seconds = self._counted_at - started
            return SystemCollector(self._figures, self._seconds)

    async def _count(self) -> SystemFigures | None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS), self._sessions() as session, session.begin():
                return await MetricsRepository(session).figures(self._launcher_lease_seconds)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            _log.warning("metrics_not_counted", error=error_place(error))
            return None


class SystemCollector(Collector):
    """One moment's figures, for one answer."""

    def __init__(self, figures: SystemFigures | None, seconds: float) -> None:
        self._figures = figures
        self._seconds = seconds

    def collect(self) -> Iterable[Metric]:
        yield _gauge(
            "database_up", "1 where the database answered when figures were counted", self._figures is not None
        )
        yield _gauge("metrics_count_seconds", "How long counting the figures took", self._seconds)
        if self._figures is not None:
            yield from _families(self._figures)


def _families(figures: SystemFigures) -> Iterator[Metric]:
    yield from _of_jobs(figures)
    yield from _of_attempts(figures)
    yield from _of_workers(figures)
    yield from _of_models(figures)
    yield _gauge("outbox_rows", "Doorbells that were not rung yet", figures.outbox_rows)
    yield _gauge(
        "outbox_oldest_seconds", "Age of the oldest doorbell that was not rung yet", figures.outbox_oldest_seconds
    )
    yield _gauge("controller_leads", "1 where a controller holds the leadership", figures.controller_leads)
    yield _gauge("database_bytes", "Size of the database", figures.database_bytes)
    yield _gauge("database_connections", "Open connections to the database server", figures.database_connections)
    yield _gauge("database_connections_limit", "Connections that the server allows", figures.database_connections_limit)


def _of_jobs(figures: SystemFigures) -> Iterator[Metric]:
    yield _by_state("jobs", "Jobs by state", figures.jobs, [state.value for state in JobState])
    yield _gauge(
        "oldest_queued_job_seconds", "How long the longest waiting job is queued", figures.oldest_queued_seconds
    )
    steps = GaugeMetricFamily("multifacet_steps", "Steps by pool and state", labels=["pool", "state"])
    counted = {(found.pool, found.state): found.steps for found in figures.steps}
    for pool in _pools(figures):
        for state in StepState:
            steps.add_metric([pool, state.value], counted.get((pool, state.value), 0))
    yield steps
    pools = {found.pool: found for found in figures.pools}
    of_pool: tuple[tuple[str, str, Callable[[PoolFigures], float]], ...] = (
        ("pool_ready_steps", "Steps that a worker of the pool could run now", lambda pool: pool.ready),
        ("pool_running_steps", "Steps that run", lambda pool: pool.running),
        ("pool_slots", "Steps that the living workers of the pool take at once", lambda pool: pool.slots),
        (
            "oldest_ready_step_seconds",
            "How long the longest waiting step of the pool waits for a worker",
            lambda pool: pool.oldest_ready_seconds,
        ),
    )
    for name, text, value in of_pool:
        family = GaugeMetricFamily(f"multifacet_{name}", text, labels=["pool"])
        for pool, found in pools.items():
            family.add_metric([pool], value(found))
        yield family


def _of_attempts(figures: SystemFigures) -> Iterator[Metric]:
    ended: dict[tuple[str, str], int] = {}
    expired: dict[str, int] = {}
    errors: dict[str, int] = {}
    for found in figures.attempts:
        ended[found.pool, found.state] = ended.get((found.pool, found.state), 0) + found.attempts
        if found.code == _LEASE_EXPIRED:
            expired[found.pool] = expired.get(found.pool, 0) + found.attempts
        if found.state == AttemptState.FAILED.value:
            errors[found.code] = errors.get(found.code, 0) + found.attempts
    family = CounterMetricFamily(
        "multifacet_attempts_ended", "Attempts at steps by pool and by how they ended", labels=["pool", "end"]
    )
    expiries = CounterMetricFamily(
        "multifacet_lease_expiries", "Attempts whose worker was not heard of for a whole lease", labels=["pool"]
    )
    for pool in _pools(figures):
        for end in _ENDED:
            family.add_metric([pool, end], ended.get((pool, end), 0))
        expiries.add_metric([pool], expired.get(pool, 0))
    yield family
    yield expiries
    codes = CounterMetricFamily(
        "multifacet_attempt_errors", "Failed attempts by the code of the error", labels=["code"]
    )
    for code, attempts in sorted(errors.items()):
        codes.add_metric([code], attempts)
    yield codes


def _of_workers(figures: SystemFigures) -> Iterator[Metric]:
    workers = GaugeMetricFamily(
        "multifacet_workers",
        "Worker processes that hear a pool: live, draining, or silent for a lease",
        labels=["pool", "state"],
    )
    counted = {(found.pool, found.state): found.workers for found in figures.workers}
    for pool in _pools(figures):
        for state in ("live", "draining", "silent"):
            workers.add_metric([pool, state], counted.get((pool, state), 0))
    yield workers
    of_group: tuple[tuple[str, str, Callable[[GroupFigures], float]], ...] = (
        ("minimum", "Workers of the group that never leave for idleness", lambda group: group.minimum),
        ("maximum", "Workers of the group that can be started at most", lambda group: group.maximum),
        ("desired", "Workers that the group should have", lambda group: group.desired),
        ("running", "Workers that the group has", lambda group: group.running),
        ("failures", "Starts in a row that ended in an early exit", lambda group: group.failures),
        ("paused", "1 while nothing is started because starts failed", lambda group: group.paused),
        ("seen_seconds", "Since the autoscaler looked at the group", lambda group: group.seen_seconds),
    )
    for name, text, value in of_group:
        family = GaugeMetricFamily(f"multifacet_worker_group_{name}", text, labels=["group"])
        for group in figures.groups:
            family.add_metric([group.name], value(group))
        yield family


def _of_models(figures: SystemFigures) -> Iterator[Metric]:
    """Teachers, judges and candidates by what was asked of them; deployments and GPUs."""

    def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"multifacet_llm_{name}", text, labels=["provider", "model", *labels])

    requests = counter("requests", "Requests sent to a provider: answered ones and failed tries")
    answers = counter(
        "answers", "Answers by source: paid for at the provider, or replayed from what was paid before", "source"
    )
    failed = counter("failed_tries", "Tries that failed and were made again, those answered 429 included")
    limited = counter("rate_limited", "Tries that were answered 429")
    tokens = counter("tokens", "Tokens of paid answers by kind", "kind")
    cost = counter("cost_usd", "Cost of paid answers in US dollars, where a price is known")
    unpriced = counter("unpriced_answers", "Paid answers of models without a known price")
    for used in figures.usage:
        names = [used.provider, used.model]
        requests.add_metric(names, used.calls + used.retries)
        answers.add_metric([*names, "provider"], used.calls)
        answers.add_metric([*names, "cache"], used.cached_calls)
        failed.add_metric(names, used.retries)
        limited.add_metric(names, used.rate_limited)
        tokens.add_metric([*names, "prompt"], used.prompt_tokens)
        tokens.add_metric([*names, "completion"], used.completion_tokens)
        cost.add_metric(names, used.cost_micro_usd / _MICRO)
        unpriced.add_metric(names, used.unpriced_calls)
    yield from (requests, answers, failed, limited, tokens, cost, unpriced)
    yield _by_state(
        "deployments", "Deployments by state", figures.deployments, [state.value for state in DeploymentState]
    )
    servers = [*(state.value for state in ServerState), "silent"]
    yield _by_state("model_servers", "Places of launchers by what runs there", figures.model_servers, servers)
    gpus = GaugeMetricFamily(
        "multifacet_gpu_slots", "GPUs by what has them: attempt, server or free", labels=["holder"]
    )
    for holder in ("attempt", "server", "free"):
        gpus.add_metric([holder], figures.gpus.get(holder, 0))
    yield gpus


def _pools(figures: SystemFigures) -> list[str]:
    """All that there are, and any that steps or workers of another release name."""
    found = {step.pool for step in figures.steps} | {attempt.pool for attempt in figures.attempts}
    return sorted(found | {worker.pool for worker in figures.workers} | set(SERVICES))


def _by_state(name: str, text: str, counts: dict[str, int], states: Iterable[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"multifacet_{name}", text, labels=["state"])
    for state in sorted({*counts, *states}):
        family.add_metric([state], counts.get(state, 0))
    return family


def _gauge(name: str, text: str, value: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"multifacet_{name}", text, value=float(value))
