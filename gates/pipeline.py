"""Rows of real instructions through the row stages, in this process, with slips in one stage and a judge that errs as wanted."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import orjson

from gates.models import Labelled, SimulatedModel
from services.augmentation.handlers import augment
from services.composition.handlers import compose
from services.curation.harmful_intent import harmful_intent_filter
from services.generation.handlers import respond
from services.simulator.faults import FaultPlan
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import JobSpec
from shared.domain.plan import StageKind
from shared.domain.rows import HARMFUL_INTENT_TAG, InstructionRow
from shared.domain.taxonomy import default_taxonomy
from shared.sources.bundled import bundled_file
from shared.stages.protocol import RowContext

_PROCESS = {StageKind.AUGMENT: augment, StageKind.COMPOSE: compose, StageKind.RESPOND: respond}


class Outcome(msgspec.Struct, frozen=True):
    """A row after its last stage, what the simulator did wrong in each stage, and how often the judge was asked, by schema."""

    row: InstructionRow
    labels: dict[StageKind, list[Labelled]]
    judge_calls: Counter[str]


@lru_cache(maxsize=1)
def _instructions() -> tuple[str, ...]:
    lines = bundled_file("demo", "").read_bytes().splitlines()
    return tuple(str(orjson.loads(line)["instruction"]) for line in lines)


def training_rows(count: int) -> list[InstructionRow]:
    """So many training rows: the bundled instructions, with another draw each time round."""
    texts = _instructions()
    rows = []
    for number in range(count):
        text = texts[number % len(texts)]
        tags = [HARMFUL_INTENT_TAG] if harmful_intent_filter().match(text) else []
        rows.append(InstructionRow(row_id_of(f"{text}#{number}"), text, "demo", "demo", number, tags=tags, draw=number))
    return rows


def spec_of(seed: int, *, judged: bool) -> JobSpec:
    """A job without second tries: what a gate lets through at the first look is what is counted."""
    model = {"provider": "simulator", "model": "simulator-large"}
    return JobSpec.model_validate(
        {
            "sources": [{"bundled": "demo"}],
            "teacher": model,
            "judge": model if judged else None,
            "seed": seed,
            "augment": {"quality_retries": 0},
            "compose": {"quality_retries": 0},
            "respond": {"quality_retries": 0},
        }
    )


async def _run(
    rows: Sequence[InstructionRow], spec: JobSpec, teacher: FaultPlan, judge: FaultPlan, until: StageKind
) -> list[Outcome]:
    outcomes = []
    for row in rows:
        labels: dict[StageKind, list[Labelled]] = {}
        judge_calls: Counter[str] = Counter()
        for kind, process in _PROCESS.items():
            model, judging = SimulatedModel(teacher), SimulatedModel(judge)
            context = RowContext(
                job_id="gates",
                stage=kind.value,
                spec=spec,
                taxonomy=default_taxonomy(),
                teacher=model,
                judge=judging if spec.judge is not None else None,
            )
            row = await process(row, context)  # noqa: PLW2901 (one row through all stages)
            labels[kind] = model.labels
            judge_calls += judging.calls
            if kind is until:
                break
        outcomes.append(Outcome(row, labels, judge_calls))
    return outcomes


def run_rows(
    rows: Sequence[InstructionRow], spec: JobSpec, teacher: FaultPlan, judge: FaultPlan, until: StageKind
) -> list[Outcome]:
    """The rows after the stage `until`, each with the labels of its slips."""
    return asyncio.run(_run(rows, spec, teacher, judge, until))
