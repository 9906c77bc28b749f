"""A closed loop of streams, in a process of its own: reads its orders as JSON lines, answers each with one JSON line.

An order is {"url", "key", "model", "streams", "requests"}; the answer {"first": [seconds to the first token of each request],
"whole": [seconds to the end], "failed": requests that had no whole answer}.
"""

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

_FIRST_TOKEN = b'"content":"t0 "'
_END = b"0\r\n\r\n"


class _Run:
    def __init__(self, order: dict[str, Any]) -> None:
        parts = urlsplit(order["url"])
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        body = json.dumps(
            {
                "model": order["model"],
                "stream": True,
                "stream_options": {"include_usage": True},
                "messages": [{"role": "user", "content": "Tell me about the sea and what lives in it. " * 4}],
            }
        ).encode()
        self._request = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {order['key']}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._left = int(order["requests"])
        self._streams = int(order["streams"])
        self.first: list[float] = []
        self.whole: list[float] = []
        self.failed = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._stream(number) for number in range(self._streams)))

    async def _stream(self, number: int) -> None:
        # Spread over the first half second, so that not all first tokens fall into the same moment.
        await asyncio.sleep(0.5 * number / self._streams)
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while self._left > 0:
            self._left -= 1
            try:
                await self._one(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.failed += 1
                writer.close()
                reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started = time.perf_counter()
        writer.write(self._request)
        seen = b""
        first = None
        while not seen.endswith(_END):
            part = await reader.read(65_536)
            if not part:
                raise ConnectionError("closed before the end")
            seen += part
            if first is None and _FIRST_TOKEN in seen:
                first = time.perf_counter() - started
            if not seen.startswith(b"HTTP/1.1 200"):
                raise ConnectionError("refused")
        if first is None or b"[DONE]" not in seen:
            raise ConnectionError("no whole answer")
        self.first.append(first)
        self.whole.append(time.perf_counter() - started)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        run = _Run(json.loads(line))
        await run.run()
        sys.stdout.write(json.dumps({"first": run.first, "whole": run.whole, "failed": run.failed}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
