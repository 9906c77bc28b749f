"""`multifacet demo`: from nothing to a collection and its report, with one command."""

from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from services.cli.client import ApiClient
from services.cli.embedded.state import StateFolder
from services.cli.embedded.supervisor import running_system
from services.cli.pull import pull_job
from services.cli.watch import print_outcome, watch_job
from shared.domain.errors import MultifacetError

DEFAULT_MODELS = {"simulator": "simulator-large", "openai": "gpt-4.1-mini"}


def run_demo(instructions: Path | None, teacher: str, out: Path, console: Console, *, confirmed: bool) -> int:
    """Exit code: 0 when the job succeeded, 1 when it failed, 2 when a person declined the cost."""
    if instructions is not None and not instructions.is_file():
        raise MultifacetError(f"there is no file {instructions}: give the path of a JSONL, CSV or Parquet file")
    state = StateFolder()
    record = state.record()
    if record is not None:
        console.print(f"using the system that runs at {record.api_url}")
        return _run(ApiClient(record.api_url), instructions, teacher, out, console, confirmed=confirmed)
    with running_system(state, tell=console.print) as system:
        return _run(ApiClient(system.api_url), instructions, teacher, out, console, confirmed=confirmed)


def demo_spec(client: ApiClient, instructions: Path | None, teacher: str) -> dict[str, Any]:
    """The job of the demo: bundled instructions or an uploaded file, a fifth of them for testing."""
    provider, _, model = teacher.partition("/")
    model = model or DEFAULT_MODELS.get(provider, "")
    if not model:
        raise MultifacetError(f"teacher {teacher!r} names no model: write provider/model")
    source = {"bundled": "demo"} if instructions is None else {"file": client.upload(instructions)["id"]}
    chosen = {"provider": provider, "model": model}
    spec = {
        "name": "demo" if instructions is None else instructions.stem[:120],
        "sources": [source],
        "teacher": chosen,
        # Of few instructions more must test, so that every level has some.
        "splits": {"test_share": 0.2},
    }
    # The simulator judges for nothing; a real judge is for the user to choose and to pay.
    return {**spec, "judge": chosen} if provider == "simulator" else spec


def _run(
    client: ApiClient, instructions: Path | None, teacher: str, out: Path, console: Console, *, confirmed: bool
) -> int:
    spec = demo_spec(client, instructions, teacher)
    found = client.post("/v1/jobs/estimate", spec)
    if not teacher.startswith("simulator"):
        cost = found["cost_micro_usd"]
        price = f"about ${cost / 1e6:.2f}" if cost is not None else "an unknown amount (no price is configured)"
        console.print(f"{teacher} will be asked {found['calls']:,} times; that costs {price}.")
        if not confirmed and not typer.confirm("Go on?"):
            return 2
    else:
        console.print("teacher: simulator (no language model; everything made is stamped so, nothing is paid)")
    job = client.post("/v1/jobs", spec)
    console.print(f"job {job['id']} at {client.url}/jobs/{job['id']}")
    job = watch_job(client, job["id"], console)
    print_outcome(job, console)
    if job["state"] != "succeeded":
        return 1
    written = pull_job(client, job["id"], out, everything=False)
    console.print(f"\n{len(written)} files in {out.resolve()}")
    for label, name in (("report", "report.html"), ("data card", "README.md")):
        found_paths = [
            path for path in written if path.name.startswith(name.split(".")[0]) and path.suffix == Path(name).suffix
        ]
        if found_paths:
            console.print(f"{label + ':':<11}{found_paths[0].resolve()}")
    exports = sorted({path.parent for path in written if "exports" in path.parts})
    for folder in exports:
        console.print(f"{'export:':<11}{folder.resolve()}")
    console.print(f"\nTo browse it: make serve, then open /jobs/{job['id']} at the address it prints.")
    return 0
