"""Duty: ring for ready steps, never more than twice the slots that are free to answer."""

from collections.abc import Mapping, Sequence

from services.controller.state import ControllerState
from shared.metadata.repositories.scheduling import SchedulingRepository
from shared.metadata.repositories.workers import LiveWorker, WorkerRepository

DOORBELLS_PER_FREE_SLOT = 2


async def dispatch(state: ControllerState) -> None:
    """Choose steps for the free slots and write their doorbells."""
    settings = state.settings
    async with state.sessions() as session, session.begin():
        workers = await WorkerRepository(session).live(settings.lease_seconds)
        scheduling = SchedulingRepository(session)
        room = Room(workers, await scheduling.outstanding(settings.redispatch_seconds))
        if not room.queues:
            return
        candidates = await scheduling.candidates(room.queues, settings.redispatch_seconds, limit=room.limit)
        chosen = [candidate for candidate in candidates if room.take(candidate.queue)]
        if chosen:
            await scheduling.dispatch(chosen)


class Room:
    """Doorbells that may still be rung. Workers that hear the same queues share theirs; unanswered doorbells are charged
    first. A doorbell goes to the workers with the fewest roles that have room, so that the versatile stay free."""

    def __init__(self, workers: Sequence[LiveWorker], outstanding: Mapping[str, int]) -> None:
        self._left: dict[tuple[str, ...], int] = {}
        for worker in workers:
            roles = tuple(sorted(worker.roles))
            self._left[roles] = self._left.get(roles, 0) + DOORBELLS_PER_FREE_SLOT * worker.free
        for queue, rung in outstanding.items():
            for _ in range(rung):
                if not self.take(queue):
                    break

    @property
    def queues(self) -> list[str]:
        """Queues that have room."""
        return sorted({role for roles, left in self._left.items() if left > 0 for role in roles})

    @property
    def limit(self) -> int:
        """How many candidates are worth looking at: those of one queue must not hide another's."""
        return 50 + 10 * sum(self._left.values())

    def take(self, queue: str) -> bool:
        """Use up the room of one doorbell; False where there is none."""
        fitting = [roles for roles, left in self._left.items() if left > 0 and queue in roles]
        if not fitting:
            return False
        self._left[min(fitting, key=len)] -= 1
        return True
