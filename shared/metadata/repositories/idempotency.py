"""Which job an Idempotency-Key made: asked before anything else is checked, so that a repeated request always gets its job."""

from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.errors import InputRefused
from shared.metadata.tables import IdempotencyKey


class IdempotencyRepository:
    """Keys that submissions have used; `JobRepository.submit` writes them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def job_of(self, project_id: str, key: str, request_sha256: str) -> str | None:
        """Id of the job that this key made, None for an unused key. Raises InputRefused when the body was another one."""
        used = await self._session.get(IdempotencyKey, (project_id, key))
        if used is None:
            return None
        if used.request_sha256 != request_sha256:
            raise InputRefused(
                f"the idempotency key {key!r} was used for another request body (job {used.job_id}); "
                "repeat that body or send a new key"
            )
        return used.job_id
