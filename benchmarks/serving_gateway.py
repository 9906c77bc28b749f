"""What the api adds to a live answer: `python -m benchmarks.serving_gateway [--rounds 6] [--other-cores 0.3]`.

On this machine run the api (one process, as it is deployed, with PostgreSQL and Redis), a stub of a model server that streams
tokens at a fixed pace, and a load generator, each a process of its own. A closed loop of 64 streams asks the stub directly and
through the api in turns (direct, through, direct, …), so that what else the machine does falls on both alike. On a machine that
others use, `--other-cores` leaves rounds out by what the others did, which does not depend on what was measured.

- first token: milliseconds from sending the request to the first token's arrival. `added` is the difference of the two
  distributions at that percentile.
- CPU: of the api process per request and per token streamed through it.
- memory: RSS of the api process after so many requests (64 at a time, short answers).
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import sqlalchemy as sa

from benchmarks.machine import PROJECT_PATH, Machine, OtherLoad, Process, cpu_of_tree
from services.cli.embedded.supervisor import free_port
from shared.domain.deployments import DeploymentState, DeploymentTarget, RevisionState, ServerOptions
from shared.metadata.engine import create_engine, session_factory
from shared.metadata.repositories.api_keys import ApiKeyRepository, KeyLimits
from shared.metadata.tables import Deployment, DeploymentRevision, ModelServer

STREAMS = 64
_TOKENS = 32
_PACE = ("--first-ms", "50", "--token-ms", "40", "--tokens", str(_TOKENS))
_SHORT = ("--first-ms", "1", "--token-ms", "1", "--tokens", "8")
_MOST_TRIES = 20
_MEMORY_AT = (2_000, 10_000)
_PROJECT = "default"
_LIMITS = KeyLimits(requests_per_minute=1_000_000, tokens_per_minute=10**12, tokens_per_day=10**15)


class Child:
    """A module run with pipes: what it prints is read line by line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT_PATH,
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def stub(name: str, machine: Machine, pace: tuple[str, ...]) -> Iterator[str]:
    """The stub as a process, deployed under `name`; its base URL."""
    child = Child("benchmarks.stub_model_server", *pace)
    try:
        url = f"http://127.0.0.1:{child.line().split()[1]}/v1"
        asyncio.run(_deploy(machine, name, url))
        yield url
    finally:
        child.stop()


async def _deploy(machine: Machine, name: str, url: str) -> None:
    engine = create_engine(machine.settings().database_url)
    identifier = f"dep_{name}"
    try:
        async with session_factory(engine)() as session, session.begin():
            await session.execute(sa.text("INSERT INTO project (id) VALUES ('default') ON CONFLICT DO NOTHING"))
            state = DeploymentState.READY.value
            session.add(Deployment(id=identifier, project_id=_PROJECT, name=name, state=state, serving_revision=1))
            await session.flush()
            session.add(
                DeploymentRevision(
                    deployment_id=identifier,
                    revision=1,
                    target=DeploymentTarget(registry="model_benchmark").model_dump(mode="json"),
                    options=ServerOptions().model_dump(mode="json"),
                    state=RevisionState.READY.value,
                    server_id=f"{name}/0",
                    info={"maximum_total_tokens": 4096},
                )
            )
            session.add(
                ModelServer(
                    id=f"{name}/0",
                    launcher=name,
                    place=0,
                    kind="openai",
                    host="here",
                    address=url,
                    deployment_id=identifier,
                    revision=1,
                    serving=f"{identifier}:1",
                )
            )
    finally:
        await engine.dispose()


async def _key(machine: Machine, name: str, limits: KeyLimits | None) -> str:
    engine = create_engine(machine.settings().database_url)
    try:
        async with session_factory(engine)() as session, session.begin():
            _, secret = await ApiKeyRepository(session).create(_PROJECT, name, ["chat"], limits=limits)
    finally:
        await engine.dispose()
    return secret


@contextmanager
def api(machine: Machine) -> Iterator[tuple[Process, str]]:
    """The api as a process; its base URL."""
    port = free_port()
    environment = machine.environment() | {"MULTIFACET_API_PORT": str(port)}
    with machine.process("api", ["services.api"], environment) as process:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            process.require_alive()
            try:
                urlopen(f"{url}/health/live", timeout=5).read()
                break
            except URLError:
                time.sleep(0.1)
        yield process, url


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1] * 1000


