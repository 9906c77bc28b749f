"""The LLM layer alone against the fake endpoint: cache, limits, pacing, usage and money on, real PostgreSQL.

python -m benchmarks.llm_layer [--repeats 3] [--cases fixed,tail,fast,limited,late_limited,faults,rerun]

Per case: rows/s, share of the ideal (in flight / mean latency), CPU ms per row (this process; PostgreSQL), peak memory of
the calling process, calls and rejected calls as the endpoint counted them. Medians of the repeats.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

IN_FLIGHT = 64
CASES: dict[str, tuple[int, float | None, list[str]]] = {
    "fixed": (4000, 320.0, ["--latency-ms", "200"]),
    "tail": (4000, 128.0, ["--latency-ms", "200", "--tail-ms", "300"]),
    "fast": (4000, 3200.0, ["--latency-ms", "20"]),
    "limited": (1000, 100.0, ["--latency-ms", "200", "--calls-per-second", "100", "--burst", "64"]),
    "late_limited": (
        1000, 100.0, ["--latency-ms", "200", "--calls-per-second", "100", "--burst", "64", "--late-rejections"],
    ),
    "faults": (4000, 320.0, ["--latency-ms", "200", "--random-429", "0.05", "--random-500", "0.02"]),
    "rerun": (500, None, ["--latency-ms", "200"]),
}  # fmt: skip


async def _drive(options: argparse.Namespace) -> dict[str, Any]:
    from shared.domain.jobs import ModelChoice
    from shared.llm.models import LanguageModels
    from shared.llm.protocol import CompletionRequest
    from shared.llm.providers import Providers
    from shared.settings import Settings

    settings = Settings(database_url=options.database_url, maximum_in_flight=IN_FLIGHT)
    providers = Providers.model_validate(
        {"providers": {"fake": {"base_url": options.url, "models": {"m": {"prompt_price": 1, "completion_price": 3}}}}}
    )
    models = LanguageModels(settings, providers)
    started, cpu = time.monotonic(), time.process_time()
    await models.start()
    model = models.bind(
        ModelChoice(provider="fake", model="m"),
        project_id=options.project,
        job_id=options.project,
        stage="respond",
        budget_micro_usd=None,
    )
    failed = 0
    numbers = iter(range(options.rows))

    async def rows() -> None:
        nonlocal failed
        for number in numbers:
            request = CompletionRequest(
                messages=[
                    {"role": "system", "content": "You answer with care, in plain words, for a reader in a hurry."},
                    {"role": "user", "content": f"Question number {number}: what would you do, and why? " * 4},
                ],
                request_class="respond",
                temperature=1.0,
                max_tokens=512,
            )
            try:
                await model.complete(request)
            except Exception as error:  # noqa: BLE001  counted
                failed += 1
                print(type(error).__name__, error, file=sys.stderr)

    await asyncio.gather(*(rows() for _ in range(options.rows_open)))
    await models.flush()
    seconds = time.monotonic() - started
    cpu = time.process_time() - cpu
    rates = models.send_rates()
    await models.close()
    return {
        "seconds": seconds,
        "cpu_ms": cpu * 1000 / options.rows,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "failed": failed,
        "rate": round(rates["fake/m"], 1),
    }


def _endpoint(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fake_endpoint", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{process.stdout.readline().split()[1]}"


def _tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants, ended ones included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    ended = root.cpu_times()
    return total + ended.children_user + ended.children_system


def _run_child(database_url: str, url: str, project: str, rows: int, rows_open: int) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "benchmarks.llm_layer", "--child", "--database-url", database_url, "--url", f"{url}/v1",
        "--project", project, "--rows", str(rows), "--rows-open", str(rows_open),
    ]  # fmt: skip
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def _counters(url: str) -> dict[str, Any]:
    from urllib.request import urlopen

    counters: dict[str, Any] = json.load(urlopen(f"{url}/counters"))
    return counters


def measure(options: argparse.Namespace) -> None:
    from sqlalchemy import create_engine
    from sqlmodel import SQLModel

    import shared.metadata.tables  # noqa: F401
    from services.cli.embedded.postgres import EmbeddedPostgres

    folder = Path(tempfile.mkdtemp(prefix="mf-bench-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "pg", folder / "postgres.log")
    try:
        postgres.start()
        engine = create_engine(postgres.url())
        SQLModel.metadata.create_all(engine)
        engine.dispose()
        assert postgres.pid is not None
        for case in options.cases.split(","):
            rows, ideal, arguments = CASES[case]
            results: list[dict[str, Any]] = []
            for repeat in range(options.repeats):
                endpoint, url = _endpoint([*arguments, "--seed", str(repeat)])
                try:
                    project = f"bench_{uuid4().hex[:8]}"
                    if case == "rerun":
                        counts, last = [], 0
                        for rows_now in (500, 500, 550):
                            _run_child(postgres.url(), url, project, rows_now, options.rows_open)
                            calls = int(_counters(url)["calls"])
                            counts.append(calls - last)
                            last = calls
                        print(f"{case:13} calls {counts}", flush=True)
                        continue
                    before = _tree_cpu(postgres.pid)
                    result = _run_child(postgres.url(), url, project, rows, options.rows_open)
                    result["postgres_ms"] = (_tree_cpu(postgres.pid) - before) * 1000 / rows
                    result |= _counters(url)
                    result["rows_per_second"] = rows / result["seconds"]
                    results.append(result)
                finally:
                    endpoint.terminate()
                    endpoint.wait()
            if results and ideal is not None:
                middle = {
                    key: statistics.median(result[key] for result in results)
                    for key in ("rows_per_second", "cpu_ms", "postgres_ms", "peak_mb", "calls", "rejected", "failed")
                }
                each = [round(result["rows_per_second"]) for result in results]
                print(
                    f"{case:13} {middle['rows_per_second']:7.1f} rows/s ({middle['rows_per_second'] / ideal:4.0%} of ideal) "
                    f"{each} CPU {middle['cpu_ms']:.2f} + {middle['postgres_ms']:.2f} ms/row, {middle['peak_mb']:.0f} MB, "
                    f"calls {middle['calls']:.0f}, rejected {[r['rejected'] for r in results]}, "
                    f"500s {middle['failed']:.0f}, rate {[r['rate'] for r in results]}",
                    flush=True,
                )
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the LLM layer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rows-open", type=int, default=96, help="rows in work at once (calls in flight: 64)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--database-url", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--project", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        import uvloop

        print(json.dumps(uvloop.run(_drive(options))))
        return
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    measure(options)


if __name__ == "__main__":
    main()
