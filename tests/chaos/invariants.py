"""What must hold after any fault. `check` looks at everything a world has left and reports each violation in words.

    nothing stuck         every job ended as its scenario expects; no step, attempt, GPU or doorbell is left open
    at most one success   per step; and no artifact of any other attempt
    bytes                 every artifact on record is in the store, with its sha256 and size
    rows                  rows in = rows out + rejected at every stage, and the parts hold what the ledgers say
    as without faults     rows equal those of the same job in a world without faults, part by part
    no orphan             no process is left when the world's processes have left
    no secret             in logs, in any table, in any object, in what the api answers about failed jobs
    no prompt             in any log
    paid once             no LLM call again whose answer came more than 100 ms before the kill

A failed or cancelled job may lack parts; what it has is held to the same.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from shared.artifacts.layout import part_name
from shared.artifacts.protocol import ObjectNotFound
from shared.artifacts.tables import iterate_rows, record_to_row, row_to_record
from shared.domain.identifiers import seed_of
from shared.domain.jobs import JobSpec
from shared.domain.ledger import Ledger, total
from shared.domain.rows import ROW_SCHEMA_VERSION, InstructionRow, row_to_builtins
from shared.domain.states import JobState
from shared.llm.cache import unpack
from tests.chaos.servers import Grounds
from tests.chaos.world import Interruption, World
from tests.support.toy_handlers import augmentation, composition, curation, generation

QUIET_SECONDS = 20.0
"""After the last job: doorbells of dispatched steps are published, rows of dead workers removed."""
FLUSH_SECONDS = 0.1
"""An answer that came so long before a kill is durable: promise 4."""

Parts = dict[str, dict[str, str]]
"""Stage and part -> row id -> digest of the row."""


class Made(msgspec.Struct):
    """What a job without faults makes."""

    parts: Parts
    calls: dict[str, int]
    """Digest of a call's body -> how often it is answered."""


class Report(msgspec.Struct):
    """Every violation in words, and the figures of the table."""

    violations: list[str]
    lost_rows: int = 0
    calls_paid_twice: int = 0
    calls_in_flight: int = 0
    """Calls made again because they were in flight, or just answered, at an interruption."""
    recovery_seconds: float | None = None


async def check(world: World) -> Report:
    """Check all invariants; at the end the world's processes have been told to leave and are gone."""
    report = Report([])
    note = report.violations.extend
    note(await nothing_stuck(world))
    note(one_success(world))
    note(await bytes_match(world))
    note(ledgers_balance(world))
    await as_without_faults(world, report)
    report.recovery_seconds = recovery_seconds(world)
    left = {**await error_bodies(world), **database_dump(world)}
    note(await no_orphans(world))
    note(no_secrets(world, left))
    note(no_prompts(world))
    return report


# ---- nothing stuck ---------------------------------------------------------------------------------------------------
_OPEN = {
    "steps that did not end": (
        "SELECT s.id || ' ' || g.name || '/' || s.shard || ' is ' || s.state FROM step s JOIN stage g ON g.id = s.stage_id "
        "WHERE s.state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')"
    ),
    "stages that did not end": (
        "SELECT job_id || ' ' || name || ' is ' || state FROM stage "
        "WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')"
    ),
    "attempts that did not end": "SELECT id || ' of ' || step_id FROM attempt WHERE state = 'running'",
    "jobs that were not settled": "SELECT id || ' is ' || state FROM job WHERE settled_at IS NULL",
    "GPUs that nobody gave back": (
        "SELECT host || '/' || device || ' held by ' || holder FROM gpu_slot WHERE holder LIKE 'attempt:%'"
    ),
    "doorbells that were not rung": "SELECT id || ' for ' || step_id FROM outbox",
}


