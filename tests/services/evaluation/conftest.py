"""Rows that candidates have answered, and contexts in which a scripted model judges them."""

from typing import Any

import msgspec

from shared.domain.jobs import JobSpec
from shared.domain.rows import Answer, Facet, InstructionRow, Preference, Rubric
from shared.domain.taxonomy import default_taxonomy
from shared.stages.protocol import RowContext
from tests.support.fake_models import ScriptedModel

MODEL = {"provider": "scripted-provider", "model": "scripted-model"}
LEVELS = ["none", "little", "half", "most", "all"]


def preference(wish: str, pole: str = "") -> Preference:
    return Preference("style", "tone", wish, f"Wants {wish}.", pole)


def facet(index: int, wishes: tuple[str, ...], answer: str | None, **more: Any) -> Facet:
    """A facet with one rubric per wish and one best answer (None: none)."""
    return Facet(
        index,
        preferences=[preference(wish) for wish in wishes],
        system=f"You serve person {index}.",
        response=f"reference {index}",
        rubrics=[Rubric(f"How much {wish}?", LEVELS) for wish in wishes],
        answers=[] if answer is None else [Answer(answer, "stop", 1, 3, best=True)],
        **more,
    )


def instruction(*facets: Facet, **more: Any) -> InstructionRow:
    return InstructionRow("row1", "Say hello.", "src", "src", 0, facets=list(facets), **more)


def context_for(model: ScriptedModel, stage: str, evaluate: dict[str, Any], **beside: Any) -> RowContext:
    spec = JobSpec.model_validate(
        {
            "questions": {"bench": "bench_1"},
            "judge": MODEL,
            "seed": 7,
            "answer": [{"name": "a", "candidate": {"given": True}}, {"name": "b", "candidate": {"given": True}}],
            "evaluate": evaluate,
        }
    )
    context = RowContext("job_test", stage, spec, default_taxonomy(), model, model)
    return msgspec.structs.replace(context, beside=beside)
