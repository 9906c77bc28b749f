"""What the wire alone costs: as many calls by plain aiohttp and by the plain `openai` client, nothing kept, nothing checked.

rows/s is from the first call sent to the last answer read, without imports; CPU and peak memory are of the client process.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

IN_FLIGHT = 64
CLIENTS = ("aiohttp", "openai")
_TRIES = 10


class RawMeasured(msgspec.Struct, frozen=True):
    """Figures of one run; CPU in ms per call, memory in MB of 2^20 bytes."""

    rows: int
    seconds: float
    cpu_ms: float
    peak_mb: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def measure_raw(client: str, endpoint: tuple[str, ...], rows: int) -> RawMeasured:
    """One run of `rows` calls, 64 in flight, in a process of its own."""
    from benchmarks.machine import PROJECT_PATH, Endpoint  # not in the client's process: it would count as its memory

    served = Endpoint(endpoint)
    try:
        command = [
            sys.executable, "-m", "benchmarks.raw_clients", "--client", client, "--url", f"{served.url}/v1",
            "--rows", str(rows),
        ]  # fmt: skip
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=PROJECT_PATH)
    finally:
        served.stop()
    return msgspec.json.decode(done.stdout, type=RawMeasured)


def _messages(number: int) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "You answer with care, in plain words, for a reader in a hurry. " * 8},
        {"role": "user", "content": f"Question number {number}: what would you do, and why? " * 4},
    ]


async def _all(rows: int, call: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(rows))

    async def some() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


async def _aiohttp(url: str, rows: int) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def call(number: int) -> None:
            body = {"model": "m", "messages": _messages(number), "max_tokens": 512, "seed": number}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                response.raise_for_status()
                assert (await response.json())["choices"][0]["message"]["content"]

        await _all(rows, call)


async def _openai(url: str, rows: int) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=_TRIES) as client:

        async def call(number: int) -> None:
            messages: Any = _messages(number)
            answer = await client.chat.completions.create(model="m", messages=messages, max_tokens=512, seed=number)
            assert answer.choices[0].message.content

        await _all(rows, call)


async def _drive(client: str, url: str, rows: int) -> RawMeasured:
    run = {"aiohttp": _aiohttp, "openai": _openai}[client]
    await run(url, 2)  # imports and lazy set-up
    cpu, started = time.process_time(), time.monotonic()
    await run(url, rows)
    return RawMeasured(
        rows=rows,
        seconds=time.monotonic() - started,
        cpu_ms=(time.process_time() - cpu) * 1000 / rows,
        peak_mb=_peak_megabytes(),
    )


def _peak_megabytes() -> float:
    """VmHWM of this process; `ru_maxrss` would still hold the parent's memory from before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description="One client against one endpoint (started by `python -m benchmarks`)")
    parser.add_argument("--client", choices=CLIENTS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, required=True)
    options = parser.parse_args()
    measured = uvloop.run(_drive(options.client, options.url, options.rows))
    sys.stdout.write(json.dumps(msgspec.to_builtins(measured)) + "\n")


if __name__ == "__main__":
    main()