async def nothing_stuck(world: World) -> list[str]:
    """Give the controller a while to tidy up, then whatever is still open is stuck."""
    deadline = time.monotonic() + QUIET_SECONDS * world.pace
    while True:
        found = {name: [row[0] for row in world.rows(query)] for name, query in _OPEN.items()}
        if not any(found.values()) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    violations = [f"stuck: {name}: {'; '.join(seen[:5])}" for name, seen in found.items() if seen]
    for job_id, state, error in world.rows("SELECT id, state, error FROM job"):
        wanted = world.expected[job_id].states if job_id in world.expected else (state,)
        if state not in wanted:
            violations.append(f"stuck: job {job_id} is {state}, not {' or '.join(wanted)}: {error}")
    gaps = world.rows(
        "SELECT job_id, count(*), max(sequence) FROM event GROUP BY job_id HAVING count(*) <> max(sequence) OR min(sequence) <> 1"
    )
    violations += [f"events of {job_id} have gaps: {count} of {last}" for job_id, count, last in gaps]
    return violations


# ---- at most one success ---------------------------------------------------------------------------------------------
_TWICE = {
    "attempts succeeded": (
        "SELECT step_id, count(*) FROM attempt WHERE state = 'succeeded' GROUP BY step_id HAVING count(*) > 1"
    ),
    "attempts run at once": "SELECT step_id, count(*) FROM attempt WHERE state = 'running' GROUP BY step_id HAVING count(*) > 1",
    "artifacts of one name": (
        "SELECT job_id || ' ' || stage || '/' || name, count(*) FROM artifact GROUP BY job_id, stage, name HAVING count(*) > 1"
    ),
    "artifacts of an attempt that did not succeed": (
        "SELECT artifact.id, 1 FROM artifact LEFT JOIN attempt ON attempt.id = attempt_id "
        "WHERE artifact.step_id IS NOT NULL AND attempt.state IS DISTINCT FROM 'succeeded'"
    ),
    "succeeded steps without a succeeded attempt": (
        "SELECT step.id, 1 FROM step WHERE state = 'succeeded' AND NOT EXISTS "
        "(SELECT FROM attempt WHERE step_id = step.id AND attempt.state = 'succeeded')"
    ),
}


def one_success(world: World) -> list[str]:
    return [
        f"twice: {name}: {'; '.join(f'{what} ({count})' for what, count in rows[:5])}"
        for name, query in _TWICE.items()
        if (rows := world.rows(query))
    ]


# ---- bytes -----------------------------------------------------------------------------------------------------------
async def bytes_match(world: World) -> list[str]:
    """Read every artifact on record from the store."""
    violations = []
    uploads = "UNION ALL SELECT 'upload ' || id, key, sha256, size FROM uploaded_file"
    for name, key, digest, size in world.rows(
        f"SELECT stage || '/' || name, key, sha256, size FROM artifact {uploads}"
    ):
        try:
            content = await world.store.get_bytes(key)
        except ObjectNotFound:
            violations.append(f"bytes: {name} is on record but not in the store ({key})")
            continue
        if len(content) != size or sha256(content).hexdigest() != digest:
            violations.append(f"bytes: {name} has {len(content)} bytes for {size}, or another sha256 ({key})")
    return violations


# ---- rows ------------------------------------------------------------------------------------------------------------
_TOY_STAGES = (("augment", augmentation.process), ("compose", composition.process), ("respond", generation.process))
_ROW_STAGES = ("augment", "compose", "respond")


