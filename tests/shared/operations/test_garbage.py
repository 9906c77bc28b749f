"""What is past its age goes; what a job, a model, a bench or an evaluation needs never does."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.artifacts import layout
from shared.artifacts.directory import DirectoryStore
from shared.domain.errors import InputRefused
from shared.domain.identifiers import new_id
from shared.domain.jobs import JobSpec
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.jobs import JobConflict, JobRepository
from shared.metadata.repositories.retention import NO_REMOVAL_LOCK
from shared.metadata.tables import Job, UploadedFile
from shared.operations.garbage import Ages, Collector, Kind, Removal
from tests.support.control_plane import toy_spec, toy_taxonomy

PROJECT = "kept"
DAY = 86_400.0


class Shelf:
    """A database and a directory store with helpers that put jobs and objects of a chosen age there."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], store: DirectoryStore) -> None:
        self.sessions = sessions
        self.store = store

    async def job(self, days_ago: float | None, state: str = "succeeded", **spec: Any) -> Job:
        """A job that ended and settled so many days ago; None: it lives."""
        async with self.sessions() as session, session.begin():
            submitted = toy_spec(**spec) if "train" not in spec else JobSpec.model_validate({"name": "t", **spec})
            job, _ = await JobRepository(session).submit(PROJECT, submitted, toy_taxonomy(), teacher_is_simulator=True)
        if days_ago is not None:
            await self.execute(
                f"UPDATE job SET state = '{state}', finished_at = now(), settled_at = now() - interval '{days_ago} days' "
                f"WHERE id = '{job.id}'"
            )
        return job

    async def object(self, key: str, days_ago: float = 30.0, content: bytes = b"bytes") -> str:
        await self.store.put_bytes(key, content)
        os.utime(self.store.root / key, (time.time() - days_ago * DAY,) * 2)
        return key

    async def artifact(self, job: Job, stage: str, name: str, kind: str = "table") -> str:
        key = await self.object(f"{layout.job_folder(PROJECT, job.id)}/00-{stage}/{name}")
        stored = await self.store.put_bytes(key, b"content of an artifact")
        async with self.sessions() as session, session.begin():
            await ArtifactRepository(session).add(
                project_id=PROJECT, job_id=job.id, stage=stage, name=name, key=key, kind=kind, media_type="x/y",
                sha256=stored.sha256, size=stored.size,
            )  # fmt: skip
        return key

    async def upload(self, days_ago: float) -> UploadedFile:
        file_id = new_id("file")
        key = await self.object(layout.upload_key(PROJECT, file_id, "rows.jsonl"))
        row = UploadedFile(id=file_id, project_id=PROJECT, name="rows.jsonl", key=key, sha256="0" * 64, size=5)
        async with self.sessions() as session, session.begin():
            await FileRepository(session).add(row)
        await self.execute(
            f"UPDATE uploaded_file SET created_at = now() - interval '{days_ago} days' WHERE id = '{file_id}'"
        )
        return row

    async def execute(self, statement: str, **parameters: Any) -> Any:
        async with self.sessions() as session, session.begin():
            result = await session.execute(sa.text(statement), parameters)
            return result.all() if result.returns_rows else None

    async def collect(self, ages: Ages, **more: Any) -> list[Removal]:
        """Remove all that is found; what went."""
        collector = Collector(self.sessions, self.store, ages, **more)
        return [removal async for removal in collector.find() if await collector.remove(removal)]

    async def keys(self) -> set[str]:
        return {info.key async for info in self.store.list_objects("")}


@pytest.fixture
async def shelf(postgres_url: str, tmp_path: Path) -> AsyncIterator[Shelf]:
    engine = create_engine(postgres_url, pool_size=2)
    sessions = session_factory(engine)
    async with sessions() as session, session.begin():
        await session.execute(
            sa.text("TRUNCATE job, uploaded_file, artifact, registered_model, bench, idempotency_key, event CASCADE")
        )
    yield Shelf(sessions, DirectoryStore(tmp_path / "objects"))
    await engine.dispose()


