"""The checker finds each violation that is planted, and none where there is none."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.domain.states import JobState
from shared.llm.cache import pack
from tests.chaos import invariants
from tests.chaos.invariants import compare, paid_twice
from tests.chaos.servers import Grounds
from tests.chaos.world import WORLD_VARIABLE, Interruption, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = 32


@pytest.fixture(scope="module")
def world(grounds: Grounds) -> Iterator[World]:
    """A world in which one job went well and one failed; its processes are still up."""
    made = World(grounds, 1)
    # A world keeps nothing of the loop it was started on, and each test has its own.
    with asyncio.Runner() as runner:
        runner.run(_lived(made))
    yield made
    with asyncio.Runner() as runner:
        runner.run(made.__aexit__(None, None, None))


async def _lived(world: World) -> None:
    await world.__aenter__()
    world.start_controller()
    world.start_worker()
    good = await world.submit(world.toy_spec("toy", ROWS))
    bad = await world.submit(world.toy_spec("refuse", ROWS), expect="failed")
    await world.wait(good.id)
    await world.wait(bad.id)


def good_job(world: World) -> str:
    return next(iter(world.expected))


class Planted:
    """A statement that plants a violation, taken back at the end."""

    def __init__(self, world: World, statement: str, undo: str) -> None:
        self._world, self._statement, self._undo = world, statement, undo

    def __enter__(self) -> None:
        self._world.execute(self._statement)

    def __exit__(self, *_: object) -> None:
        self._world.execute(self._undo)


async def test_a_world_without_faults_has_no_violation(world: World) -> None:
    assert await invariants.nothing_stuck(world) == []
    assert invariants.one_success(world) == []
    assert await invariants.bytes_match(world) == []
    assert invariants.ledgers_balance(world) == []
    assert invariants.no_secrets(world, invariants.database_dump(world)) == []
    assert invariants.no_prompts(world) == []
    report = invariants.Report([])
    await invariants.as_without_faults(world, report)
    assert (report.violations, report.lost_rows) == ([], 0)


@pytest.mark.parametrize(
    ("statement", "undo", "told"),
    [
        (
            "INSERT INTO outbox (step_id, dispatch_no, queue) VALUES ('nobody', 1, 'nowhere')",
            "DELETE FROM outbox WHERE step_id = 'nobody'",
            "doorbells that were not rung",
        ),
        (
            "UPDATE step SET state = 'ready' WHERE id = (SELECT min(id) FROM step WHERE queue = 'generation')",
            "UPDATE step SET state = 'succeeded' WHERE id = (SELECT min(id) FROM step WHERE queue = 'generation')",
            "steps that did not end",
        ),
        (
            "UPDATE attempt SET state = 'running', lease_until = now() + interval '1 hour' "
            "WHERE id = (SELECT max(id) FROM attempt WHERE state = 'succeeded')",
            "UPDATE attempt SET state = 'succeeded' WHERE state = 'running'",
            "attempts that did not end",
        ),
        (
            "INSERT INTO gpu_slot (host, device, holder, lease_until) VALUES ('h', 0, 'attempt:1', now() + interval '1 hour')",
            "DELETE FROM gpu_slot",
            "GPUs that nobody gave back",
        ),
        (
            "UPDATE event SET sequence = sequence + 100 WHERE sequence = 3",
            "UPDATE event SET sequence = 3 WHERE sequence = 103",
            "gaps",
        ),
    ],
    ids=["doorbell", "step", "attempt", "gpu", "events"],
)
async def test_what_is_stuck_is_found(
    world: World, statement: str, undo: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "QUIET_SECONDS", 0.0)
    for process in world.processes:
        world.signal(process, 19)  # the controller must not tidy up what is planted
    try:
        with Planted(world, statement, undo):
            found = await invariants.nothing_stuck(world)
    finally:
        for process in world.processes:
            world.signal(process, 18)
    assert any(told in violation for violation in found), found


async def test_a_job_that_ended_otherwise_is_found(world: World) -> None:
    expected = world.expected[good_job(world)]
    before, expected.states = expected.states, (JobState.CANCELLED,)
    try:
        assert any("is succeeded, not cancelled" in violation for violation in await invariants.nothing_stuck(world))
    finally:
        expected.states = before


async def test_a_second_success_of_a_step_is_found(world: World) -> None:
    step = world.value("SELECT min(id) FROM step WHERE state = 'succeeded'")
    with Planted(
        world,
        f"INSERT INTO attempt (step_id, worker_id, state) VALUES ('{step}', 'second', 'succeeded')",
        "DELETE FROM attempt WHERE worker_id = 'second'",
    ):
        assert any("attempts succeeded" in violation for violation in invariants.one_success(world))


async def test_an_artifact_of_a_lost_attempt_is_found(world: World) -> None:
    attempt = world.value("SELECT max(id) FROM attempt WHERE state = 'succeeded'")
    with Planted(
        world,
        f"UPDATE attempt SET state = 'lost' WHERE id = {attempt}",
        f"UPDATE attempt SET state = 'succeeded' WHERE id = {attempt}",
    ):
        found = invariants.one_success(world)
    assert any("did not succeed" in violation for violation in found), found
    assert any("without a succeeded attempt" in violation for violation in found), found


@pytest.fixture
def part(world: World) -> Path:
    """The file of one part of the good job."""
    key = world.value(
        "SELECT key FROM artifact WHERE job_id = %s AND stage = 'compose' AND name LIKE 'part-%%' ORDER BY name LIMIT 1",
        good_job(world),
    )
    return world.objects / str(key)


async def test_a_flipped_byte_and_a_missing_object_are_found(world: World, part: Path) -> None:
    content = part.read_bytes()
    try:
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert len(await invariants.bytes_match(world)) == 1
        part.unlink()
        assert any("not in the store" in violation for violation in await invariants.bytes_match(world))
    finally:
        part.write_bytes(content)


async def test_a_row_that_is_missing_or_changed_is_found(world: World, part: Path) -> None:
    content = part.read_bytes()
    table = pq.read_table(part)
    try:
        pq.write_table(table.slice(1), part)
        report = invariants.Report([])
        await invariants.as_without_faults(world, report)
        assert report.lost_rows == 1
        changed = pa.array(["another instruction", *table["instruction"].to_pylist()[1:]])
        pq.write_table(table.set_column(table.schema.get_field_index("instruction"), "instruction", changed), part)
        report = invariants.Report([])
        await invariants.as_without_faults(world, report)
        assert report.lost_rows == 0
        assert any("1 rows of compose/" in violation for violation in report.violations), report
    finally:
        part.write_bytes(content)


async def test_counts_that_do_not_add_up_are_found(world: World) -> None:
    stage = world.value("SELECT id FROM stage WHERE job_id = %s AND name = 'compose'", good_job(world))
    before = orjson.dumps(world.value("SELECT ledger FROM stage WHERE id = %s", stage)).decode()
    with Planted(
        world,
        f"UPDATE stage SET ledger = jsonb_set(ledger, '{{rows_out}}', '7') WHERE id = '{stage}'",
        f"UPDATE stage SET ledger = '{before}' WHERE id = '{stage}'",
    ):
        found = invariants.ledgers_balance(world)
    assert any("its steps" in violation for violation in found), found
    assert any("do not add up" in violation for violation in found), found
    assert any("7 came out of compose" in violation for violation in found), found


async def test_a_process_that_was_left_behind_is_found(world: World) -> None:
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, WORLD_VARIABLE: world.name},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 30
        while orphan.pid not in {process.pid for process in world.living()} and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert orphan.pid in {process.pid for process in world.living()}
    finally:
        orphan.kill()
        orphan.wait()
    assert orphan.pid not in {process.pid for process in world.living()}


@pytest.mark.parametrize("place", ["log", "object", "table cell", "stored answer", "error body"])
async def test_a_secret_is_found_wherever_it_stands(world: World, place: str, tmp_path: Path) -> None:
    secret = world.secrets["OPENAI_API_KEY"]
    log, planted = world.folder / "planted.log", world.objects / "planted.parquet"
    left: dict[str, bytes] = {}
    if place == "log":
        log.write_text(f"request with {secret} failed")
    elif place == "object":
        pq.write_table(pa.table({"text": [f"see {secret}"] * 3}), planted, compression="zstd")
    elif place == "table cell":
        world.execute("UPDATE job SET error = to_jsonb(%s::text) WHERE state = 'failed'", secret)
        left = invariants.database_dump(world)
    elif place == "stored answer":
        packed = pack(f"{secret} ".encode() * 200)
        world.execute(
            "INSERT INTO cached_completion (key, project_id, provider, model, body) VALUES (%s, 'p', 'p', 'm', %s)",
            b"k",
            packed,
        )
        left = invariants.database_dump(world)
    else:
        left = {"answer /v1/jobs": f'{{"detail": "{secret}"}}'.encode()}
    try:
        found = invariants.no_secrets(world, left)
    finally:
        log.unlink(missing_ok=True)
        planted.unlink(missing_ok=True)
        world.execute("DELETE FROM cached_completion")
        world.execute("UPDATE job SET error = NULL WHERE jsonb_typeof(error) = 'string'")
    assert found, place
    assert all("OPENAI_API_KEY" in violation for violation in found)


async def test_a_prompt_in_a_log_is_found(world: World) -> None:
    log = world.folder / "planted.log"
    log.write_text(f"asking: Explain this. Note {world.marker}7.")
    try:
        assert invariants.no_prompts(world) == ["prompt: the marker of an instruction stands in log planted.log"]
    finally:
        log.unlink()


KILL = Interruption(100.0, 100.0)


@pytest.mark.parametrize(
    ("times", "needless", "excused"),
    [
        ([(90.0, 91.0)], 0, 0),
        ([(90.0, 91.0), (110.0, 111.0)], 1, 0),
        ([(99.5, 100.5), (110.0, 111.0)], 0, 1),
        ([(99.0, 99.95), (110.0, 111.0)], 0, 1),
        ([(99.0, 99.85), (110.0, 111.0)], 1, 0),
        ([(99.5, 100.5), (110.0, 111.0), (112.0, 113.0)], 1, 1),
    ],
    ids=["once", "again", "in flight", "just answered", "answered in time", "twice more"],
)
def test_calls_paid_twice_are_those_that_no_kill_excuses(
    times: list[tuple[float, float]], needless: int, excused: int
) -> None:
    assert paid_twice({"body": times}, {}, [KILL], 0.1) == (needless, excused)


def test_a_call_that_is_made_twice_without_faults_too_is_not_paid_twice() -> None:
    assert paid_twice({"body": [(1.0, 2.0), (3.0, 4.0)]}, {"body": 2}, [], 0.1) == (0, 0)


def test_rows_of_a_cancelled_job_may_be_missing_but_not_differ() -> None:
    reference = {"augment/part-00000": {"a": "1", "b": "2"}, "compose/part-00000": {"a": "3", "b": "4"}}
    assert compare({"augment/part-00000": {"a": "1", "b": "2"}}, reference, complete=False) == (0, [])
    assert compare({"augment/part-00000": {"a": "1", "b": "2"}}, reference, complete=True) == (2, [])
    lost, differing = compare({"augment/part-00000": {"a": "1", "b": "9", "c": "5"}}, reference, complete=False)
    assert lost == 0
    assert differing == [
        "augment/part-00000 has 1 rows too many",
        "1 rows of augment/part-00000 differ, such as b",
    ]