def ledgers_balance(world: World) -> list[str]:
    """Counts of steps and stages of succeeded jobs, and of the parts that they wrote."""
    violations = []
    for job_id in world.expected:
        stages = world.rows(
            "SELECT id, name, kind, state, ledger FROM stage WHERE job_id = %s ORDER BY ordinal", job_id
        )
        before: tuple[str, Ledger, int] | None = None
        for stage_id, name, kind, state, stored in stages:
            if state != "succeeded":
                before = None
                continue
            ledger = msgspec.convert(stored, Ledger)
            steps = [row[0] for row in world.rows("SELECT ledger FROM step WHERE stage_id = %s", stage_id)]
            summed = total(msgspec.convert(step, Ledger) for step in steps if step is not None)
            if summed != ledger:
                violations.append(f"rows: {name} of {job_id} counts {stored}, its steps {msgspec.to_builtins(summed)}")
            try:
                ledger.check()
            except ValueError as error:
                violations.append(f"rows: {name} of {job_id}: {error}")
            written = world.value(
                "SELECT coalesce(sum(rows), 0)::bigint FROM artifact WHERE job_id = %s AND stage = %s AND name LIKE 'part-%%'",
                job_id,
                name,
            )
            if kind in _ROW_STAGES and before is not None:
                if ledger.rows_in != before[1].rows_out:
                    violations.append(
                        f"rows: {before[1].rows_out} came out of {before[0]}, {ledger.rows_in} into {name} ({job_id})"
                    )
                if written != before[2]:
                    violations.append(
                        f"rows: parts of {before[0]} hold {before[2]}, those of {name} {written} ({job_id})"
                    )
            if kind == "curate" and written != ledger.rows_out:
                violations.append(f"rows: {ledger.rows_out} came out of {name}, its parts hold {written} ({job_id})")
            before = (name, ledger, written) if kind in (*_ROW_STAGES, "curate") else None
        succeeded = world.value("SELECT state FROM job WHERE id = %s", job_id) == JobState.SUCCEEDED
        if succeeded and any(state != "succeeded" for _, _, _, state, _ in stages):
            violations.append(f"rows: {job_id} succeeded with stages that did not")
    return violations


async def parts_of(world: World, job_id: str) -> Parts:
    """Every row of the job's parts by its id, as a digest of all its fields."""
    parts: Parts = {}
    query = "SELECT stage, name, key FROM artifact WHERE job_id = %s AND schema_version = %s AND name LIKE 'part-%%'"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        for stage, name, key in world.rows(query, job_id, ROW_SCHEMA_VERSION):
            await world.store.get_file(key, path)
            rows: dict[str, str] = {}
            for row in iterate_rows(path):
                again = row.row_id in rows
                rows[f"{row.row_id} again" if again else row.row_id] = digest_of(row)
            parts[f"{stage}/{name}"] = rows
    return parts


def digest_of(row: InstructionRow) -> str:
    """Of all fields, as they are after a way through a table."""
    plain = row_to_builtins(record_to_row(row_to_record(row)))
    return sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def as_without_faults(world: World, report: Report) -> None:
    answered = _answers_by_body(world)
    allowed: dict[str, int] = defaultdict(int)
    for job_id, expected in world.expected.items():
        if not expected.compare or expected.spec is None:
            continue
        reference = await reference_of(world, expected.spec, expected.rows)
        found = await parts_of(world, job_id)
        succeeded = world.value("SELECT state FROM job WHERE id = %s", job_id) == JobState.SUCCEEDED
        lost, differing = compare(found, reference.parts, complete=succeeded)
        report.lost_rows += lost
        if lost:
            report.violations.append(f"lost: {lost} rows of {job_id} that a run without faults has")
        report.violations += [f"other rows: {text} ({job_id})" for text in differing]
        for digest, count in reference.calls.items():
            allowed[digest] = max(allowed[digest], count)
    if answered:
        report.calls_paid_twice, report.calls_in_flight = paid_twice(
            answered, allowed, world.interruptions, FLUSH_SECONDS + world.lag_seconds
        )
        if report.calls_paid_twice:
            report.violations.append(f"paid twice: {report.calls_paid_twice} calls whose answers had come in good time")


def compare(found: Parts, reference: Parts, *, complete: bool) -> tuple[int, list[str]]:
    """Rows of `reference` that are missing (counted at the stage that lacks most), and what else differs in words."""
    lost: dict[str, int] = defaultdict(int)
    differing = []
    for part, rows in reference.items():
        mine = found.get(part)
        if mine is None:
            if complete:
                lost[part.partition("/")[0]] += len(rows)
            continue
        lost[part.partition("/")[0]] += len(rows.keys() - mine.keys())
        if more := mine.keys() - rows.keys():
            differing.append(f"{part} has {len(more)} rows too many")
        if other := [row for row in rows.keys() & mine.keys() if rows[row] != mine[row]]:
            differing.append(f"{len(other)} rows of {part} differ, such as {min(other)}")
    differing += [f"{part} is of no run without faults" for part in found.keys() - reference.keys()]
    return max(lost.values(), default=0), differing


