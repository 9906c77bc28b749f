"""What is past its age and needed by nothing: the questions and the removals of retention.

Who names something (a submission, a retry, a new bench) and who removes it take turns: the former hold `hold_references` until
their transaction ends, the latter `take_references`. A backup holds `NO_REMOVAL_LOCK` while it reads what its snapshot names.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.identifiers import NAMED_IDENTIFIER

NO_REMOVAL_LOCK = 0x6D66_6B65_6570
"""Key of the advisory lock: 'mfkeep' in ASCII. Held shared by a backup, exclusive by a removal."""

REFERENCES_LOCK = 0x6D66_7265_6673
"""Key of the advisory lock: 'mfrefs' in ASCII."""

_ENDED = "('succeeded', 'failed', 'cancelled')"

_NAMED = f"regexp_matches(spec::text, '{NAMED_IDENTIFIER}', 'g')"

_NAMED_BY_LIVING = f"(SELECT ({_NAMED})[1] FROM job WHERE settled_at IS NULL)"
"""Ids that the spec of a job names that has not ended and settled."""

_NAMED_BY_KEPT = f"""
    (SELECT ({_NAMED})[1] FROM job WHERE artifacts_removed_at IS NULL AND NOT (
        state IN {_ENDED} AND settled_at < now() - make_interval(secs => :seconds) AND NOT EXISTS (
            SELECT FROM artifact WHERE artifact.job_id = job.id AND artifact.kind NOT IN ('manifest', 'report', 'card'))))
"""
"""Ids that the spec of a job names whose artifacts are kept. A job that ended long ago and made nothing keeps nothing."""

_REMOVABLE = """
    artifact.removed_at IS NULL AND artifact.kind NOT IN ('manifest', 'report', 'card')
    AND NOT EXISTS (SELECT FROM registered_model AS model WHERE model.job_id = artifact.job_id AND model.stage = artifact.stage)
    AND NOT EXISTS (SELECT FROM bench WHERE bench.job_id = artifact.job_id AND artifact.stage = 'bench')
    AND NOT EXISTS (SELECT FROM stage JOIN annotation_task AS task ON task.job_id = stage.job_id
                    WHERE stage.job_id = artifact.job_id AND stage.name = artifact.stage AND stage.kind = 'compare')
    AND artifact.stage <> 'evaluate'
