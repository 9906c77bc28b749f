"""CPU seconds of this process per streamed piece and per whole call of each adapter, with a stub server in another process.

    python -m benchmarks.model_servers --streams 64 --pieces 200

The stub sends each stream's events as they are due, one by one, as a model does; its own time is in its own process.
"""

import argparse
import asyncio
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

import uvloop

from shared.chat_template.conversation import Message
from shared.llm.servers.opening import CallPolicy, Connections, open_server
from shared.llm.servers.protocol import GenerationParameters, ModelServer, ServerAddress, ServerKind
from tests.support.stub_model_servers import running_stub

MESSAGES: list[Message] = [{"role": "user", "content": "Begin a tale."}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64, help="streams at once")
    parser.add_argument("--pieces", type=int, default=200, help="pieces of each")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two pieces")
    options = parser.parse_args()
    print(f"{options.streams} streams of {options.pieces} pieces, one every {options.pause:g} s")
    print(f"{'server':8} {'route':9} {'µs CPU a piece':>15} {'ms CPU a whole call':>20} {'seconds':>8}")
    for kind in ServerKind:
        ours, theirs = multiprocessing.Pipe()
        stub = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, kind, options.pieces, options.pause), daemon=True
        )
        stub.start()
        try:
            uvloop.run(measure(kind, ours, options.streams))
        finally:
            stub.terminate()
            stub.join()


def serve(pipe: Connection, kind: ServerKind, pieces: int, pause: float) -> None:
    """The stub's process."""

    async def run() -> None:
        async with running_stub(kind) as stub:
            stub.tokens = [" word"] * pieces
            stub.pause_seconds = pause
            pipe.send(stub.address())
            await asyncio.Event().wait()

    uvloop.run(run())


async def measure(kind: ServerKind, pipe: Connection, streams: int) -> None:
    address: ServerAddress = await asyncio.to_thread(pipe.recv)
    connections = Connections()
    await connections.start()
    server = open_server(address, CallPolicy(maximum_in_flight=streams), connections)
    for route in ("chat", "generate"):
        await asyncio.gather(*(read(server, route) for _ in range(4)))
        started, before = time.perf_counter(), cpu_seconds()
        counts = await asyncio.gather(*(read(server, route) for _ in range(streams)))
        per_piece = (cpu_seconds() - before) / sum(counts)
        seconds = time.perf_counter() - started
        before = cpu_seconds()
        await asyncio.gather(*(ask(server, route) for _ in range(streams * 4)))
        per_call = (cpu_seconds() - before) / (streams * 4)
        print(f"{kind.value:8} {route:9} {per_piece * 1e6:15.1f} {per_call * 1e3:20.2f} {seconds:8.1f}")
    await connections.close()


async def read(server: ModelServer, route: str) -> int:
    stream = (
        server.chat_stream(MESSAGES, GenerationParameters())
        if route == "chat"
        else server.generate_stream("Begin a tale.", GenerationParameters())
    )
    return len([piece async for piece in stream])


async def ask(server: ModelServer, route: str) -> None:
    parameters = GenerationParameters()
    if route == "chat":
        await server.chat(MESSAGES, parameters)
    else:
        await server.generate("Begin a tale.", parameters)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