async def reference_of(world: World, wanted: JobSpec, rows: int) -> Made:
    """What the same spec makes in a world of the same kind without faults; made once per process."""
    spec = json.loads(wanted.model_dump_json())
    for source in spec["sources"]:
        if source["file"] is not None:
            source["file"] = "the same"
    # Not by the spec alone: a spec names no number of rows, its file has them.
    name = f"{rows} rows, {seed_of(world.handlers, orjson.dumps(spec, option=orjson.OPT_SORT_KEYS))}"
    if name not in world.grounds.references:
        world.grounds.references[name] = (
            await _toy_reference(wanted)
            if world.handlers == "toy"
            else await _make_reference(world.grounds, wanted, rows)
        )
    found: Made = world.grounds.references[name]  # type: ignore[assignment]
    return found


async def _toy_reference(spec: JobSpec) -> Made:
    """Toy handlers depend on the row alone, so they are asked here, without a world."""
    parts: Parts = {}
    shards = curation.curated(spec)
    for stage, process in (("curate", None), *_TOY_STAGES):
        for number, shard in enumerate(shards):
            for row in shard:
                if process is not None:
                    context = SimpleNamespace(spec=spec.model_copy(update={"name": "toy"}), job_id="", stage=stage)
                    await process(row, context)  # type: ignore[arg-type]
            parts[f"{stage}/{part_name(number)}"] = {row.row_id: digest_of(row) for row in shard}
        if stage == spec.stop_after:
            break
    return Made(parts, {})


async def _make_reference(grounds: Grounds, spec: JobSpec, rows: int) -> Made:
    async with World(grounds, 0, handlers="real") as clean:
        if rows:
            file = (await clean.real_spec(rows)).sources[0].file
            sources = tuple(source.model_copy(update={"file": file}) for source in spec.sources)
            spec = spec.model_copy(update={"sources": sources})
        clean.start_controller()
        clean.start_worker()
        job = await clean.submit(spec)
        await clean.wait(job.id, 240)
        calls = {digest: len(times) for digest, times in _answers_by_body(clean).items()}
        return Made(await parts_of(clean, job.id), calls)


# ---- paid once -------------------------------------------------------------------------------------------------------
Times = tuple[float, float]


def _answers_by_body(world: World) -> dict[str, list[Times]]:
    """Digest of a body -> when its answered calls (status 200) started and ended."""
    answered: dict[str, list[Times]] = defaultdict(list)
    for call in world.simulator.calls():
        if call["status"] == 200:
            answered[str(call["digest"])].append((float(call["started"]), float(call["ended"])))  # type: ignore[arg-type]
    return answered


def paid_twice(
    answered: dict[str, list[Times]],
    allowed: dict[str, int],
    interruptions: Iterable[Interruption],
    flush_seconds: float,
) -> tuple[int, int]:
    """How many answered calls were made again without need, and how many because of an interruption.

    `allowed` is how often a run without faults makes each (once where it does not say). An interruption excuses one repeat of
    each call that was in flight then or answered less than `flush_seconds` before.
    """
    needless = excused = 0
    told = list(interruptions)
    for digest, times in answered.items():
        more = len(times) - max(1, allowed.get(digest, 1))
        if more <= 0:
            continue
        cut_off = sum(
            any(started <= one.until and ended >= one.at - flush_seconds for one in told) for started, ended in times
        )
        excused += min(more, cut_off)
        needless += max(0, more - cut_off)
    return needless, excused


