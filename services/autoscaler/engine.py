"""The two requests that the autoscaler makes of a Docker engine: list its containers, start one of them.

Protocol: Docker Engine API, `GET /containers/json` and `POST /containers/{id}/start`. Nothing else is ever asked, so a proxy
before the engine's socket can refuse everything else. The one-machine mode answers the same two requests for its processes.
"""

import re
from enum import StrEnum
from typing import Any, Self

import aiohttp
import msgspec
import orjson

from shared.domain.errors import MultifacetError

ROLES_LABEL = "multifacet.roles"
"""Roles of a container's worker, with commas between: whoever carries it may be started."""
MAXIMUM_LABEL = "multifacet.maximum"
"""Containers of the group that may run at once; default: all there are."""
MINIMUM_LABEL = "multifacet.minimum"
"""Containers of the group that always run; default 0. Workers keep it themselves by MULTIFACET_POOL_MINIMUM."""
STEPS_LABEL = "multifacet.steps"
"""Steps that one more worker is wanted for; default 4."""
GPU_HOST_LABEL = "multifacet.gpu-host"
"""Machine whose GPUs the group's workers lease, one step a GPU."""
_PROJECT_LABEL = "com.docker.compose.project"
_NO_ONE_OFF = "com.docker.compose.oneoff=False"
"""Compose gives the containers of `docker compose run` the labels of their service."""

_EXIT_STATUS = re.compile(r"\((\d+)\)")
_SECONDS = aiohttp.ClientTimeout(total=20)


class EngineUnreachable(MultifacetError):
    """The Docker engine, or the proxy before it, does not answer or refuses."""

    code = "engine_unreachable"


class ContainerState(StrEnum):
    """What the autoscaler tells apart of a container's state."""

    RUNNING = "running"
    CRASHING = "restarting"
    """It ended with an error and its engine starts it again."""
    STOPPED = "stopped"


class Container(msgspec.Struct, frozen=True):
    """A worker container of one group."""

    id: str
    state: ContainerState
    exit_status: int | None
    """Of the last run, where it has ended."""
    labels: dict[str, str]


class DockerEngine:
    """A client of one engine. Use as an async context manager."""

    def __init__(self, url: str, project: str) -> None:
        """`url` is http://host:port or unix:///path; with `project` only containers of that Compose project are seen."""
        self._path = url.removeprefix("unix://") if url.startswith("unix://") else None
        self._base = "http://engine" if self._path else url.rstrip("/")
        self._labels = [ROLES_LABEL, *([f"{_PROJECT_LABEL}={project}", _NO_ONE_OFF] if project else [])]
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._path) if self._path else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, timeout=_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def containers(self) -> list[Container]:
        """All worker containers, running or not, by id. Raises EngineUnreachable."""
        filters = orjson.dumps({"label": self._labels}).decode()
        body = await self._ask("GET", "/containers/json", {"all": "true", "filters": filters})
        return sorted((_container(found) for found in body), key=lambda container: container.id)

    async def start(self, container_id: str) -> None:
        """Start a container; no error where it runs already. Raises EngineUnreachable."""
        await self._ask("POST", f"/containers/{container_id}/start", {})

    async def _ask(self, method: str, path: str, query: dict[str, str]) -> Any:
        try:
            async with self._session.request(method, self._base + path, params=query) as answer:
                text = await answer.read()
                if answer.status >= 400:
                    said = text[:200].decode(errors="replace").strip()
                    raise EngineUnreachable(f"the Docker engine answered {answer.status} to {method} {path}: {said}")
                return orjson.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise EngineUnreachable(
                f"no usable answer from the Docker engine ({type(error).__name__}); start its proxy, or correct "
                "MULTIFACET_DOCKER_URL"
            ) from error


def _container(found: dict[str, Any]) -> Container:
    state = {"running": ContainerState.RUNNING, "restarting": ContainerState.CRASHING}.get(
        found["State"], ContainerState.STOPPED
    )
    # The list has the exit status in its text alone, as in `Exited (1) 5 seconds ago`.
    ended = _EXIT_STATUS.search(found.get("Status") or "") if state is not ContainerState.RUNNING else None
    return Container(found["Id"], state, int(ended[1]) if ended else None, found.get("Labels") or {})
