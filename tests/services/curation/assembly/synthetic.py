"""Rows, a taxonomy and a whole-step context made up for the tests of assembly and report."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from services.augmentation.drawing import Drawing, drawing_of
from services.augmentation.sampler import SetAssignment, Slot
from services.composition.forms import Wording, draw_wordings
from services.curation.splitting import Splitter, source_of
from shared.artifacts.tables import write_rows
from shared.domain.identifiers import row_id_of, seed_of
from shared.domain.jobs import AssembleParameters, AugmentParameters, JobSpec, ModelChoice, Source, SplitParameters
from shared.domain.ledger import Ledger
from shared.domain.rows import Check, Facet, InstructionRow, Preference, Provenance, Rejection
from shared.domain.splits import hold_out
from shared.domain.taxonomy import Dimension, Pole, SeedPreference, Subdimension, Taxonomy
from shared.stages.protocol import InputObject, WholeContext

NAMES = {
    "style": (("conciseness", "brief", "thorough"), ("tone", "formal", "casual"), ("layout", "plain", "structured")),
    "background knowledge": (
        ("expertise", "novice", "expert"),
        ("field", "science", "arts"),
        ("region", "local", "global"),
    ),
    "informativeness": (
        ("depth", "overview", "detail"),
        ("practicality", "theory", "practice"),
        ("evidence", "sourced", "unsourced"),
    ),
    "harmlessness": (
        ("candour", "careful", "frank"),
        ("sources", "cautious", "decided"),
        ("privacy", "reserved", "open"),
    ),
}
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_LETTERS = random.Random(0)
WORDS = tuple("".join(_LETTERS.choices(_SYLLABLES, k=3)) for _ in range(3000))
"""So many that two sentences have next to nothing in common, as far as character 5-grams go."""


def small_taxonomy() -> Taxonomy:
    """4 dimensions x 3 subdimensions x 2 poles x 3 seeds = 72 seeds."""
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
                        poles=(
                            Pole(name=left, description=left, stance="careful" if harmless else None),
                            Pole(name=right, description=right, stance="frank" if harmless else None),
                        ),
                        seeds=tuple(
                            SeedPreference(
                                name=f"{pole} {name} {number}",
                                pole=pole,
                                description=sentence(random.Random(f"{pole} {name} {number}"), 8),
                            )
                            for pole in (left, right)
                            for number in range(3)
                        ),
                    )
                    for name, left, right in subdimensions
                ),
            )
            for dimension, subdimensions in NAMES.items()
            for harmless in [dimension == "harmlessness"]
        ),
    )


def sentence(generator: random.Random, words: int) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(words)).capitalize() + "."


def make_preference(slot: Slot, generator: random.Random) -> Preference:
    """What a teacher might make of a slot: a few words around the seed, or in a free slot a preference of its own."""
    check = Check("maximum_words", {"words": 80}) if slot.dimension == "style" else None
    if slot.seed is None:
        name = f"coined {generator.choice(WORDS)}"
        return Preference(slot.dimension, name, name, sentence(generator, 12), "", "", check, slot.intensity)
    return Preference(
        dimension=slot.dimension,
        subdimension=slot.seed.subdimension,
        preference=f"{slot.seed.name.rsplit(' ', 1)[0]} {generator.choice(WORDS)}",
        description=f"{slot.seed.description} {sentence(generator, 8)}",
        pole=slot.seed.pole,
        seed_name=slot.seed.name,
        check=check,
        intensity=slot.intensity,
    )


def make_facet(generator: random.Random, index: int, assignment: SetAssignment | None, wording: Wording) -> Facet:
    if assignment is None:
        return Facet(index, rejection=Rejection("augment", "no_set_found", "the sampler found none"))
    preferences = [make_preference(slot, generator) for slot in assignment.slots]
    return Facet(
        index=index,
        preferences=preferences,
        profile=assignment.profile,
        system=f"You are {wording.role or 'a guide'}. {sentence(generator, generator.randint(20, 120))}",
        system_form=wording.form.name,
        system_role=wording.role,
        response=sentence(generator, generator.randint(15, 400)),
        finish_reason="stop",
        check_results={
            entry.subdimension: generator.choice(["pass", "pass", "pass", "not_applicable"])
            for entry in preferences
            if entry.check
        },
        scores={"own": 4.5},
        provenance=[
            Provenance(stage, "simulator", "simulator-large", f"{index:012d}", 7, 1.0, 0.9, 512, 1, 100, 50)
            for stage in ("augment", "compose", "respond")
        ],
    )


def make_rows(
    count: int,
    facets: int = 3,
    seed: int = 0,
    rejected_share: float = 0.0,
    taxonomy: Taxonomy | None = None,
    spec: JobSpec | None = None,
) -> list[InstructionRow]:
    """Rows as they leave the stages before assembly: split by curation's splitter, their sets drawn by augmentation's sampler,
    forms and roles by composition. `seed` is of the texts alone; splits, sets and wordings follow from `spec`, which must be
    that of the job."""
    generator = random.Random(seed)
    taxonomy = taxonomy or small_taxonomy()
    spec = spec or make_spec()
    augment = spec.augment.model_copy(update={"sets_per_instruction": facets})
    spec = spec.model_copy(update={"augment": augment})
    rows = []
    for number in range(count):
        instruction = f"Question {number}: {sentence(generator, generator.randint(4, 40))}"
        [source] = generator.choices(["koala", "bench", "rare"], [5, 3, 1])
        rows.append(InstructionRow(row_id_of(instruction), instruction, "prompts", source, number))
    splitter = Splitter(taxonomy, spec, Counter(map(source_of, rows)))
    held_out = hold_out(taxonomy, spec.splits, spec.seed)
    for row in rows:
        splitter.place(row, source_of(row))
        drawing: Drawing = drawing_of(taxonomy, spec, row.language, row.tags)
        wordings = draw_wordings(seed_of(spec.seed, "wordings", row.row_id), facets, held_out, row.level)
        sets = drawing.sampler.assign(row.draw, row.level)
        row.facets = [
            make_facet(generator, index, assignment, wording)
            for index, (assignment, wording) in enumerate(zip(sets, wordings, strict=True))
        ]
        for facet in row.facets:
            if facet.alive and generator.random() < rejected_share:
                facet.rejection = Rejection("respond", "refused", "the teacher refused")
    return rows


def make_spec(
    seed: int = 0,
    *,
    splits: SplitParameters | None = None,
    augment: AugmentParameters | None = None,
    **assemble: Any,
) -> JobSpec:
    return JobSpec(
        sources=(Source(bundled="demo"),),
        teacher=ModelChoice(provider="simulator", model="simulator-large"),
        seed=seed,
        splits=splits or SplitParameters(),
        augment=augment or AugmentParameters(),
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
