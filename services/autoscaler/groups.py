"""Containers as groups of one kind of worker, and what their labels say."""

from collections.abc import Iterable, Mapping

import msgspec

from services.autoscaler.engine import (
    GPU_HOST_LABEL,
    MAXIMUM_LABEL,
    MINIMUM_LABEL,
    ROLES_LABEL,
    STEPS_LABEL,
    Container,
    ContainerState,
)
from shared.domain.errors import InputRefused
from shared.domain.plan import SERVICES

DEFAULT_STEPS = 4


class Group(msgspec.Struct, frozen=True):
    """All containers that serve the same roles."""

    name: str
    """The roles, sorted, with commas between; `all` for all of them; with `@host` where they lease that machine's GPUs."""
    roles: tuple[str, ...]
    containers: tuple[Container, ...]
    minimum: int
    maximum: int
    steps_per_worker: int
    gpu_host: str | None

    @property
    def running(self) -> int:
        """Containers that run, or that their engine is about to start again."""
        return sum(container.state is not ContainerState.STOPPED for container in self.containers)


def grouped(containers: Iterable[Container]) -> list[Group]:
    """The groups, by name. Raises InputRefused for a label that cannot be read, naming it."""
    members: dict[tuple[tuple[str, ...], str | None], list[Container]] = {}
    for container in containers:
        key = (_roles(container.labels[ROLES_LABEL]), container.labels.get(GPU_HOST_LABEL) or None)
        members.setdefault(key, []).append(container)
    groups = [_group(roles, host, tuple(found)) for (roles, host), found in members.items()]
    return sorted(groups, key=lambda group: group.name)


def _group(roles: tuple[str, ...], host: str | None, containers: tuple[Container, ...]) -> Group:
    labels = containers[0].labels
    name = "all" if roles == tuple(sorted(SERVICES)) else ",".join(roles)
    minimum = _number(labels, MINIMUM_LABEL, 0, least=0)
    maximum = min(len(containers), _number(labels, MAXIMUM_LABEL, len(containers), least=0))
    return Group(
        name if host is None else f"{name}@{host}",
        roles,
        containers,
        min(minimum, maximum),
        maximum,
        _number(labels, STEPS_LABEL, DEFAULT_STEPS, least=1),
        host,
    )


def _roles(text: str) -> tuple[str, ...]:
    if text.strip() == "all":
        return tuple(sorted(SERVICES))
    roles = tuple(sorted({part.strip() for part in text.split(",")}))
    unknown = sorted(set(roles) - set(SERVICES))
    if unknown:
        raise InputRefused(
            f"the label {ROLES_LABEL} of a container names {', '.join(map(repr, unknown))}, which are no roles; give all, or of "
            f"{', '.join(SERVICES)}"
        )
    return roles


def _number(labels: Mapping[str, str], label: str, default: int, *, least: int) -> int:
    text = labels.get(label, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise InputRefused(f"the label {label} of a container is {text!r}; give a whole number from {least} on")
    return int(text)
