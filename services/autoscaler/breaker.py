"""Whether a group's starts succeed: after several that end at once nothing is started for a while, so that a broken image or a
database that is gone does not cost a start every two seconds."""

from collections.abc import Sequence

from services.autoscaler.engine import Container, ContainerState
from shared.domain.pools import FAILURES_BEFORE_PAUSE, pause_seconds

SETTLED_SECONDS = 20.0
"""A container that runs for so long after its start has started well."""


class StartBreaker:
    """Watches the starts of one group. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.failures = 0
        """Failed starts in a row."""
        self.paused_until = 0.0
        self._started: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}

    def started(self, container_id: str, now: float) -> None:
        self._started[container_id] = now

    def failed(self, container_id: str, now: float) -> None:
        """A start that the engine refused, or that ended with an error."""
        self._started.pop(container_id, None)
        self._failed_at[container_id] = now
        self.failures += 1
        self.paused_until = now + pause_seconds(self.failures)

    def watch(self, containers: Sequence[Container], now: float) -> None:
        """See what became of the starts, and of containers that crash without having been started here."""
        there = {container.id: container for container in containers}
        for container in containers:
            begun = self._started.get(container.id)
            crashed = container.state is not ContainerState.RUNNING and container.exit_status not in {None, 0}
            if container.state is ContainerState.CRASHING or (begun is not None and crashed):
                # A container that its engine restarts is seen in every round; one failure a pause is enough to be told.
                if begun is not None or now >= self.paused_until:
                    self.failed(container.id, now)
            elif begun is not None and (container.state is ContainerState.STOPPED or now - begun >= SETTLED_SECONDS):
                # It has worked for a while, or has left with 0 because there was nothing to do.
                if container.state is ContainerState.STOPPED and now - begun < 1.0:
                    continue  # the engine has not begun yet
                del self._started[container.id]
                self.failures, self.paused_until = 0, 0.0
        for gone in set(self._started) - set(there):
            del self._started[gone]

    def paused(self, now: float) -> bool:
        return self.failures >= FAILURES_BEFORE_PAUSE and now < self.paused_until

    def order(self, containers: Sequence[Container]) -> list[Container]:
        """Stopped containers in the order in which they should be started: those that failed come last, the latest at the end."""
        stopped = [container for container in containers if container.state is ContainerState.STOPPED]
        return sorted(stopped, key=lambda container: (self._failed_at.get(container.id, -1.0), container.id))
