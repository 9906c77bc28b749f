"""What the duties share while one controller leads: connections, and memories that only save work."""

import asyncio
from contextlib import suppress

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.artifacts.protocol import ArtifactStore
from shared.queue.doorbell import DoorbellPublisher
from shared.settings import Settings


class ControllerState(msgspec.Struct):
    """A new leader starts with empty memories: everything that matters is in the database."""

    settings: Settings
    sessions: async_sessionmaker[AsyncSession]
    store: ArtifactStore
    publisher: DoorbellPublisher
    rolled_up_at: float = float("-inf")
    """When progress was shown last (monotonic seconds)."""
    shown_costs: dict[str, tuple[int, int]] = {}
    """Job id -> cost and unpriced calls as told last."""
    garbage_at: float = 0.0
    purged_at: float | None = None
    cleaned_at: float | None = None
    cleaning: asyncio.Task[None] | None = None
    """The look for what is past its age, beside the duties."""

    async def close(self) -> None:
        """End what goes on beside the duties."""
        if self.cleaning is not None:
            self.cleaning.cancel()
            with suppress(asyncio.CancelledError):
                await self.cleaning
