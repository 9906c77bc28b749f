"""`multifacet acceptance`: a small collection from a real teacher and judge, within a budget, and the audit of it.

This is how the pipeline is held to what it promises about data: everything else here is measured on a simulator, whose texts say
nothing about quality.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from services.cli.audit import run_audit
from services.cli.client import ApiClient
from services.cli.one_shot import a_system, agreed, check_instructions, model_choice, run_to_the_end, source_of
from shared.domain.errors import MultifacetError

INSTRUCTIONS = 200


def run_acceptance(
    instructions: Path | None,
    teacher: str,
    judge: str | None,
    budget_usd: float,
    out: Path,
    console: Console,
    *,
    confirmed: bool,
) -> int:
    """Exit code: 0 when the job succeeded and nothing in its audit is bad, 1 when not, 2 when a person declined the cost.

    Raises MultifacetError for the simulator, a model without a known price, and a job that is expected to cost more than the
    budget; nothing is asked of the models then.
    """
    check_instructions(instructions)
    writes, judges = model_choice(teacher, "teacher"), model_choice(judge or teacher, "judge")
    if "simulator" in (writes["provider"], judges["provider"]):
        raise MultifacetError(
            "the simulator makes up its texts, so a collection of it says nothing about quality; name a real teacher and judge, "
            "such as --teacher openai/gpt-4.1-mini"
        )
    with a_system(console, writes, judges) as client:
        spec = acceptance_spec(client, instructions, writes, judges, budget_usd)
        found = client.post("/v1/jobs/estimate", spec)
        _within_budget(found, budget_usd)
        if writes == judges:
            console.print("teacher and judge are one model: it grades its own work, which tends to look too good")
        if not agreed(found, f"{teacher} and {judge or teacher}", console, confirmed=confirmed):
            return 2
        job, _ = run_to_the_end(client, spec, out, console)
    if job["state"] != "succeeded":
        return 1
    console.print()
    audits = run_audit([out / "assemble" / "collection"], [], out / "audit.html", False, console)
    return 1 if any(audit.count("bad") for audit in audits) else 0


def acceptance_spec(
    client: ApiClient,
    instructions: Path | None,
    teacher: dict[str, str],
    judge: dict[str, str],
    budget_usd: float,
) -> dict[str, Any]:
    """The job: the first 200 instructions of the bundled set, or of a file, with every setting as shipped."""
    return {
        "name": "acceptance" if instructions is None else f"acceptance {instructions.stem}"[:120],
        "sources": [{**source_of(client, instructions, "acceptance"), "limit": INSTRUCTIONS}],
        "teacher": teacher,
        "judge": judge,
        # Of few instructions more must test, so that every level has some.
        "splits": {"test_share": 0.2},
        "budget_usd": budget_usd,
    }


def _within_budget(found: dict[str, Any], budget_usd: float) -> None:
    cost = found["cost_micro_usd"]
    if cost is None:
        raise MultifacetError(
            "the price of a model is not known, so no budget can hold; enter it in the providers file"
        )
    if cost > budget_usd * 1e6:
        raise MultifacetError(
            f"{found['calls']:,} calls are expected to cost ${cost / 1e6:.2f}, above the budget of ${budget_usd:.2f}; take "
            "cheaper models, or a file of fewer instructions"
        )