async def test_nothing_goes_where_no_age_is_set(shelf: Shelf) -> None:
    job = await shelf.job(400)
    kept = {
        await shelf.artifact(job, "curate", "part-00000-1.parquet"),
        await shelf.object("artifacts/kept/job_x/00-curate/part-00000-9.parquet"),
        await shelf.object("checkpoints/kept/job_x/sft/step-00000001-1/manifest.json"),
    }
    await shelf.upload(400)
    assert await shelf.collect(Ages()) == []
    assert kept < await shelf.keys()


async def test_artifacts_of_jobs_that_ended_long_ago_go_and_their_records_say_so(shelf: Shelf) -> None:
    old, young, living = await shelf.job(40), await shelf.job(3), await shelf.job(None)
    gone = await shelf.artifact(old, "curate", "part-00000-1.parquet")
    stays = {
        await shelf.artifact(old, "curate", "manifest.json", "manifest"),
        await shelf.artifact(old, "report", "report.html", "report"),
        await shelf.artifact(young, "curate", "part-00000-2.parquet"),
        await shelf.artifact(living, "curate", "part-00000-3.parquet"),
    }
    (removed,) = await shelf.collect(Ages(artifacts=30 * DAY))
    assert (removed.kind, removed.subject, removed.count, removed.bytes) == (Kind.ARTIFACTS, old.id, 1, 22)
    assert await shelf.keys() == stays
    rows = await shelf.execute("SELECT key FROM artifact WHERE removed_at IS NOT NULL")
    assert [row.key for row in rows] == [gone]
    async with shelf.sessions() as session:
        listed = await ArtifactRepository(session).list(PROJECT, old.id)
        job = await JobRepository(session).require(PROJECT, old.id)
    assert {artifact.key for artifact in listed} < stays
    assert job.artifacts_removed_at is not None
    assert await shelf.collect(Ages(artifacts=30 * DAY)) == []


async def test_what_models_benches_evaluations_and_annotations_need_stays(shelf: Shelf) -> None:
    job = await shelf.job(400)
    stays = {
        await shelf.artifact(job, "sft", "model/config-1.json", "model"),
        await shelf.artifact(job, "bench", "bench-rows-2.parquet"),
        await shelf.artifact(job, "evaluate", "evaluation-3.json", "file"),
        await shelf.artifact(job, "compare-sft", "part-00000-4.parquet"),
    }
    await shelf.artifact(job, "curate", "part-00000-5.parquet")
    await shelf.execute(
        "INSERT INTO registered_model (id, project_id, job_id, stage, attempt_id, name, method, tuning, base, parameter_count, "
        "dtype, adapter_only, metrics, lineage) "
        "VALUES (:id, :p, :job, 'sft', 1, 'm', 'sft', 'full', '{}', 1, 'f', false, '{}', '{}')",
        id=new_id("model"), p=PROJECT, job=job.id,
    )  # fmt: skip
    await shelf.execute(
        "INSERT INTO bench (id, project_id, name, job_id, rows, items) VALUES (:id, :p, 'b', :job, 1, 1)",
        id=new_id("bench"), p=PROJECT, job=job.id,
    )  # fmt: skip
    await shelf.execute(
        "INSERT INTO stage (id, job_id, ordinal, name, kind, service, needs, barrier, parameters, state, partitioned, "
        "steps_total, steps_succeeded, ledger) VALUES (:id, :job, 50, 'compare-sft', 'compare', 'evaluation', '{}', false, '{}', "
        "'succeeded', true, 1, 1, '{}')",
        id=new_id("stage"), job=job.id,
    )  # fmt: skip
    await shelf.execute(
        "INSERT INTO annotation_task (id, project_id, name, job_id, first, second, seed, shows_preferences, items) "
        "VALUES (:id, :p, 'a', :job, 'x', 'y', 1, true, 0)",
        id=new_id("task"), p=PROJECT, job=job.id,
    )  # fmt: skip
    assert [removal.count for removal in await shelf.collect(Ages(artifacts=DAY))] == [1]
    assert await shelf.keys() == stays


