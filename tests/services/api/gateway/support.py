"""An api over HTTP with model servers in this process that do what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI

from services.api.state import ApiState
from shared.chat_template.conversation import Message
from shared.domain.deployments import DeploymentState, DeploymentTarget, RevisionState, ServerOptions
from shared.domain.identifiers import new_id
from shared.llm.servers.protocol import (
    Generated,
    GenerationParameters,
    Piece,
    ServerAddress,
    TokenUsage,
)
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer, Project
from tests.support.servers import free_port

ADDRESS = "http://127.0.0.1:9"
"""Nobody listens there."""
USAGE = TokenUsage(prompt_tokens=7, completion_tokens=3)
PIECES: tuple[Piece, ...] = (
    Piece("Good "),
    Piece("morn"),
    Piece("ing."),
    Piece("", finish_reason="stop", usage=USAGE),
)


class Call(msgspec.Struct):
    """What a fake server was asked."""

    address: str
    messages: list[Message]
    parameters: GenerationParameters


class FakeServers:
    """In place of `open_server`: every address answers with `pieces`; exceptions among them are raised in their turn. With
    `hold`, a stream waits before its last piece until the event is set."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.pieces: Sequence[Piece | Exception] = PIECES
        self.gone: dict[str, Exception] = {}
        """Addresses that fail before anything else."""
        self.hold: asyncio.Event | None = None
        self.ended: list[str] = []
        """How streams ended: `end`, or the class of what was raised into them."""

    def open(self, address: ServerAddress, *_: Any) -> "_FakeServer":
        return _FakeServer(self, address)


class _FakeServer:
    def __init__(self, servers: FakeServers, address: ServerAddress) -> None:
        self._servers = servers
        self.address = address

    async def chat(self, messages: Sequence[Message], parameters: GenerationParameters) -> Generated:
        text, tokens = "", []
        async for piece in self.chat_stream(messages, parameters):
            text += piece.text
            tokens += piece.tokens
            if piece.finish_reason is not None:
                return Generated(text, piece.finish_reason, piece.usage or TokenUsage(0, 0), tuple(tokens))
        raise AssertionError("no end")

    async def chat_stream(self, messages: Sequence[Message], parameters: GenerationParameters) -> AsyncIterator[Piece]:
        servers = self._servers
        servers.calls.append(Call(self.address.base_url, list(messages), parameters))
        if self.address.base_url in servers.gone:
            raise servers.gone[self.address.base_url]
        try:
            for number, piece in enumerate(servers.pieces):
                if isinstance(piece, Exception):
                    raise piece
                if servers.hold is not None and number == len(servers.pieces) - 1:
                    await servers.hold.wait()
                yield piece
            servers.ended.append("end")
        except BaseException as error:
            servers.ended.append(type(error).__name__)
            raise

    async def close(self) -> None:
        pass


async def deploy(
    state: ApiState,
    name: str,
    *,
    project_id: str = "default",
    address: str | None = ADDRESS,
    registry: str = "model_of_a_test",
    total_tokens: int | None = 2048,
    kind: str = "cpu",
    deployment_state: DeploymentState = DeploymentState.READY,
    detail: str = "",
) -> str:
    """A deployment of a registered model that answers at `address` (None: it does not answer yet); its id."""
    identifier = new_id("dep")
    serving = None if address is None else 1
    async with state.transaction() as session:
        if await session.get(Project, project_id) is None:
            session.add(Project(id=project_id))
            await session.flush()
        session.add(
            Deployment(
                id=identifier,
                project_id=project_id,
                name=name,
                state=deployment_state.value,
                serving_revision=serving,
                detail=detail,
            )
        )
        await session.flush()
        session.add(
            DeploymentRevision(
                deployment_id=identifier,
                revision=1,
                target=DeploymentTarget(registry=registry).model_dump(mode="json"),
                options=ServerOptions().model_dump(mode="json"),
                state=(RevisionState.PENDING if address is None else RevisionState.READY).value,
                server_id=f"{identifier}/0",
                info={"maximum_total_tokens": total_tokens},
            )
        )
        session.add(
            ModelServer(
                id=f"{identifier}/0",
                launcher=identifier,
                place=0,
                kind=kind,
                host="here",
                address=address,
                deployment_id=identifier,
                revision=1,
                serving=f"{identifier}:1",
            )
        )
    return identifier


async def move(state: ApiState, deployment_id: str, address: str | None) -> None:
    """The deployment's server answers elsewhere from now on (None: nowhere)."""
    async with state.transaction() as session:
        (await session.get_one(ModelServer, f"{deployment_id}/0")).address = address


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The application over HTTP in this process; its base URL. Its lifespan is the caller's."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_config=None, access_log=False)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
