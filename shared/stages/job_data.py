"""What every step of a job needs of it, parsed once per job and process."""

from collections import OrderedDict
from importlib import metadata

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlmodel import col

from shared.domain.jobs import JobSpec
from shared.domain.taxonomy import Taxonomy
from shared.metadata.tables import Job

_KEPT_JOBS = 8


def code_version() -> str:
    """Version of the installed distribution, as manifests and cards name it."""
    try:
        return metadata.version("multifacet")
    except metadata.PackageNotFoundError:
        return "unknown"


class JobData(msgspec.Struct, frozen=True):
    """A job's frozen parts."""

    spec: JobSpec
    taxonomy: Taxonomy


class JobDataCache:
    """The frozen parts of the jobs that this process worked on last."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions
        self._jobs: OrderedDict[str, JobData] = OrderedDict()

    async def get(self, job_id: str) -> JobData:
        """Raises LookupError for an unknown job."""
        found = self._jobs.get(job_id)
        if found is None:
            async with self._sessions() as session:
                query = sa.select(col(Job.spec), col(Job.taxonomy)).where(col(Job.id) == job_id)
                row = (await session.execute(query)).one_or_none()
            if row is None:
                raise LookupError(f"no job {job_id}")
            found = JobData(JobSpec.model_validate(row.spec), Taxonomy.model_validate(row.taxonomy))
            self._jobs[job_id] = found
        self._jobs.move_to_end(job_id)
        while len(self._jobs) > _KEPT_JOBS:
            self._jobs.popitem(last=False)
        return found
