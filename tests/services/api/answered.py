"""A finished job whose two candidates answered, and whose judge compared them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.api.state import ApiState
from shared.artifacts.tables import write_rows
from shared.domain.rows import Answer, Comparison, Facet, InstructionRow, Preference
from shared.metadata.tables import Job
from tests.services.api.support import add_artifact, end_job, submit_directly

CANDIDATES = [{"name": name, "candidate": {"given": True}} for name in ("base", "tuned")]
MODEL = {"provider": "simulator", "model": "simulator-large"}


def answered_rows(count: int, who: str, verdicts: Sequence[str] = ()) -> list[InstructionRow]:
    """Rows of one facet each; the last but one has no answer of `tuned`, the last the same answer of both."""
    rows = []
    for number in range(count):
        text = "Same words." if number == count - 1 else f"{who.upper()} says {number} " + "and more " * (number % 3)
        answers = [] if who == "tuned" and number == count - 2 else [Answer(text, "stop", 1, 3, best=True)]
        facet = Facet(
            0,
            preferences=[Preference("style", "tone", "calm", f"Wants calm words, number {number}.", "calm")],
            answers=answers,
            comparisons=[Comparison(0, order, verdict) for order, verdict in enumerate(verdicts)],
        )
        rows.append(
            InstructionRow(f"{number:016x}", f"Question <b>{number}</b>?", "set", "set", number, facets=[facet])
        )
    return rows


async def answered_job(state: ApiState, folder: Path, count: int = 12, *, compared: bool = True, **changes: Any) -> Job:
    """The job, succeeded, with the parts of `base`, `tuned` and, where compared, `compare-tuned`."""
    spec: dict[str, Any] = {"sources": [], "teacher": None, "questions": {"bench": "bench_1"}, "answer": CANDIDATES}
    if compared:
        spec |= {"judge": MODEL, "evaluate": {"pairwise": {"baseline": "base"}}}
    job = await submit_directly(state, **{**spec, **changes})
    stages = {"base": "base", "tuned": "tuned", **({"compare-tuned": "tuned"} if compared else {})}
    for ordinal, (stage, who) in enumerate(stages.items(), start=1):
        path = folder / f"{stage}.parquet"
        verdicts = ("win", "win") if stage == "compare-tuned" else ()
        rows = await asyncio.to_thread(write_rows, path, answered_rows(count, who, verdicts))
        await add_artifact(state, job, stage, "part-00000.parquet", path, ordinal=ordinal, rows=rows)
    await end_job(state, job.id)
    return job
