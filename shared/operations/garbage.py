"""Garbage: what is past its age and needed by nothing. Found first, so that it can be shown; removed in small portions.

Nothing that a job that lives names is removed, no model, no bench, no evaluation, and nothing while a backup is made. Records go
before bytes: whoever is killed in between leaves objects that nothing names, which a later look finds.
"""

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.artifacts.protocol import ArtifactStore, ObjectInfo
from shared.metadata.repositories.retention import RetentionRepository
from shared.settings import Settings

_BATCH = 500
"""Keys in one question to the database, and rows in one removal."""

_ATTEMPT = re.compile(r"-(\d+)(?:\.[^./]*)?$")
"""The attempt in the key of an object that an attempt wrote, see `layout.attempt_key`."""


class Kind(StrEnum):
    """What goes."""

    ARTIFACTS = "artifacts"
    UPLOAD = "upload"
    CHECKPOINTS = "checkpoints"
    UNNAMED = "unnamed objects"
    REFERENCE = "reference log-probabilities"
    EVENTS = "events"
    IDEMPOTENCY_KEYS = "idempotency keys"


class Ages(msgspec.Struct, frozen=True):
    """Seconds after which something goes; 0: it stays."""

    unnamed: float = 0.0
    checkpoints: float = 0.0
    artifacts: float = 0.0
    uploads: float = 0.0
    events: float = 0.0
    idempotency_keys: float = 0.0
    reference: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Ages":
        return cls(
            unnamed=settings.retention_unnamed_seconds,
            checkpoints=settings.retention_checkpoints_seconds,
            artifacts=settings.retention_artifacts_seconds,
            uploads=settings.retention_uploads_seconds,
            events=settings.retention_events_seconds,
            idempotency_keys=settings.retention_idempotency_seconds,
            reference=settings.retention_reference_seconds,
        )


class Removal(msgspec.Struct, frozen=True):
    """One thing that would go: `subject` is an id or a folder of keys, `count` its objects or rows, `bytes` their size."""

    kind: Kind
    subject: str
    count: int
    bytes: int
    why: str
    keys: tuple[str, ...] = ()


class Unknown(msgspec.Struct, frozen=True):
    """Objects of jobs that the database does not know. While there are any, nothing unnamed is removed: the store may be another
    system's, or the database may have been restored from before them."""

    jobs: tuple[str, ...] = ()
    count: int = 0
    bytes: int = 0


