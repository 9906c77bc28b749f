"""A whole step in a real child process: results, refusals, crashes, stops."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.artifacts.directory import DirectoryStore
from shared.domain.errors import InputRefused, StepDeferred, StepFailed
from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind
from shared.metadata.repositories.events import NewEvent
from shared.queue.lease import Lease
from shared.queue.retry_policy import EndKind
from shared.stages.job_data import JobData
from shared.stages.protocol import InputReference, WholeStepHandler
from shared.stages.row_runner import StepProduct, StepStopped
from shared.stages.step_runner import attempt_end
from shared.stages.whole_runner import ChildCrashed, ChildFailed, run_whole_step
from tests.shared.stages.test_row_runner import CLAIM
from tests.support.control_plane import toy_spec, toy_taxonomy

HANDLER = WholeStepHandler(StageKind.CURATE, "tests.support.toy_step:step")
STOPPING = WholeStepHandler(StageKind.TRAIN, "tests.support.toy_step:step", stops_itself=True)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


class Run:
    def __init__(self, folder: Path, name: str) -> None:
        self.store = DirectoryStore(folder / "store")
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.lease = Lease(CLAIM)
        self.reports: list[dict[str, Any]] = []
        self.events: list[NewEvent] = []
        self.reported = asyncio.Event()
        self.data = JobData(toy_spec(name), toy_taxonomy())

    async def __call__(self, grace: float = 0.5, handler: WholeStepHandler = HANDLER) -> StepProduct:
        stored = [await self.store.put_bytes(key, key.encode()) for key in ("one", "two")]

        async def report(progress: dict[str, Any]) -> None:
            self.reports.append(progress)
            self.reported.set()

        async def emit(events: Sequence[NewEvent]) -> None:
            self.events += events

        return await run_whole_step(
            lease=self.lease,
            handler=handler,
            data=self.data,
            # Two objects of one name from two places.
            inputs=[
                InputReference("curate", "same.txt", "one", stored[0].sha256, 1, {}),
                InputReference("upload", "same.txt", "two", stored[1].sha256, None, {"name": "mine"}),
            ],
            stage_ledgers={"curate": Ledger()},
            facts={"x": 5},
            store=self.store,
            folder=self.scratch,
            lineage={},
            report=report,
            emit=emit,
            grace_seconds=grace,
        )


async def test_inputs_reach_the_child_and_outputs_the_store(tmp_path: Path) -> None:
    run = Run(tmp_path, "work")
    product = await run()
    first, second = product.artifacts
    assert first.key == "artifacts/p/job_1/20-compose/sub/out-7.txt"
    assert second.key == "artifacts/p/job_1/README.md"
    assert await run.store.get_bytes(first.key) == b"curate/same.txt=one/None;upload/same.txt=two/mine|5|['curate']"
    assert (first.details, first.rows, product.summary) == ({"m": 1}, 1, {"note": "done"})
    assert product.ledger == Ledger(rows_in=1, rows_out=1)
    assert run.reports == [{"done": 1, "total": 2, "note": "half"}]


@pytest.mark.parametrize(
    ("name", "error", "fields"),
    [
        ("refuse", InputRefused, {"pointer": "/sources/0"}),
        ("fail", StepFailed, {"code": "nothing_left"}),
        ("defer", StepDeferred, {"seconds": 12.5}),
        ("missing", StepFailed, {"code": "output_missing"}),
        ("outside", StepFailed, {"code": "output_misplaced"}),
        ("segfault", ChildCrashed, {"signature": f"signal {int(signal.SIGSEGV)}"}),
        ("exit", ChildCrashed, {"signature": "exit status 3"}),
        ("full", OSError, {"errno": errno.ENOSPC}),
        ("segfault at 120", ChildCrashed, {"signature": f"signal {int(signal.SIGSEGV)}, started from step 120"}),
        ("import", StepFailed, {"code": "package_missing"}),
    ],
)
async def test_how_children_end(tmp_path: Path, name: str, error: type[Exception], fields: dict[str, Any]) -> None:
    with pytest.raises(error) as raised:
        await Run(tmp_path, name)()
    assert {field: getattr(raised.value, field) for field in fields} == fields


@pytest.mark.parametrize(("name", "place"), [("raise", "KeyError at toy_step.py"), ("unbalanced", "ValueError")])
async def test_an_exception_is_named_by_class_and_place_only(tmp_path: Path, name: str, place: str) -> None:
    with pytest.raises(ChildFailed) as raised:
        await Run(tmp_path, name)()
    assert raised.value.error.signature is not None
    assert raised.value.error.signature.startswith(place)
    assert "private" not in str(msgspec.to_builtins(raised.value.error))


async def wait_for_grandchild(run: Run) -> int:
    marker = run.scratch / "outputs" / "grandchild"
    async with asyncio.timeout(60):
        await run.reported.wait()
        while not marker.exists() or not marker.read_text():
            await asyncio.sleep(0.05)
    return int(marker.read_text())


async def assert_gone(pid: int) -> None:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")


async def test_the_point_that_an_exception_started_from_is_part_of_what_names_it(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as raised:
        await Run(tmp_path, "raise at 120")()
    signature = raised.value.error.signature or ""
    assert (signature.startswith("KeyError at"), signature.endswith(", started from step 120")) == (True, True)


async def test_events_come_in_order_and_all_of_them_before_the_result(tmp_path: Path) -> None:
    run = Run(tmp_path, "emit")
    await run()
    assert run.events == [("train.metrics", {"stage": "compose", "step": step, "loss": None}) for step in range(3000)]


async def test_an_event_of_another_type_is_refused_in_the_child(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as raised:
        await Run(tmp_path, "emit a state")()
    assert (raised.value.error.signature or "").startswith("ValueError at child_lines.py")


async def until_it_works(run: Run) -> int:
    """The pid of the child, once it waits."""
    async with asyncio.timeout(60):
        await run.reported.wait()
        while not (marker := run.scratch / "outputs" / "pid").exists() or not marker.read_text():
            await asyncio.sleep(0.05)
    return int(marker.read_text())


@pytest.mark.parametrize("reason", [EndKind.CANCELLED, EndKind.PREEMPTED])
async def test_a_step_that_stops_itself_is_told_at_once_and_may_put_its_work_away(
    tmp_path: Path, reason: EndKind
) -> None:
    run = Run(tmp_path, "stop itself")
    task = asyncio.create_task(run(60, STOPPING))
    await until_it_works(run)
    run.lease.request_stop(reason)
    with pytest.raises(StepStopped):
        await task
    assert (run.scratch / "outputs" / "put away").read_text() == "helper alive"
    assert run.events == [("note", {"stage": "compose", "message": "put away"})]
    assert attempt_end(StepStopped(), run.lease).kind is reason


async def test_a_step_that_somebody_else_told_to_stop_goes_back_without_a_retry(tmp_path: Path) -> None:
    run = Run(tmp_path, "stop itself")
    task = asyncio.create_task(run(60, STOPPING))
    os.kill(await until_it_works(run), signal.SIGTERM)
    with pytest.raises(StepStopped) as raised:
        await task
    end = attempt_end(raised.value, run.lease)
    assert (end.kind, "somebody else" in end.message) == (EndKind.PREEMPTED, True)


async def test_a_result_that_comes_while_the_worker_leaves_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, "finish when stopped")
    task = asyncio.create_task(run(60, STOPPING))
    await until_it_works(run)
    assert not run.lease.finished
    run.lease.request_stop(EndKind.PREEMPTED)
    assert (await task).summary == {"finished": True}
    assert run.lease.finished


@pytest.mark.parametrize("name", ["die of the stop", "fail in the stop", "ignore the stop"])
async def test_whatever_a_told_step_ends_of_is_taken_for_its_stop(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path, name)
    task = asyncio.create_task(run(0.5, STOPPING))
    pid = await until_it_works(run)
    run.lease.request_stop(EndKind.PREEMPTED)
    with pytest.raises(StepStopped):
        await task
    await assert_gone(pid)


async def test_a_step_that_was_stopped_before_its_child_started_starts_none(tmp_path: Path) -> None:
    run = Run(tmp_path, "work")
    run.lease.request_stop(EndKind.CANCELLED)
    with pytest.raises(StepStopped):
        await run(60)
    assert run.reports == []


@pytest.mark.parametrize("how", ["cancelled", "preempted", "lost", "task cancelled"])
async def test_a_stop_ends_the_whole_process_group(tmp_path: Path, how: str) -> None:
    run = Run(tmp_path, "hang")
    task = asyncio.create_task(run())
    grandchild = await wait_for_grandchild(run)
    if how == "task cancelled":
        task.cancel()
    elif how == "lost":
        run.lease.lose()
    else:
        run.lease.request_stop(EndKind(how))
    with pytest.raises(asyncio.CancelledError if how == "task cancelled" else StepStopped):
        await task
    await assert_gone(grandchild)


async def test_children_end_with_their_worker(tmp_path: Path) -> None:
    """A worker that is killed closes its end of the child's standard input, and the child's group ends."""
    run = Run(tmp_path, "hang")
    program = (
        "import asyncio, pathlib, sys; from tests.shared.stages.test_whole_runner import Run;"
        "asyncio.run(Run(pathlib.Path(sys.argv[1]), 'hang')())"
    )
    folder = tmp_path / "worker"
    folder.mkdir()
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(folder))
    run.scratch = folder / "scratch"
    run.reported.set()
    grandchild = await wait_for_grandchild(run)
    worker.kill()
    await worker.wait()
    await assert_gone(grandchild)