async def test_what_a_living_job_names_stays_until_it_has_ended(shelf: Shelf) -> None:
    source = await shelf.job(400)
    kept = await shelf.artifact(source, "assemble", "exports/sft/train-1.parquet")
    training = {"name": "sft", "method": "sft", "base": {"random": "tiny-mistral"}, "data": {"job": source.id}}
    follower = await shelf.job(None, train=[training])
    assert await shelf.collect(Ages(artifacts=DAY)) == []
    assert await shelf.keys() == {kept}
    await shelf.execute("UPDATE job SET state = 'failed', settled_at = now() WHERE id = :id", id=follower.id)
    assert len(await shelf.collect(Ages(artifacts=DAY))) == 1

    async with shelf.sessions() as session, session.begin():
        with pytest.raises(JobConflict, match=f"{source.id} were removed because of their age"):
            await JobRepository(session).retry(PROJECT, follower.id)
    with pytest.raises(InputRefused, match=f"{source.id} were removed because of their age"):
        await shelf.job(None, train=[training])


async def test_a_job_whose_upload_went_after_it_was_checked_is_refused(shelf: Shelf) -> None:
    upload = await shelf.upload(60)
    await shelf.collect(Ages(uploads=30 * DAY))
    with pytest.raises(InputRefused, match=f"uploaded {upload.id} is not there, or not any more"):
        await shelf.job(None, sources=[{"file": upload.id}])


async def test_a_job_without_its_artifacts_is_not_taken_up_again(shelf: Shelf) -> None:
    job = await shelf.job(400, "failed")
    await shelf.artifact(job, "curate", "part-00000-1.parquet")
    await shelf.collect(Ages(artifacts=DAY))
    async with shelf.sessions() as session, session.begin():
        with pytest.raises(JobConflict, match="nothing to go on from"):
            await JobRepository(session).retry(PROJECT, job.id)


async def test_a_job_that_is_retried_after_it_was_found_keeps_its_artifacts(shelf: Shelf) -> None:
    job = await shelf.job(400, "failed")
    kept = await shelf.artifact(job, "curate", "part-00000-1.parquet")
    collector = Collector(shelf.sessions, shelf.store, Ages(artifacts=DAY))
    found = [removal async for removal in collector.find()]
    async with shelf.sessions() as session, session.begin():
        await JobRepository(session).retry(PROJECT, job.id)
    assert [await collector.remove(removal) for removal in found] == [False]
    assert await shelf.keys() == {kept}


async def test_nothing_that_a_snapshot_names_goes_while_a_backup_is_made(shelf: Shelf) -> None:
    await shelf.artifact(await shelf.job(400), "curate", "part-00000-1.parquet")
    await shelf.upload(400)
    ages = Ages(artifacts=DAY, uploads=DAY)
    async with shelf.sessions() as session, session.begin():
        await session.execute(sa.text(f"SELECT pg_advisory_xact_lock_shared({NO_REMOVAL_LOCK})"))
        assert await shelf.collect(ages) == []
    assert {removal.kind for removal in await shelf.collect(ages)} == {Kind.ARTIFACTS, Kind.UPLOAD}