def first_token(
    machine: Machine, process: Process, url: str, key: str, title: str, *, rounds: int, most_other_cores: float
) -> None:
    """One line of the table."""
    load = Child("benchmarks.stream_load")
    direct: list[float] = []
    through: list[float] = []
    failed = kept = 0
    cpu = 0.0
    others: list[float] = []
    name = title.replace(" ", "-")
    try:
        with stub(name, machine, _PACE) as stub_url:
            order = {"model": name, "key": key, "streams": STREAMS, "requests": 2 * STREAMS}
            load.ask(order | {"url": f"{stub_url}/chat/completions"})  # warms what is measured
            load.ask(order | {"url": f"{url}/v1/chat/completions"})
            while kept < rounds and len(others) < rounds * _MOST_TRIES:
                other = OtherLoad()
                alone = load.ask(order | {"url": f"{stub_url}/chat/completions"})
                before = cpu_of_tree(process.pid)
                answered = load.ask(order | {"url": f"{url}/v1/chat/completions"})
                used = cpu_of_tree(process.pid) - before
                failed += alone["failed"] + answered["failed"]
                others.append(other.cores())
                if others[-1] <= most_other_cores:
                    kept += 1
                    cpu += used
                    direct += alone["first"]
                    through += answered["first"]
    finally:
        load.stop()
    left_out = f"{len(others) - kept} of {len(others)} rounds left out" if kept < len(others) else "all rounds"
    notes = f"{failed} failed; {left_out}; others used {min(others):.1f} to {max(others):.1f} cores"
    if not kept:
        _row(title, "0", "", "", "", "", notes)
        return
    figures = [
        f"{percentile(direct, share):.1f} → {percentile(through, share):.1f}, "
        f"added {percentile(through, share) - percentile(direct, share):.1f}"
        for share in (0.5, 0.99)
    ]
    requests = len(through)
    per_token = cpu * 1e6 / (requests * _TOKENS)
    _row(title, str(requests), *figures, f"{cpu * 1000 / requests:.1f}", f"{per_token:.0f}", notes)


def memory(machine: Machine, process: Process, url: str, key: str) -> None:
    """RSS of the api after so many requests."""
    load = Child("benchmarks.stream_load")
    api_process = psutil.Process(process.pid)
    seen = [f"0: {api_process.memory_info().rss / 2**20:.1f}"]
    try:
        with stub("short", machine, _SHORT):
            order = {"model": "short", "key": key, "streams": STREAMS, "url": f"{url}/v1/chat/completions"}
            done = 0
            started = time.monotonic()
            for most in _MEMORY_AT:
                answered = load.ask(order | {"requests": most - done})
                if answered["failed"]:
                    raise RuntimeError(f"{answered['failed']} requests failed")
                done = most
                seen.append(f"{most:,}: {api_process.memory_info().rss / 2**20:.1f}")
            rate = done / (time.monotonic() - started)
    finally:
        load.stop()
    sys.stdout.write(f"\nRSS of the api in MB of 2^20 bytes after so many requests: {', '.join(seen)}; {rate:.0f}/s\n")


def _row(*cells: str) -> None:
    widths = (24, 8, 26, 26, 11, 9)
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)]
    sys.stdout.write("| " + " | ".join([*padded, *cells[len(widths) :]]) + " |\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_gateway", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help=f"of {2 * STREAMS} requests directly and through the api")
    parser.add_argument(
        "--other-cores",
        type=float,
        default=float("inf"),
        help="leave out rounds in which others on this machine kept more cores busy than that",
    )
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    with Machine() as machine:
        free, limited = (
            asyncio.run(_key(machine, name, limits)) for name, limits in (("free", None), ("limited", _LIMITS))
        )
        with api(machine) as (process, url):
            sys.stdout.write(
                f"{STREAMS} streams at once, {_TOKENS} tokens each; first token in ms, direct → through\n\n"
            )
            _row("case", "requests", "p50", "p99", "CPU ms/req", "µs/token", "notes")
            for key, title in ((free, "key without limits"), (limited, "key with limits")):
                first_token(
                    machine, process, url, key, title, rounds=options.rounds, most_other_cores=options.other_cores
                )
        if not options.no_memory:
            with api(machine) as (process, url):
                memory(machine, process, url, limited)


if __name__ == "__main__":
    main()
