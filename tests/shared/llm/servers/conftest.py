"""Stub servers of every kind, and what opens them with short time-outs."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from shared.llm.servers.opening import CallPolicy, Connections, open_server
from shared.llm.servers.protocol import ModelServer, ServerKind
from tests.support.stub_model_servers import StubModelServer, running_stub

Opener = Callable[..., ModelServer]

POLICY: dict[str, Any] = {
    "connect_seconds": 5.0,
    "first_piece_seconds": 20.0,
    "between_pieces_seconds": 20.0,
    "whole_seconds": 20.0,
    "probe_seconds": 5.0,
    "tries": 1,
    "backoff_seconds": 0.001,
    "longest_backoff_seconds": 0.001,
}


@pytest.fixture(params=list(ServerKind), ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> ServerKind:
    return ServerKind(request.param)


@pytest.fixture
async def stub(kind: ServerKind) -> AsyncIterator[StubModelServer]:
    async with running_stub(kind) as running:
        yield running


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    made = Connections()
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def opened(connections: Connections) -> Opener:
    """Opens a stub: `opened(stub, address={…}, tries=3)`."""

    def open_stub(stub: StubModelServer, address: dict[str, Any] | None = None, **policy: Any) -> ModelServer:
        return open_server(stub.address(**(address or {})), CallPolicy(**(POLICY | policy)), connections)

    return open_stub


@pytest.fixture
def server(stub: StubModelServer, opened: Opener) -> ModelServer:
    """The stub, opened with one try and long time-outs."""
    return opened(stub)