async def test_uploads_go_with_the_last_job_that_named_them(shelf: Shelf) -> None:
    unused, used, benched, young = [await shelf.upload(days) for days in (60, 60, 60, 2)]
    job = await shelf.job(50, sources=[{"file": used.id}])
    await shelf.artifact(job, "curate", "part-00000-1.parquet")
    await shelf.execute(
        "INSERT INTO bench (id, project_id, name, file_id, rows, items) VALUES (:id, :p, 'b', :file, 1, 1)",
        id=new_id("bench"), p=PROJECT, file=benched.id,
    )  # fmt: skip
    removed = await shelf.collect(Ages(uploads=30 * DAY))
    assert [removal.subject for removal in removed] == [unused.id]
    removed = await shelf.collect(Ages(uploads=30 * DAY, artifacts=30 * DAY))
    assert {removal.subject for removal in removed} == {job.id, used.id}
    assert await shelf.keys() == {benched.key, young.key}


async def test_a_job_that_ended_long_ago_and_made_nothing_keeps_no_upload(shelf: Shelf) -> None:
    wrong, fresh, tried = [await shelf.upload(60) for _ in range(3)]
    for days, upload in ((50, wrong), (2, fresh)):
        job = await shelf.job(days, "failed", sources=[{"file": upload.id}])
        await shelf.artifact(job, "curate", "index.json", kind="manifest")
    await shelf.job(None, sources=[{"file": tried.id}])
    removed = await shelf.collect(Ages(uploads=30 * DAY))
    assert [removal.subject for removal in removed] == [wrong.id]


async def test_checkpoints_go_a_while_after_their_job_has_ended_and_no_sooner(shelf: Shelf) -> None:
    ended, young, living = await shelf.job(8, "failed"), await shelf.job(6, "failed"), await shelf.job(None)
    folders = [layout.checkpoint_prefix(PROJECT, job.id, "sft") for job in (ended, young, living)]
    for folder in folders:
        for name in ("manifest.json", "optimizer.pt"):
            await shelf.object(f"{folder}/step-00000010-1/{name}", days_ago=90)
    (removed,) = await shelf.collect(Ages(checkpoints=7 * DAY))
    assert (removed.subject, removed.count) == (ended.id, 2)
    assert removed.keys[0].endswith("/manifest.json")
    assert {key.split("/")[2] for key in await shelf.keys()} == {young.id, living.id}


async def test_objects_of_lost_attempts_go_when_they_are_old_and_what_may_still_be_committed_stays(
    shelf: Shelf,
) -> None:
    ended, living = await shelf.job(1), await shelf.job(None)
    await shelf.execute(
        "INSERT INTO step (id, job_id, stage_id, shard, queue, state, priority, dispatch_no, failures, losses, crash_repeats) "
        "SELECT 'step_g', job_id, id, 7, 'curation', 'running', 0, 1, 0, 1, 0 FROM stage WHERE job_id = :id LIMIT 1",
        id=living.id,
    )
    (lost,), (running,) = [
        await shelf.execute(
            "INSERT INTO attempt (step_id, worker_id, state) VALUES ('step_g', 'w', :state) RETURNING id", state=state
        )
        for state in ("lost", "running")
    ]
    of_ended, of_living = layout.job_folder(PROJECT, ended.id), layout.job_folder(PROJECT, living.id)
    gone = {
        await shelf.object(f"{of_ended}/10-augment/part-00001-5.parquet", 3),
        await shelf.object(f"{of_living}/10-augment/part-00001-{lost.id}.parquet", 3),
        await shelf.object("uploads/kept/file_never_recorded/rows.jsonl", 3),
        await shelf.object("probe/0123", 3),
    }
    stays = {
        await shelf.artifact(ended, "curate", "part-00000-1.parquet"),
        await shelf.object(f"{of_ended}/10-augment/part-00002-5.parquet", 0.5),
        await shelf.object(f"{of_living}/10-augment/part-00001-{running.id}.parquet", 3),
        await shelf.object(f"{of_living}/00-curate/manifest.json", 3),
    }
    removed = await shelf.collect(Ages(unnamed=DAY))
    assert {key for removal in removed for key in removal.keys} == gone
    assert await shelf.keys() == stays


