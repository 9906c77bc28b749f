"""One shard of a row stage: every row is counted, a bad row takes nobody along, a stop commits nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.artifacts.directory import DirectoryStore
from shared.artifacts.protocol import ArtifactCorrupt
from shared.artifacts.tables import read_rows, write_rows
from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind
from shared.domain.rows import ROW_SCHEMA_VERSION, Facet, InstructionRow, Rejection
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Artifact
from shared.queue.lease import Lease
from shared.queue.retry_policy import EndKind
from shared.stages.protocol import RowContext, RowStageHandler
from shared.stages.row_runner import StepProduct, StepStopped, run_row_step
from tests.support.control_plane import toy_spec, toy_taxonomy

Process = Callable[[InstructionRow, RowContext], Awaitable[InstructionRow]]

CLAIM = Claim(
    attempt_id=7,
    step_id="step_1",
    shard=3,
    rows_expected=None,
    project_id="p",
    job_id="job_1",
    stage="compose",
    kind="compose",
    ordinal=2,
    needs=("augment",),
    parameters={},
    budget_micro_usd=None,
)


def make_rows(count: int, facets: int = 2) -> list[InstructionRow]:
    return [
        InstructionRow(f"{n:016x}", f"instruction {n}", "s", "s", n, facets=[Facet(i) for i in range(facets)])
        for n in range(count)
    ]


class Shard:
    """A shard in a directory store, and what running a handler over it did."""

    def __init__(self, folder: Path, rows: list[InstructionRow], stage: str = "compose") -> None:
        self.folder = folder
        self.rows = rows
        self.store = DirectoryStore(folder / "store")
        self.lease = Lease(CLAIM)
        self.reports: list[dict[str, Any]] = []
        self.flushed = 0
        self.started: list[int] = []
        self.stage = stage
        self.sha256: str | None = None
        self.beside: dict[str, Artifact] = {}

    async def run(self, process: Process, at_once: int = 8, *, takes_rejected: bool = False) -> StepProduct:
        source = self.folder / "source.parquet"
        write_rows(source, self.rows)
        stored = await self.store.put_file("in.parquet", source)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)

        async def report(_: Ledger, progress: dict[str, Any]) -> None:
            self.reports.append(progress)

        async def flush() -> None:
            self.flushed += 1

        part = Artifact(key="in.parquet", sha256=self.sha256 or stored.sha256)  # type: ignore[call-arg]
        context = RowContext("job_1", self.stage, toy_spec(), toy_taxonomy(), None, None)  # type: ignore[arg-type]
        return await run_row_step(
            lease=self.lease,
            handler=RowStageHandler(StageKind.COMPOSE, process, {}, takes_rejected=takes_rejected),
            context=context,
            part=part,
            beside=self.beside,
            store=self.store,
            folder=scratch,
            maximum_rows_at_once=at_once,
            lineage={"inputs": ["a"]},
            report=report,
            flush=flush,
            rows_started=lambda: self.started.append(len(self.rows)),
        )

    def output(self, product: StepProduct) -> list[InstructionRow]:
        return read_rows(self.store.root / product.artifacts[0].key)


async def fill(row: InstructionRow, _: RowContext) -> InstructionRow:
    for facet in row.facets:
        facet.system = "s"
    return row


async def test_the_part_is_written_under_the_attempts_key_with_all_rows_in_order(tmp_path: Path) -> None:
    shard = Shard(tmp_path, make_rows(50))

    async def slowly(row: InstructionRow, context: RowContext) -> InstructionRow:
        await asyncio.sleep(0.01 * (row.source_row % 3))
        return await fill(row, context)

    product = await shard.run(slowly)
    (part,) = product.artifacts
    assert (part.key, part.rows, part.schema_version) == (
        "artifacts/p/job_1/20-compose/part-00003-7.parquet",
        50,
        ROW_SCHEMA_VERSION,
    )
    assert product.ledger == Ledger(50, 50, 0, 100, 100, 0, {})
    rows = shard.output(product)
    assert [row.source_row for row in rows] == list(range(50))
    assert all(facet.system == "s" for row in rows for facet in row.facets)
    assert shard.flushed == 1


async def test_it_is_told_once_that_no_row_is_left_to_start_while_the_last_ones_still_run(tmp_path: Path) -> None:
    shard = Shard(tmp_path, make_rows(20))
    ended_when_told: list[int] = []
    ended = 0

    async def count(row: InstructionRow, context: RowContext) -> InstructionRow:
        nonlocal ended
        await asyncio.sleep(0.01)
        if shard.started and not ended_when_told:
            ended_when_told.append(ended)
        ended += 1
        return await fill(row, context)

    await shard.run(count, at_once=4)
    assert shard.started == [20]
    assert 16 <= ended_when_told[0] < 20


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["keep", "reject one", "reject all", "raise", "dead before"]), max_size=30), st.data())
def test_whatever_happens_to_rows_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], data: st.DataObject
) -> None:
    rows = make_rows(len(fates))
    for row, fate in zip(rows, fates, strict=True):
        if fate == "dead before":
            for facet in row.facets:
                facet.rejection = Rejection("augment", "early")

    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        fate = fates[row.source_row]
        assert fate != "dead before", "a row without a living facet needs no processing"
        if fate == "raise":
            row.facets[0].rejection = Rejection(context.stage, "before the fault")
            raise KeyError("text")
        for facet in row.facets[: {"keep": 0, "reject one": 1, "reject all": 2}[fate]]:
            facet.rejection = Rejection(context.stage, "reason")
        return row

    shard = Shard(tmp_path_factory.mktemp("shard"), rows)
    product = asyncio.run(shard.run(process, at_once=data.draw(st.integers(1, 9))))
    count = {fate: fates.count(fate) for fate in ("keep", "reject one", "reject all", "raise", "dead before")}
    living = len(fates) - count["dead before"]
    ledger = product.ledger
    ledger.check()
    assert (ledger.rows_in, ledger.rows_out) == (living, count["keep"] + count["reject one"])
    assert ledger.facets_in == 2 * living
    expected = {
        "reason": count["reject one"] + 2 * count["reject all"],
        "internal_error": count["raise"],
        "before the fault": count["raise"],
    }
    assert ledger.reasons == {reason: number for reason, number in expected.items() if number}
    assert len(shard.output(product)) == len(fates), "rejected rows stay in the part"


async def test_a_stage_that_takes_rejected_rows_writes_down_what_they_lack_and_counts_them_nowhere(
    tmp_path: Path,
) -> None:
    rows = make_rows(3)
    for facet in rows[1].facets:
        facet.rejection = Rejection("answer", "empty")
    shard = Shard(tmp_path, rows)
    product = await shard.run(fill, takes_rejected=True)
    assert [[facet.system for facet in row.facets] for row in shard.output(product)] == [["s", "s"]] * 3
    assert (product.ledger.rows_in, product.ledger.rows_out, product.ledger.facets_in) == (2, 2, 4)


async def test_a_fault_where_facets_are_made_counts_the_facets_that_should_have_been(tmp_path: Path) -> None:
    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        raise ValueError("no facets")

    product = await Shard(tmp_path, make_rows(2, facets=0)).run(process)
    assert product.ledger == Ledger(2, 0, 2, 6, 0, 6, {"internal_error": 6})


async def test_a_handler_that_drops_facets_is_at_fault(tmp_path: Path) -> None:
    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        return InstructionRow(row.row_id, row.instruction, "s", "s", row.source_row, facets=row.facets[:1])

    product = await Shard(tmp_path, make_rows(3)).run(process)
    assert product.ledger.reasons == {"internal_error": 6}


@pytest.mark.parametrize(
    "error", [StepDeferred("wait", 5), StepFailed("budget_exhausted", "spent"), InputRefused("bad", "/teacher")]
)
async def test_errors_about_the_step_pass_and_stop_the_others(tmp_path: Path, error: Exception) -> None:
    started = []

    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        started.append(row.source_row)
        if row.source_row == 2:
            raise error
        await asyncio.sleep(60)
        return row

    with pytest.raises(type(error)) as raised:
        await Shard(tmp_path, make_rows(20)).run(process, at_once=4)
    assert raised.value is error
    assert len(started) == 4


async def test_a_final_error_outweighs_a_wait(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        if row.source_row == 0:
            gate.set()
            raise StepDeferred("wait", 5)
        await gate.wait()
        raise StepFailed("authentication_failed", "no key")

    with pytest.raises(StepFailed):
        await Shard(tmp_path, make_rows(2)).run(process)


async def test_a_stop_lets_rows_under_way_finish_and_starts_no_more(tmp_path: Path) -> None:
    shard = Shard(tmp_path, make_rows(30))
    finished = []

    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        shard.lease.request_stop(EndKind.CANCELLED)
        await asyncio.sleep(0.01)
        finished.append(row.source_row)
        return row

    with pytest.raises(StepStopped):
        await shard.run(process, at_once=4)
    assert sorted(finished) == [0, 1, 2, 3]
    assert [path for path in (shard.store.root).rglob("*.parquet") if path.name != "in.parquet"] == []


async def test_at_most_the_wanted_number_of_rows_is_under_way(tmp_path: Path) -> None:
    running, most = 0, 0

    async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return row

    await Shard(tmp_path, make_rows(40)).run(process, at_once=5)
    assert most == 5


async def test_input_that_is_not_what_was_recorded_is_not_used(tmp_path: Path) -> None:
    shard = Shard(tmp_path, make_rows(1))
    shard.sha256 = "0" * 64
    with pytest.raises(ArtifactCorrupt):
        await shard.run(fill)


async def test_the_rows_of_further_stages_are_given_by_stage_and_id(tmp_path: Path) -> None:
    shard = Shard(tmp_path, make_rows(3))
    other = tmp_path / "other.parquet"
    rows = make_rows(3)
    for row in rows:
        row.category = f"beside {row.source_row}"
    write_rows(other, rows)
    stored = await shard.store.put_file("other.parquet", other)
    shard.beside = {"baseline": Artifact(key="other.parquet", sha256=stored.sha256)}  # type: ignore[call-arg]

    async def compare(row: InstructionRow, context: RowContext) -> InstructionRow:
        row.category = context.beside["baseline"][row.row_id].category
        return row

    product = await shard.run(compare)
    assert [row.category for row in shard.output(product)] == ["beside 0", "beside 1", "beside 2"]
