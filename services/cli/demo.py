"""`multifacet demo`: from nothing to a collection, two small trainings on it, and the evaluation of both, with one command."""

from pathlib import Path
from typing import Any

from rich.console import Console

from services.cli.client import ApiClient
from services.cli.one_shot import a_system, agreed, check_instructions, model_choice, run_to_the_end, source_of


def run_demo(instructions: Path | None, teacher: str, out: Path, console: Console, *, confirmed: bool) -> int:
    """Exit code: 0 when the job succeeded, 1 when it failed, 2 when a person declined the cost."""
    check_instructions(instructions)
    chosen = model_choice(teacher, "teacher")
    with a_system(console, chosen) as client:
        spec = demo_spec(client, instructions, chosen)
        if chosen["provider"] == "simulator":
            console.print("teacher: simulator (no language model; everything made is stamped so, nothing is paid)")
        elif not agreed(client.post("/v1/jobs/estimate", spec), teacher, console, confirmed=confirmed):
            return 2
        job, written = run_to_the_end(client, spec, out, console)
    if job["state"] != "succeeded":
        return 1
    for label, name in (("report", "report.html"), ("evaluation", "evaluate/report.html"), ("data card", "README.md")):
        if (path := out / name) in written:
            console.print(f"{label + ':':<12}{path.resolve()}")
    exports = sorted({path.parent for path in written if "exports" in path.parts})
    for folder in exports:
        console.print(f"{'export:':<12}{folder.resolve()}")
    console.print(f"\nTo browse it: make serve, then open /jobs/{job['id']} at the address it prints.")
    return 0


def demo_spec(client: ApiClient, instructions: Path | None, chosen: dict[str, str]) -> dict[str, Any]:
    """The job of the demo: bundled instructions or an uploaded file, a fifth of them for testing."""
    spec = {
        "name": "demo" if instructions is None else instructions.stem[:120],
        "sources": [source_of(client, instructions, "demo")],
        "teacher": chosen,
        # Of few instructions more must test, so that every level has some.
        "splits": {"test_share": 0.2},
        # A tiny model with random weights: it shows that training runs, and learns next to nothing.
        "train": [
            {"preset": "smoke-cpu", "name": "sft", "maximum_test_rows": 20},
            # As many pairs as its 20 steps of two take: the reference model reads every pair there is.
            {
                "preset": "smoke-cpu",
                "name": "dpo",
                "method": "dpo",
                "base": {"stage": "sft"},
                "maximum_rows": 40,
                "maximum_test_rows": 20,
            },
        ],
        # A few of the test instructions become a bench. Both models, each on a server of its own, are asked them; the second is
        # compared with the first, its base.
        "questions": {"maximum_rows": 4},
        "bench": {"name": "demo"},
        "answer": [
            {"name": name, "candidate": {"stage": stage}, "decoding": {"max_tokens": 48}}
            for name, stage in (("base", "sft"), ("tuned", "dpo"))
        ],
        "evaluate": {},
    }
    if chosen["provider"] != "simulator":
        # A real judge is for the user to choose and to pay: without one, programs alone measure the answers.
        return {name: part for name, part in spec.items() if name != "bench"}
    return {**spec, "judge": chosen, "evaluate": {"absolute": {}, "pairwise": {"baseline": "base"}}}