class Collector:
    """Finds garbage and removes it. A removal asks again, under locks, whether it is still garbage."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        store: ArtifactStore,
        ages: Ages,
        *,
        unknown_jobs_too: bool = False,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._ages = ages
        self._unknown_jobs_too = unknown_jobs_too
        self.unknown = Unknown()
        """What `find` met."""

    async def find(self) -> AsyncIterator[Removal]:
        """All that is past its age now, kind by kind."""
        if self._ages.artifacts:
            async for removal in self._old_artifacts():
                yield removal
        if self._ages.uploads:
            async for removal in self._old_uploads():
                yield removal
        if self._ages.checkpoints:
            async for removal in self._old_checkpoints():
                yield removal
        if self._ages.unnamed:
            async for removal in self._unnamed():
                yield removal
        if self._ages.reference:
            async for removal in self._old_references():
                yield removal
        if self._ages.events:
            async with self._sessions() as session:
                events = await RetentionRepository(session).count_old_events(self._ages.events)
            if events:
                yield Removal(Kind.EVENTS, "of ended jobs", events, 0, _older(self._ages.events))
        if self._ages.idempotency_keys:
            async with self._sessions() as session:
                keys = await RetentionRepository(session).count_old_idempotency_keys(self._ages.idempotency_keys)
            if keys:
                yield Removal(Kind.IDEMPOTENCY_KEYS, "of submissions", keys, 0, _older(self._ages.idempotency_keys))

    async def remove(self, removal: Removal) -> bool:
        """Remove it; False where it is needed by now, or a backup is made."""
        match removal.kind:
            case Kind.ARTIFACTS:
                keys: Sequence[str] = await self._release_artifacts(removal.subject)
            case Kind.UPLOAD:
                keys = removal.keys if await self._release_upload(removal.subject) else ()
            case Kind.CHECKPOINTS:
                keys = removal.keys if await self._settled(removal.subject, self._ages.checkpoints) else ()
            case Kind.UNNAMED:
                keys = await self._still_unnamed(removal.keys)
            case Kind.REFERENCE:
                keys = removal.keys
            case Kind.EVENTS:
                return await self._remove_events()
            case Kind.IDEMPOTENCY_KEYS:
                async with self._sessions() as session, session.begin():
                    removed = await RetentionRepository(session).remove_old_idempotency_keys(
                        self._ages.idempotency_keys
                    )
                return removed > 0
        for key in keys:
            await self._store.delete(key)
        return bool(keys)

    async def _old_artifacts(self) -> AsyncIterator[Removal]:
        async with self._sessions() as session:
            jobs = await RetentionRepository(session).jobs_with_old_artifacts(self._ages.artifacts)
        for job in jobs:
            why = f"job {job.name!r} ended {job.settled_at:%Y-%m-%d}"
            yield Removal(Kind.ARTIFACTS, job.id, job.objects, job.bytes, why)

    async def _release_artifacts(self, job_id: str) -> list[str]:
        async with self._sessions() as session, session.begin():
            retention = RetentionRepository(session)
            if not await retention.take_references():
                return []
            if not await retention.jobs_with_old_artifacts(self._ages.artifacts, job_id):
                return []
            return await retention.mark_artifacts_removed(job_id)

    async def _old_uploads(self) -> AsyncIterator[Removal]:
        async with self._sessions() as session:
            uploads = await RetentionRepository(session).old_uploads(self._ages.uploads)
        for file in uploads:
            why = f"{file.name!r} of {file.created_at:%Y-%m-%d}, used by nothing"
            yield Removal(Kind.UPLOAD, file.id, 1, file.bytes, why, (file.key,))

    async def _release_upload(self, file_id: str) -> bool:
        async with self._sessions() as session, session.begin():
            retention = RetentionRepository(session)
            if not await retention.take_references() or not await retention.old_uploads(self._ages.uploads, file_id):
                return False
            await retention.remove_upload(file_id)
            return True

    async def _old_checkpoints(self) -> AsyncIterator[Removal]:
        found: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        async for info in self._store.list_objects("checkpoints/"):
            if (job_id := _job_of(info.key)) is not None:
                found[job_id].append(info)
        for job_id, infos in found.items():
            if await self._settled(job_id, self._ages.checkpoints):
                # A manifest goes before its files: what is half removed is seen by nobody.
                infos.sort(key=lambda info: not info.key.endswith("/manifest.json"))
                yield _objects(Kind.CHECKPOINTS, job_id, infos, f"its job ended, {_older(self._ages.checkpoints)}")

    async def _settled(self, job_id: str, seconds: float) -> bool:
        async with self._sessions() as session:
            standing = (await RetentionRepository(session).standings([job_id])).get(job_id)
        return standing is not None and standing.settled_seconds is not None and standing.settled_seconds > seconds

    async def _unnamed(self) -> AsyncIterator[Removal]:
        before = await self._before(self._ages.unnamed)
        found: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        unknown: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        for prefix in ("artifacts/", "checkpoints/", "uploads/", "probe/"):
            old: list[ObjectInfo] = []
            async for info in self._store.list_objects(prefix):
                if info.written_at < before:
                    old.append(info)
                if len(old) == _BATCH:
                    await self._sort_out(old, found, unknown)
                    old = []
            await self._sort_out(old, found, unknown)
        of_unknown = [info for infos in unknown.values() for info in infos]
        jobs = sorted({folder.split("/")[2] for folder in unknown})
        self.unknown = Unknown(tuple(jobs), len(of_unknown), sum(info.size for info in of_unknown))
        if unknown and not self._unknown_jobs_too:
            return
        for folder, infos in sorted({**found, **unknown}.items()):
            for start in range(0, len(infos), _BATCH):
                some = infos[start : start + _BATCH]
                yield _objects(Kind.UNNAMED, folder, some, f"no record names them, {_older(self._ages.unnamed)}")

    async def _sort_out(
        self,
        infos: Sequence[ObjectInfo],
        found: defaultdict[str, list[ObjectInfo]],
        unknown: defaultdict[str, list[ObjectInfo]],
    ) -> None:
        """Put those of the objects that nothing names and nobody writes into `found`, or `unknown`, by folder."""
        async with self._sessions() as session:
            retention = RetentionRepository(session)
            named = await retention.named_keys([info.key for info in infos])
            rest = [info for info in infos if info.key not in named]
            if not rest:
                return
            jobs = {job_id for info in rest if (job_id := _job_of(info.key)) is not None}
            standings = await retention.standings(jobs)
            ended = await retention.ended_attempts({number for info in rest if (number := _attempt_of(info.key))})
        for info in rest:
            folder = "/".join(info.key.split("/")[:3])
            job_id = _job_of(info.key)
            if job_id is None:
                found[folder].append(info)
            elif job_id not in standings:
                unknown[folder].append(info)
            elif info.key.startswith("checkpoints/"):
                continue  # no record names a checkpoint: they go by the age of their job's end
            elif standings[job_id].settled_seconds is not None or _attempt_of(info.key) in ended:
                found[folder].append(info)

    async def _still_unnamed(self, keys: Sequence[str]) -> list[str]:
        """A manifest whose record was never written gets one when its job is retried."""
        async with self._sessions() as session:
            named = await RetentionRepository(session).named_keys(keys)
        return [key for key in keys if key not in named]

    async def _old_references(self) -> AsyncIterator[Removal]:
        before = await self._before(self._ages.reference)
        found: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
        async for info in self._store.list_objects("cache/"):
            if info.written_at < before:
                found["/".join(info.key.split("/")[:4])].append(info)
        for folder, infos in found.items():
            yield _objects(Kind.REFERENCE, folder, infos, _older(self._ages.reference))

    async def _remove_events(self) -> bool:
        any_removed = False
        while True:
            async with self._sessions() as session, session.begin():
                removed = await RetentionRepository(session).remove_old_events(self._ages.events, _BATCH)
            any_removed |= removed > 0
            if removed < _BATCH:
                return any_removed

    async def _before(self, seconds: float) -> datetime:
        async with self._sessions() as session:
            return await RetentionRepository(session).now() - timedelta(seconds=seconds)


def _objects(kind: Kind, subject: str, infos: Sequence[ObjectInfo], why: str) -> Removal:
    keys = tuple(info.key for info in infos)
    return Removal(kind, subject, len(infos), sum(info.size for info in infos), why, keys)


def _job_of(key: str) -> str | None:
    """The job that an object belongs to; None for uploads and probes."""
    parts = key.split("/")
    return parts[2] if parts[0] in ("artifacts", "checkpoints") and len(parts) > 3 else None


def _attempt_of(key: str) -> int | None:
    found = _ATTEMPT.search(key)
    return int(found[1]) if found and len(found[1]) <= 18 else None


def _older(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds / length
            return f"older than {count:g} {unit}{'s' if count != 1 else ''}"
    return f"older than {seconds:g} seconds"
