"""A TCP proxy in front of a server, in a thread of its own, which breaks the network the way networks break.

All methods may be called from any thread and return once they hold. A link passes everything until it is told otherwise.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

Result = TypeVar("Result")
Target = tuple[str, int] | Path
"""host and port, or the path of a Unix socket."""
Moment = Literal["request", "answer"]

_CHUNK = 1 << 16
_BACKLOG = 512


class _LoopThread:
    """One event loop for all links of this process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="links", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


_thread: _LoopThread | None = None
_thread_lock = threading.Lock()


def _links() -> _LoopThread:
    global _thread
    with _thread_lock:
        if _thread is None:
            _thread = _LoopThread()
        return _thread


class Cut:
    """Breaks connections whose request matches `pattern` (a regular expression on what the client sends at once).

    `moment` "request": the connection is reset after `after_bytes` of the request, counted from the match, went through (0: the
    server never sees it). "answer": the server is given the whole request and does what it asks, but of its answer only
    `after_bytes` come back: the client cannot know. `action` is called at that moment (in the link's thread) in place of the
    reset, where it is given. After `times` hits the rule does nothing more.
    """

    def __init__(
        self,
        pattern: bytes,
        moment: Moment = "request",
        after_bytes: int = 0,
        times: int = 1,
        action: Callable[[], None] | None = None,
    ) -> None:
        self.pattern = re.compile(pattern, re.DOTALL)
        self.moment = moment
        self.after_bytes = after_bytes
        self.left = times
        self.action = action
        self.hits = 0
        self._hit = threading.Event()

    def take(self) -> None:
        self.left -= 1
        self.hits += 1
        self._hit.set()

    async def hit(self, seconds: float = 60) -> None:
        """Wait until it has struck once. Raises TimeoutError."""
        if not await asyncio.to_thread(self._hit.wait, seconds):
            raise TimeoutError(f"nothing matched {self.pattern.pattern!r} within {seconds} s")


