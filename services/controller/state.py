"""What the duties share while one controller leads: connections, and memories that only save work."""

import time

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
    shown_at: dict[str, float] = {}
    """Stage id -> when its progress was shown last (monotonic seconds)."""
    shown_costs: dict[str, tuple[int, int]] = {}
    """Job id -> cost and unpriced calls as told last."""
    costs_at: float = 0.0
    garbage_at: float = 0.0
    purged_at: float | None = None

    def due(self, key: str, seconds: float) -> bool:
        """Whether the progress of stage `key` was not shown for so long; if so, it counts as shown now."""
        now = time.monotonic()
        if now - self.shown_at.get(key, -seconds) < seconds:
            return False
        self.shown_at[key] = now
        return True