async def test_bytes_that_a_killed_removal_left_behind_go_later(shelf: Shelf) -> None:
    job = await shelf.job(400)
    key = await shelf.artifact(job, "curate", "part-00000-1.parquet")
    await shelf.execute("UPDATE artifact SET removed_at = now()")
    os.utime(shelf.store.root / key, (time.time() - 2 * DAY,) * 2)
    (removed,) = await shelf.collect(Ages(unnamed=DAY))
    assert removed.keys == (key,)
    assert await shelf.keys() == set()


async def test_while_the_store_holds_jobs_that_the_database_does_not_know_nothing_unnamed_goes(shelf: Shelf) -> None:
    ended = await shelf.job(5)
    kept = {
        await shelf.object(f"{layout.job_folder(PROJECT, ended.id)}/10-augment/part-00001-5.parquet"),
        await shelf.object("artifacts/kept/job_of_another_system/00-curate/part-00000-1.parquet"),
        await shelf.object("checkpoints/kept/job_of_another_system/sft/step-00000001-1/manifest.json"),
    }
    collector = Collector(shelf.sessions, shelf.store, Ages(unnamed=DAY))
    assert [removal async for removal in collector.find()] == []
    assert (collector.unknown.jobs, collector.unknown.count) == (("job_of_another_system",), 2)
    assert await shelf.keys() == kept
    await shelf.collect(Ages(unnamed=DAY), unknown_jobs_too=True)
    assert await shelf.keys() == set()


async def test_a_manifest_that_was_recorded_after_it_was_found_stays(shelf: Shelf) -> None:
    job = await shelf.job(5)
    key = await shelf.object(f"{layout.job_folder(PROJECT, job.id)}/00-curate/manifest.json")
    collector = Collector(shelf.sessions, shelf.store, Ages(unnamed=DAY))
    found = [removal async for removal in collector.find()]
    await shelf.artifact(job, "curate", "manifest.json", "manifest")
    assert [removal.keys for removal in found] == [(key,)]
    assert [await collector.remove(removal) for removal in found] == [False]
    assert await shelf.keys() == {key}


async def test_old_events_go_but_for_those_of_the_jobs_state(shelf: Shelf) -> None:
    old, living = await shelf.job(40), await shelf.job(None)
    for job, last in ((old, 1299), (living, 19)):
        await shelf.execute(
            "INSERT INTO event (job_id, sequence, type, data) "
            "SELECT :job, number, 'stage.progress', '{}' FROM generate_series(2, CAST(:last AS int)) AS number",
            job=job.id, last=last,
        )  # fmt: skip
    (removed,) = await shelf.collect(Ages(events=30 * DAY))
    assert removed.count == 1298
    left = await shelf.execute("SELECT job_id, count(*) AS n, min(type) AS type FROM event GROUP BY job_id")
    assert {row.job_id: row.n for row in left} == {old.id: 1, living.id: 19}
    assert next(row.type for row in left if row.job_id == old.id) == "job.state"


async def test_old_idempotency_keys_and_reference_log_probabilities_go(shelf: Shelf) -> None:
    for key, days in (("old", 40), ("young", 1)):
        await shelf.execute(
            "INSERT INTO idempotency_key (project_id, key, request_sha256, job_id, created_at) "
            f"VALUES ('kept', :key, 'x', 'job_x', now() - interval '{days} days')",
            key=key,
        )
    old = await shelf.object(layout.reference_part_key(PROJECT, "abc", "part-0"), 40)
    young = await shelf.object(layout.reference_part_key(PROJECT, "def", "part-0"), 1)
    removed = await shelf.collect(Ages(idempotency_keys=30 * DAY, reference=30 * DAY))
    assert {removal.kind: removal.keys for removal in removed} == {Kind.REFERENCE: (old,), Kind.IDEMPOTENCY_KEYS: ()}
    assert [row.key for row in await shelf.execute("SELECT key FROM idempotency_key")] == ["young"]
    assert await shelf.keys() == {young}