# ---- processes -------------------------------------------------------------------------------------------------------
async def no_orphans(world: World) -> list[str]:
    """Tell all to leave, then look for whoever still carries the world's name."""
    violations = []
    for name, status in (await world.stop_all()).items():
        # uvicorn ends in order and then by the signal that told it to; so does what had not begun, and has said nothing yet.
        by_signal = name.startswith("api") or not (world.folder / f"{name}.log").stat().st_size
        in_order = (0, -9, -15) if by_signal else (0, -9)
        if status not in in_order and name not in world.may_fail:
            violations.append(f"left badly: {name} ended with {status}")
    deadline = time.monotonic() + 5 * world.pace
    while (left := world.living()) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return violations + [f"orphan: {' '.join(process.cmdline()[-4:])} ({process.pid})" for process in left]


# ---- secrets and prompts ---------------------------------------------------------------------------------------------
async def error_bodies(world: World) -> dict[str, bytes]:
    """What the api answers about jobs that did not succeed, and about a wrong key."""
    failed = [row[0] for row in world.rows("SELECT id FROM job WHERE state = 'failed'")]
    if not failed:
        return {}
    if world.api_url is None:
        await world.start_api()
    bodies = {}
    for job_id in failed:
        for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/steps", f"/v1/jobs/{job_id}/events", f"/jobs/{job_id}"):
            headers = {"Accept": "application/json"} if path.startswith("/v1") else {}
            bodies[f"answer {path}"] = (await world.ask("GET", path, headers=headers)).content
    bodies["answer with a wrong key"] = (
        await world.ask("GET", "/v1/jobs", headers={"Authorization": "Bearer mf_wrong"})
    ).content
    return bodies


def no_secrets(world: World, left: dict[str, bytes]) -> list[str]:
    """Search logs, objects and what else the system `left` for each planted secret."""
    places = {**log_files(world), **store_objects(world), **left}
    return [
        f"secret: {name} stands in {place}"
        for place, content in places.items()
        for name, secret in world.secrets.items()
        if secret.encode() in content
    ]


def no_prompts(world: World) -> list[str]:
    return [
        f"prompt: the marker of an instruction stands in {place}"
        for place, content in log_files(world).items()
        if world.marker.encode() in content
    ]


def log_files(world: World) -> dict[str, bytes]:
    return {f"log {path.name}": path.read_bytes() for path in world.folder.rglob("*.log")}


def database_dump(world: World) -> dict[str, bytes]:
    """Every table as text; stored answers as they were before compression."""
    tables = world.rows(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind = 'r'"
    )
    dump = {
        f"table {name}": "\n".join(str(row[0]) for row in world.rows(f'SELECT t::text FROM "{name}" t')).encode()
        for (name,) in tables
    }
    bodies = [unpack(bytes(row[0])) for row in world.rows("SELECT body FROM cached_completion")]
    return {**dump, "stored answers": b"\n".join(bodies)}


def store_objects(world: World) -> dict[str, bytes]:
    """Every object, named by an artifact or not; tables as the text of their cells."""
    objects = {}
    for path in world.objects.rglob("*"):
        if path.is_file():
            name = f"object {path.relative_to(world.objects)}"
            objects[name] = path.read_bytes()
            if path.suffix == ".parquet":
                try:
                    objects[f"{name}, read"] = repr(pq.read_table(path).to_pylist()).encode()
                except pa.ArrowInvalid:
                    continue  # an object that a fault has damaged: its bytes were looked at
    return objects


# ---- recovery --------------------------------------------------------------------------------------------------------
def recovery_seconds(world: World) -> float | None:
    """The longest time from the end of a fault to the next success of a step."""
    found = []
    for mark in world.marks:
        query = (
            "SELECT extract(epoch FROM min(ended_at))::float8 FROM attempt "
            "WHERE state = 'succeeded' AND ended_at > to_timestamp(%s)"
        )
        ended = world.value(query, mark)
        if ended is not None:
            found.append(ended - mark)
    return max(found, default=None)