"""
"""Not what models, benches and evaluations are made of, what people's verdicts are held against, and the small records of what
there was."""


class OldJob(msgspec.Struct, frozen=True):
    """An ended job whose artifacts are past their age: how many of them nothing needs, and their bytes."""

    id: str
    name: str
    settled_at: datetime
    objects: int
    bytes: int


class OldUpload(msgspec.Struct, frozen=True):
    id: str
    name: str
    key: str
    created_at: datetime
    bytes: int


class JobStanding(msgspec.Struct, frozen=True):
    """Whether a job has ended and nothing of it runs any more, and for how many seconds."""

    settled_seconds: float | None


class RetentionRepository:
    """One transaction's view of what may go. Ages are in seconds, by the database's clock."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold_references(self) -> None:
        """Nothing that this transaction names is removed before it ends."""
        await self._session.execute(sa.text(f"SELECT pg_advisory_xact_lock_shared({REFERENCES_LOCK})"))

    async def take_references(self) -> bool:
        """Until this transaction ends nobody names anything new. False while a backup is made, and while a submission is under
        way: nothing is removed then, and nobody waits for a removal that waits."""
        for lock in (NO_REMOVAL_LOCK, REFERENCES_LOCK):
            free = await self._session.execute(sa.text(f"SELECT pg_try_advisory_xact_lock({lock})"))
            if not free.scalar_one():
                return False
        return True

    async def now(self) -> datetime:
        found: datetime = (await self._session.execute(sa.text("SELECT clock_timestamp()"))).scalar_one()
        return found

    async def jobs_with_old_artifacts(self, seconds: float, job_id: str | None = None) -> list[OldJob]:
        """Jobs that settled so long ago, keep artifacts that nothing needs, and are named by no job that lives; oldest first.
        `job_id` asks of one job alone."""
        rows = await self._session.execute(
            sa.text(
                f"""
                SELECT job.id, job.name, job.settled_at, count(*)::int AS objects, sum(artifact.size)::bigint AS bytes
                FROM job JOIN artifact ON artifact.job_id = job.id
                WHERE job.state IN {_ENDED} AND job.settled_at < now() - make_interval(secs => :seconds)
                  AND job.artifacts_removed_at IS NULL AND (CAST(:job_id AS text) IS NULL OR job.id = :job_id)
                  AND job.id NOT IN {_NAMED_BY_LIVING} AND {_REMOVABLE}
                GROUP BY job.id ORDER BY job.settled_at
                """
            ),
            {"seconds": seconds, "job_id": job_id},
        )
        return [OldJob(row.id, row.name, row.settled_at, row.objects, row.bytes) for row in rows]

    async def mark_artifacts_removed(self, job_id: str) -> list[str]:
        """Say of a job that its artifacts are removed, and of each that nothing needs; returns their keys. The caller has asked
        `jobs_with_old_artifacts` in the same transaction."""
        marked = await self._session.execute(
            sa.text(f"UPDATE job SET artifacts_removed_at = now() WHERE id = :id AND state IN {_ENDED} RETURNING id"),
            {"id": job_id},
        )
        if marked.scalar_one_or_none() is None:  # taken up again by a retry
            return []
        removed = await self._session.execute(
            sa.text(f"UPDATE artifact SET removed_at = now() WHERE job_id = :id AND {_REMOVABLE} RETURNING key"),
            {"id": job_id},
        )
        return sorted(removed.scalars())

    async def old_uploads(self, seconds: float, file_id: str | None = None) -> list[OldUpload]:
        """Uploads of that age that no bench holds and that no job names whose artifacts are kept; oldest first."""
        rows = await self._session.execute(
            sa.text(
                f"""
                SELECT id, name, key, created_at, size FROM uploaded_file AS file
                WHERE created_at < now() - make_interval(secs => :seconds)
                  AND (CAST(:file_id AS text) IS NULL OR id = :file_id)
                  AND NOT EXISTS (SELECT FROM bench WHERE bench.file_id = file.id) AND id NOT IN {_NAMED_BY_KEPT}
                ORDER BY id
                """
            ),
            {"seconds": seconds, "file_id": file_id},
        )
        return [OldUpload(row.id, row.name, row.key, row.created_at, row.size) for row in rows]

    async def remove_upload(self, file_id: str) -> None:
        await self._session.execute(sa.text("DELETE FROM uploaded_file WHERE id = :id"), {"id": file_id})

    async def named_keys(self, keys: Collection[str]) -> set[str]:
        """Those of the keys at which a record says that bytes are."""
        rows = await self._session.execute(
            sa.text(
                "SELECT key FROM artifact WHERE key = ANY(:keys) AND removed_at IS NULL "
                "UNION ALL SELECT key FROM uploaded_file WHERE key = ANY(:keys)"
            ),
            {"keys": list(keys)},
        )
        return set(rows.scalars())

    async def standings(self, job_ids: Collection[str]) -> dict[str, JobStanding]:
        """Of those of the jobs that are known."""
        rows = await self._session.execute(
            sa.text(
                f"""
                SELECT id, CASE WHEN state IN {_ENDED} THEN extract(epoch FROM now() - settled_at)::float8 END AS settled
                FROM job WHERE id = ANY(:ids)
                """
            ),
            {"ids": list(job_ids)},
        )
        return {row.id: JobStanding(row.settled) for row in rows}

    async def ended_attempts(self, attempt_ids: Collection[int]) -> set[int]:
        """Those of the attempts that do not run any more."""
        rows = await self._session.execute(
            sa.text("SELECT id FROM attempt WHERE id = ANY(:ids) AND state <> 'running'"), {"ids": list(attempt_ids)}
        )
        return set(rows.scalars())

    async def removed_references(self, project_id: str, identifiers: Collection[str]) -> Sequence[str]:
        """Those of the identifiers that are jobs whose artifacts were removed, sorted."""
        rows = await self._session.execute(
            sa.text(
                "SELECT id FROM job WHERE project_id = :project_id AND id = ANY(:ids) AND artifacts_removed_at IS NOT NULL "
                "ORDER BY id"
            ),
            {"project_id": project_id, "ids": list(identifiers)},
        )
        return list(rows.scalars())

    async def unknown_uploads(self, project_id: str, identifiers: Collection[str]) -> Sequence[str]:
        """Those of the identifiers that name uploads which the project does not have, sorted."""
        uploads = sorted(one for one in identifiers if one.startswith("file_"))
        rows = await self._session.execute(
            sa.text("SELECT id FROM uploaded_file WHERE project_id = :project_id AND id = ANY(:ids)"),
            {"project_id": project_id, "ids": uploads},
        )
        known = set(rows.scalars())
        return [one for one in uploads if one not in known]

    async def count_old_events(self, seconds: float) -> int:
        """Events that `remove_old_events` would remove."""
        query = sa.text(f"SELECT count(*) FROM event JOIN job ON job.id = event.job_id WHERE {_OLD_EVENT}")
        return int((await self._session.execute(query, {"seconds": seconds})).scalar_one())

    async def remove_old_events(self, seconds: float, limit: int) -> int:
        """Remove events of jobs that settled so long ago, but for those of their state; returns how many went."""
        removed = await self._session.execute(
            sa.text(
                f"""
                DELETE FROM event USING (
                    SELECT event.job_id, event.sequence FROM event JOIN job ON job.id = event.job_id
                    WHERE {_OLD_EVENT} LIMIT :limit
                ) AS old
                WHERE event.job_id = old.job_id AND event.sequence = old.sequence RETURNING event.sequence
                """
            ),
            {"seconds": seconds, "limit": limit},
        )
        return len(removed.all())

    async def count_old_idempotency_keys(self, seconds: float) -> int:
        query = sa.text(
            "SELECT count(*) FROM idempotency_key WHERE created_at < now() - make_interval(secs => :seconds)"
        )
        return int((await self._session.execute(query, {"seconds": seconds})).scalar_one())

    async def remove_old_idempotency_keys(self, seconds: float) -> int:
        """Requests that repeat a key from now on make new jobs; returns how many went."""
        removed = await self._session.execute(
            sa.text(
                "DELETE FROM idempotency_key WHERE created_at < now() - make_interval(secs => :seconds) RETURNING key"
            ),
            {"seconds": seconds},
        )
        return len(removed.all())


_OLD_EVENT = (
    f"job.state IN {_ENDED} AND job.settled_at < now() - make_interval(secs => :seconds) AND event.type <> 'job.state'"
)
