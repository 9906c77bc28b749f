"""Rows, a taxonomy and a whole-step context made up for the tests of assembly and report."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.artifacts.tables import write_rows
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import AssembleParameters, JobSpec, ModelChoice, Source
from shared.domain.ledger import Ledger
from shared.domain.rows import Check, Facet, InstructionRow, Preference, Provenance, Rejection
from shared.domain.taxonomy import Dimension, Pole, SeedPreference, Subdimension, Taxonomy
from shared.stages.protocol import InputObject, WholeContext

NAMES = {
    "style": (("conciseness", "brief", "thorough"), ("tone", "formal", "casual")),
    "background knowledge": (("expertise", "novice", "expert"), ("field", "science", "arts")),
    "informativeness": (("depth", "overview", "detail"), ("practicality", "theory", "practice")),
    "harmlessness": (("candour", "careful", "frank"), ("sources", "cautious", "decided")),
}
WORDS = (
    "garden", "river", "engine", "letter", "window", "market", "teacher", "forest", "signal", "bread",
    "music", "harbour", "planet", "bridge", "silver", "copper", "answer", "question", "lesson", "plan",
    "story", "reason", "example", "summary", "detail", "step", "result", "choice", "method", "figure",
)  # fmt: skip


def small_taxonomy() -> Taxonomy:
    """4 dimensions x 2 subdimensions x 2 poles x 3 seeds = 48 seeds."""
    return Taxonomy(
        name="small",
        dimensions=tuple(
            Dimension(
                name=dimension,
                description=f"What {dimension} means.",
                subdimensions=tuple(
                    Subdimension(
                        name=name,
                        description=f"How {name} shows.",
                        poles=(Pole(name=left, description=left), Pole(name=right, description=right)),
                        seeds=tuple(
                            SeedPreference(
                                name=f"{pole} {name} {number}",
                                pole=pole,
                                description=f"Wants {pole} {name} of kind {number}.",
                            )
                            for pole in (left, right)
                            for number in range(3)
                        ),
                    )
                    for name, left, right in subdimensions
                ),
            )
            for dimension, subdimensions in NAMES.items()
        ),
    )


def sentence(generator: random.Random, words: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(words)).capitalize() + "."


def make_facet(generator: random.Random, taxonomy: Taxonomy, index: int) -> Facet:
    preferences = []
    for dimension in taxonomy.dimensions:
        subdimension = generator.choice(dimension.subdimensions)
        seed = generator.choice(subdimension.seeds)
        preferences.append(
            Preference(
                dimension=dimension.name,
                subdimension=subdimension.name,
                preference=f"{seed.name.rsplit(' ', 1)[0]} {generator.choice(WORDS)}",
                description=f"{seed.description} {sentence(generator, 8)}",
                pole=seed.pole,
                seed_name=seed.name,
                check=Check("maximum_words", {"words": 80}) if dimension.name == "style" else None,
            )
        )
    checked = next(one.subdimension for one in preferences if one.check)
    generator.shuffle(preferences)
    return Facet(
        index=index,
        preferences=preferences,
        system=f"You are a {generator.choice(WORDS)} guide. {sentence(generator, generator.randint(20, 120))}",
        system_form=generator.choice(["role_prose", "letter", "brief_note"]),
        response=sentence(generator, generator.randint(15, 400)),
        finish_reason="stop",
        check_results={checked: generator.choice(["pass", "pass", "pass", "not_applicable"])},
        scores={"own": 4.5},
        provenance=[
            Provenance(stage, "simulator", "simulator-large", f"{index:012d}", 7, 1.0, 0.9, 512, 1, 100, 50)
            for stage in ("augment", "compose", "respond")
        ],
    )


def make_rows(
    count: int, facets: int = 3, seed: int = 0, rejected_share: float = 0.0, taxonomy: Taxonomy | None = None
) -> list[InstructionRow]:
    generator = random.Random(seed)
    taxonomy = taxonomy or small_taxonomy()
    rows = []
    for number in range(count):
        instruction = f"Question {number}: {sentence(generator, generator.randint(4, 40))}"
        made = [make_facet(generator, taxonomy, index) for index in range(facets)]
        for facet in made:
            if generator.random() < rejected_share:
                facet.rejection = Rejection("respond", "refused", "the teacher refused")
        rows.append(
            InstructionRow(
                row_id_of(instruction),
                instruction,
                "prompts",
                generator.choice(["koala", "bench"]),
                number,
                facets=made,
            )
        )
    return rows


def make_spec(seed: int = 0, **assemble: Any) -> JobSpec:
    return JobSpec(
        sources=(Source(bundled="demo"),),
        teacher=ModelChoice(provider="simulator", model="simulator-large"),
        seed=seed,
        assemble=AssembleParameters(**assemble),
    )


def respond_parts(folder: Path, rows: Sequence[InstructionRow], per_part: int = 40) -> tuple[InputObject, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    inputs = []
    for number, start in enumerate(range(0, max(len(rows), 1), per_part)):
        path = folder / f"part-{number:05d}.parquet"
        written = write_rows(path, rows[start : start + per_part])
        inputs.append(InputObject("respond", path.name, path, written, {}))
    return tuple(inputs)


def make_context(
    folder: Path,
    inputs: Iterable[InputObject],
    *,
    stage: str = "assemble",
    spec: JobSpec | None = None,
    taxonomy: Taxonomy | None = None,
    stage_ledgers: dict[str, Ledger] | None = None,
    facts: dict[str, Any] | None = None,
    progress: Callable[[int, int | None, str], None] = lambda done, total, note: None,
) -> WholeContext:
    output = folder / f"{stage}-output"
    output.mkdir(parents=True, exist_ok=True)
    return WholeContext(
        job_id="job_test",
        stage=stage,
        spec=spec or make_spec(),
        taxonomy=taxonomy or small_taxonomy(),
        inputs=tuple(inputs),
        output_folder=output,
        progress=progress,
        stage_ledgers=stage_ledgers or {},
        facts=facts if facts is not None else {"teacher_is_simulator": True},
    )