class _Connection:
    """Two sockets and what goes between them."""

    def __init__(self, link: "Link", client: socket.socket) -> None:
        self.link = link
        self.client = client
        self.server: socket.socket | None = None
        self.silent = link.holding
        self.rule: Cut | None = None
        self.left_of_rule = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if not self.silent:
                self.server = await _open(self.link.target)
            up = asyncio.create_task(self._from_client(loop))
            down = asyncio.create_task(self._from_server(loop))
            self.tasks = [up, down]
            await asyncio.wait(
                self.tasks, return_when=asyncio.FIRST_COMPLETED if self.server else asyncio.ALL_COMPLETED
            )
            if up.done() and not down.done():
                # A client that has said everything may still wait for the answer.
                with suppress(OSError):
                    if self.server is not None:
                        self.server.shutdown(socket.SHUT_WR)
                await asyncio.wait({down}, timeout=5)
        except OSError:
            pass  # the target is away: the client's connection is closed, as a proxy does
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            self.close(reset=False)
            self.link.connections.discard(self)

    async def _from_client(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(OSError):
            while data := await loop.sock_recv(self.client, _CHUNK):
                if self.silent or self.server is None:
                    continue  # swallowed: nobody is there
                await self.link.gate.wait()
                if self.link.rewrite_request is not None:
                    data = self.link.rewrite_request(data)
                start = self._match(data)
                if self.rule is not None and self.rule.moment == "request":
                    through = data[: start + max(0, self.left_of_rule)]
                    self.left_of_rule -= len(data) - start
                    if self.left_of_rule < 0 or self.rule.after_bytes == 0:
                        if through:
                            await loop.sock_sendall(self.server, through)
                        if not self._strike():
                            return
                        await loop.sock_sendall(self.server, data[len(through) :])
                        continue
                await loop.sock_sendall(self.server, data)

    def _match(self, data: bytes) -> int:
        """Where in `data` the rule under way counts from: a new match, or 0."""
        if self.rule is None:
            for rule in self.link.rules:
                found = rule.pattern.search(data) if rule.left > 0 else None
                if found:
                    rule.left -= 1  # taken by this connection; counted as a hit when it strikes
                    self.rule, self.left_of_rule = rule, rule.after_bytes
                    return found.start()
        return 0

    def _strike(self) -> bool:
        """Do what the rule says; returns whether the connection lives on."""
        assert self.rule is not None
        rule, self.rule = self.rule, None
        rule.left += 1
        rule.take()
        if rule.action is not None:
            rule.action()
            return True
        self.close(reset=True)
        return False

    async def _from_server(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.server is None:
            return
        with suppress(OSError):
            while data := await loop.sock_recv(self.server, _CHUNK):
                if self.silent:
                    continue
                await self.link.gate.wait()
                if self.rule is not None and self.rule.moment == "answer":
                    through = data[: self.left_of_rule]
                    self.left_of_rule -= len(through)
                    if len(through) < len(data) or self.left_of_rule <= 0:
                        if through:
                            await loop.sock_sendall(self.client, through)
                        if not self._strike():
                            return
                        data = data[len(through) :]
                if self.link.rewrite is not None:
                    data = self.link.rewrite(data)
                if self.link.bytes_per_second is None:
                    await loop.sock_sendall(self.client, data)
                else:
                    await self._drip(loop, data)

    async def _drip(self, loop: asyncio.AbstractEventLoop, data: bytes) -> None:
        for number in range(len(data)):
            rate = self.link.bytes_per_second
            if rate is None:
                await loop.sock_sendall(self.client, data[number:])
                return
            await loop.sock_sendall(self.client, data[number : number + 1])
            await asyncio.sleep(1 / rate)

    def close(self, reset: bool) -> None:
        if self.rule is not None:
            self.rule.left += 1  # it ended before the rule struck
            self.rule = None
        for one in (self.client, self.server):
            if one is None or one.fileno() < 0:
                continue
            if reset and one.family != socket.AF_UNIX:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # A plain close would leave a reader of the loop on the number, which the next socket gets.
            loop = asyncio.get_running_loop()
            loop.remove_reader(one.fileno())
            loop.remove_writer(one.fileno())
            one.close()


class Link:
    """A port of its own that leads to `target`."""

    def __init__(self, target: Target, name: str = "link") -> None:
        self.target = target
        self.name = name
        self.connections: set[_Connection] = set()
        self.rules: list[Cut] = []
        self.rewrite: Callable[[bytes], bytes] | None = None
        """Changes what the server says, where it is set: bytes that flip on the wire."""
        self.rewrite_request: Callable[[bytes], bytes] | None = None
        """The same of what the client says."""
        self.bytes_per_second: float | None = None
        self.holding = False
        self.accepted = 0
        """Connections since the start."""
        self._socket = _bound()
        self.port: int = self._socket.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self.gate: asyncio.Event
        _links().run(self._start())

    # ---- what a scenario does ------------------------------------------------------------------------------------
    def open(self) -> None:
        """Pass again, in full and at once. Connections that were held stay silent, as after a cable was pulled."""
        _links().run(self._open())

    def refuse(self, *, cut: bool = True) -> None:
        """Nobody listens: new connections are refused, and those that are open are reset unless `cut` is False."""
        _links().run(self._refuse(cut))

    def cut(self) -> int:
        """Reset all open connections (RST); new ones pass. Returns how many."""
        return _links().run(self._cut())

    def hold(self) -> None:
        """Half-open: connections, old and new, are accepted and stay silent both ways for good."""
        _links().run(self._hold())

    def stall(self) -> None:
        """Nothing goes through until `open`, and nothing is lost."""
        _links().run(self._gate(False))

    def drip(self, bytes_per_second: float) -> None:
        """Answers come byte by byte."""
        self.bytes_per_second = bytes_per_second

    def cut_at(
        self,
        pattern: bytes,
        *,
        moment: Moment = "request",
        after_bytes: int = 0,
        times: int = 1,
        action: Callable[[], None] | None = None,
    ) -> Cut:
        """Break connections at requests that match, see `Cut`."""
        rule = Cut(pattern, moment, after_bytes, times, action)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Take all rules and changes back, and pass."""
        self.rules.clear()
        self.rewrite = self.rewrite_request = None
        self.open()

    def close(self) -> None:
        _links().run(self._close())

    # ---- in the loop's thread ------------------------------------------------------------------------------------
    async def _start(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self._listen()

    def _listen(self) -> None:
        self._socket.listen(_BACKLOG)
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                client, _ = await loop.sock_accept(self._socket)
                self.accepted += 1
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(self, client)
                self.connections.add(connection)
                run = asyncio.create_task(connection.run())
                self._runs.add(run)
                run.add_done_callback(self._runs.discard)

    async def _open(self) -> None:
        self.holding = False
        self.bytes_per_second = None
        self.gate.set()
        if self._accepting is None:
            self._listen()

    async def _refuse(self, cut: bool) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._accepting = None
            # The port stays ours, but nobody listens: the kernel refuses. `listen` takes it up again.
            self._socket.shutdown(socket.SHUT_RD)
        if cut:
            await self._cut()

    async def _cut(self) -> int:
        connections = list(self.connections)
        for connection in connections:
            connection.close(reset=True)
            for task in connection.tasks:
                task.cancel()
        return len(connections)

    async def _hold(self) -> None:
        self.holding = True
        for connection in self.connections:
            connection.silent = True
        await self._open_gate_only()

    async def _open_gate_only(self) -> None:
        self.gate.set()
        if self._accepting is None:
            self._listen()

    async def _gate(self, is_open: bool) -> None:
        if is_open:
            self.gate.set()
        else:
            self.gate.clear()

    async def _close(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self.gate.set()
        for run in list(self._runs):
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        self._socket.close()


def _bound() -> socket.socket:
    """A socket on a free port. It is bound to the number by name: else the kernel would give it up when nobody listens."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        made = socket.socket()
        made.setblocking(False)
        try:
            made.bind(("127.0.0.1", port))
        except OSError:  # somebody else was faster
            made.close()
        else:
            return made


async def _open(target: Target) -> socket.socket:
    loop = asyncio.get_running_loop()
    if isinstance(target, Path):
        made = socket.socket(socket.AF_UNIX)
        address: Any = str(target)
    else:
        made = socket.socket()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = target
    made.setblocking(False)
    try:
        await loop.sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
