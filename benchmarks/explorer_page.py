"""The explorer over a large data set: the real api process, its JSON pages and its HTML page, over 400 Parquet parts."""

import asyncio
import random
import statistics
import time
from urllib.parse import urlencode
from urllib.request import urlopen

from benchmarks.machine import Machine, Process
from benchmarks.seeding import seed_job
from services.cli.embedded.supervisor import free_port
from shared.artifacts import open_store
from shared.domain.plan import StageKind
from shared.domain.taxonomy import default_taxonomy
from shared.metadata.engine import create_engine, session_factory

PROJECT = "default"
_REQUESTS = 60
_PAGE_ROWS = 20


def measure_explorer(machine: Machine, rows: int) -> list[str]:
    """Seed a job of `rows` finished rows, page through it, and return a line of figures per kind of request."""
    job_id = asyncio.run(_seed(machine, rows))
    port = free_port()
    environment = {
        **machine.environment(),
        "MULTIFACET_AUTHENTICATION": "loopback",
        "MULTIFACET_API_HOST": "127.0.0.1",
        "MULTIFACET_API_PORT": str(port),
    }
    with machine.process("api", ["services.api"], environment) as api:
        base = f"http://127.0.0.1:{port}"
        _await_ready(api, f"{base}/health/ready")
        chance = random.Random(11)
        json_pages = f"{base}/v1/jobs/{job_id}/datasets/rows?"
        html_pages = f"{base}/jobs/{job_id}/data?"
        kinds: dict[str, list[str]] = {
            "rows, any offset": [json_pages + _query(chance, rows, {}) for _ in range(_REQUESTS)],
            "rows, filter by preference": [json_pages + _query(chance, 500, _some_filter(chance)) for _ in range(_REQUESTS)],
            "rows, filter by text": [
                json_pages + _query(chance, 100, {"contains": f"question {chance.randrange(rows)} "})
                for _ in range(_REQUESTS // 3)
            ],
            "page, any offset": [html_pages + _query(chance, rows, {}) for _ in range(_REQUESTS)],
            "page, filter by preference": [html_pages + _query(chance, 500, _some_filter(chance)) for _ in range(_REQUESTS)],
        }  # fmt: skip
        lines = []
        pages: list[float] = []
        for kind, urls in kinds.items():
            times = [_milliseconds(url) for url in urls]
            pages += times if kind.startswith("page") else []
            lines.append(f"{kind:<28} {_figures(times)}, first {times[0]:.0f}")
        lines.append(f"{'all pages':<28} {_figures(pages)}; goal p95 < 300")
    return lines


def _figures(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return f"p50 {statistics.median(times):6.0f}, p95 {cuts[18]:6.0f}, max {max(times):6.0f} of {len(times)}"


def _query(chance: random.Random, rows: int, wanted: dict[str, str]) -> str:
    offset = chance.randrange(max(1, rows - _PAGE_ROWS))
    return urlencode({"dataset": "respond", "offset": offset, "limit": _PAGE_ROWS, **wanted})


def _some_filter(chance: random.Random) -> dict[str, str]:
    dimension = chance.choice(default_taxonomy().dimensions)
    subdimension = chance.choice(dimension.subdimensions)
    pole = chance.choice(subdimension.poles)
    wanted = {"dimension": dimension.name, "subdimension": subdimension.name, "pole": pole.name}
    return dict(list(wanted.items())[: chance.randint(1, 3)])


def _milliseconds(url: str) -> float:
    started = time.perf_counter()
    with urlopen(url, timeout=120) as answer:
        answer.read()
    return (time.perf_counter() - started) * 1000


def _await_ready(api: Process, url: str) -> None:
    while True:
        api.require_alive()
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)


async def _seed(machine: Machine, rows: int) -> str:
    settings = machine.settings()
    engine = create_engine(settings.database_url)
    try:
        return await seed_job(
            session_factory(engine), open_store(settings), machine.folder, project_id=PROJECT, rows=rows,
            last_made=StageKind.RESPOND,
        )  # fmt: skip
    finally:
        await engine.dispose()
