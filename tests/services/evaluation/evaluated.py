"""A finished evaluation's inputs, made by hand: two candidates, three people of each instruction, every verdict known."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.artifacts.tables import write_rows
from shared.domain.jobs import JobSpec
from shared.domain.rows import (
    Answer,
    Check,
    Comparison,
    Facet,
    InstructionRow,
    Judgment,
    Preference,
    Provenance,
    Rejection,
    Rubric,
)
from shared.domain.taxonomy import default_taxonomy
from shared.stages.protocol import InputObject, WholeContext

LEVELS = ["none", "little", "half", "most", "all"]
MODEL = {"provider": "simulator", "model": "simulator-large"}
WISHES = (("style", "tone"), ("informativeness", "depth"), ("background_knowledge", "terminology"))


def spec_of(evaluate: Mapping[str, Any], **more: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "small evaluation",
            "questions": {"bench": "bench_1"},
            "judge": MODEL,
            "seed": 5,
            "answer": [
                {"name": "base", "candidate": {"deployment": "base"}},
                {"name": "tuned", "candidate": {"deployment": "tuned"}},
            ],
            "evaluate": {"bootstrap_rounds": 200, "examples": 4, **evaluate},
            **more,
        }
    )


def preferences(person: int) -> list[Preference]:
    return [
        Preference(
            dimension,
            subdimension,
            f"wish {person}",
            f"Person {person} wants {subdimension} in their own way.",
            f"pole {person}",
            check=Check("maximum_words", {"words": 4}) if subdimension == "depth" else None,
        )
        for dimension, subdimension in WISHES
    ]


def row_of(number: int, answer: Callable[[int, int], str | None], people: int = 3) -> InstructionRow:
    """Instruction `number`, answered to each person with `answer(number, person)`; None: rejected as empty."""
    facets = []
    for person in range(people):
        text = answer(number, person)
        facets.append(
            Facet(
                person,
                preferences=preferences(person),
                system=f"You answer person {person}.",
                response=f"The reference for person {person}.",
                rubrics=[Rubric(f"How well is {name} served?", LEVELS) for _, name in WISHES],
                answers=[] if text is None else [Answer(text, "stop", 1, len(text.split()), best=True)],
                rejection=Rejection("a", "empty") if text is None else None,
                provenance=[Provenance("base", "simulator", "simulator-large", "verbatim", 1)],
            )
        )
    return InstructionRow(f"{number:016x}", f"Question {number}?", f"source {number % 2}", "s", number, facets=facets)


def judged(
    rows: Sequence[InstructionRow], score: Callable[[int, int, int], float | None], runs: int = 2, *, cross: bool = True
) -> list[InstructionRow]:
    """The rows with `score(number, person of the answer, person of the rubric)` on every rubric; None: a lost verdict."""
    for row in rows:
        for facet in row.facets:
            owners = [other.index for other in row.facets if cross or other.index == facet.index]
            facet.judgments = []
            for owner in owners:
                for rubric in range(len(WISHES)):
                    for run in range(runs):
                        given = None if not facet.alive else score(row.source_row, facet.index, owner)
                        fault = "" if given is not None else "no_answer" if not facet.alive else "no_verdict"
                        if owner == facet.index or facet.alive:
                            facet.judgments.append(Judgment(0, owner, rubric, run, given, "because", fault))
    return list(rows)


def compared(rows: Sequence[InstructionRow], verdict: Callable[[int, int], str]) -> list[InstructionRow]:
    """The rows with `verdict(number, order)` beside the baseline; an empty one is lost."""
    for row in rows:
        for facet in row.facets:
            facet.comparisons = [
                Comparison(0, order, said, "because", "" if said else "no_verdict")
                for order in (0, 1)
                for said in [verdict(row.source_row, order)]
            ]
    return list(rows)


def inputs_of(folder: Path, stages: Mapping[str, Sequence[InstructionRow]]) -> tuple[InputObject, ...]:
    """The parts of the stages, two each."""
    found = []
    for stage, rows in stages.items():
        half = (len(rows) + 1) // 2
        for shard, part in enumerate((rows[:half], rows[half:])):
            path = folder / f"{stage}-{shard}.parquet"
            count = write_rows(path, part)
            found.append(InputObject(stage, f"part-{shard:05d}.parquet", path, count, {}))
    return tuple(found)


def context_of(
    folder: Path, spec: JobSpec, stages: Mapping[str, Sequence[InstructionRow]], **facts: Any
) -> WholeContext:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return WholeContext(
        job_id="job_test",
        stage="evaluate",
        spec=spec,
        taxonomy=default_taxonomy(),
        inputs=inputs_of(folder, stages),
        output_folder=out,
        progress=lambda *_: None,
        facts=facts,
    )
