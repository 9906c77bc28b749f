"""What a job would take, as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_estimate(found: dict[str, Any], to: Console) -> None:
    """One line per stage, then the sum."""
    table = Table("stage", "calls", "prompt tokens", "completion tokens", "cost")
    for stage in found["stages"]:
        table.add_row(
            stage["stage"],
            f"{stage['calls']:,}",
            f"{stage['prompt_tokens']:,}",
            f"{stage['completion_tokens']:,}",
            _dollars(stage["cost_micro_usd"]),
        )
    to.print(table)
    to.print(f"in all {_dollars(found['cost_micro_usd'])}")


def _dollars(micro_usd: int | None) -> str:
    return "unknown: no price is configured for this model" if micro_usd is None else f"${micro_usd / 1e6:.4f}"
