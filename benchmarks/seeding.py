"""A job in the database and in the store as it stands when `compose` (or `respond`) has succeeded, made with the product's
own repositories: what a benchmark of one stage starts from."""

import random
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlmodel import col

from shared.artifacts import layout
from shared.artifacts.protocol import ArtifactStore
from shared.artifacts.tables import write_rows
from shared.domain.checks import canonical_sentence
from shared.domain.identifiers import row_id_of
from shared.domain.jobs import JobSpec
from shared.domain.plan import COLLECTION_PLAN, StageKind, plan_of, shard_size
from shared.domain.rows import ROW_SCHEMA_VERSION, Check, Facet, InstructionRow, Preference, Provenance
from shared.domain.states import StageState, StepState
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.scheduling import NewStep, SchedulingRepository, UnpartitionedStage
from shared.metadata.tables import Stage, Step

_CHECKS = (
    Check("maximum_words", {"words": 400}),
    Check("must_avoid", {"phrases": ["as an AI language model"]}),
    Check("format", {"format": "plain_prose"}),
)
_TOPICS = (
    "a garden wall", "the tides", "a late invoice", "compound interest", "a city council", "sourdough bread",
    "a broken bicycle", "the French Revolution", "a job interview", "a regular expression", "a rainy holiday",
    "the water cycle", "a chess opening", "a neighbour's dog", "a power cut", "the human heart",
)  # fmt: skip
_ASKS = (
    "Explain how one would deal with {topic}, with the reasons for each step and one thing that people often get wrong.",
    "I have to talk about {topic} next week in front of people who know little of it. What should I say first, and why?",
    "Write a short piece about {topic} that a reader of twelve would enjoy and that an expert would not find wrong.",
    "Compare two ways to think about {topic} and tell me which of them you would choose if you had only one hour.",
)


def instruction_row(number: int, taxonomy: Taxonomy, with_response: bool = False) -> InstructionRow:
    """Row `number`, the same in every run: a preference for each dimension, one of them with a machine check."""
    chance = random.Random(number)
    topic = chance.choice(_TOPICS)
    instruction = f"{chance.choice(_ASKS).format(topic=topic)} This is question {number} of my list."
    check = _CHECKS[number % len(_CHECKS)]
    preferences = []
    for place, dimension in enumerate(taxonomy.dimensions):
        subdimension = chance.choice(dimension.subdimensions)
        pole = chance.choice(subdimension.poles)
        description = (
            f"The answer about {topic} should lean towards {pole.name} in {subdimension.name}, "
            "and keep to that in every part."
        )
        carried = check if place == 0 else None
        if carried is not None:
            description = f"{description} {canonical_sentence(carried)}"
        preferences.append(
            Preference(
                dimension.name, subdimension.name, f"{pole.name}, {topic}", description, pole.name, pole.name, carried
            )
        )
    system = " ".join(
        ["You are a patient companion for people who want to understand things.", *(p.description for p in preferences)]
    )
    provenance = [
        Provenance(stage, "fake", "m", "0123456789ab", chance.getrandbits(62), 1.0, 1.0, 2048, 1, 900, 250)
        for stage in ("augment", "compose")
    ]
    facet = Facet(0, preferences, system=system, system_form="second person", provenance=provenance)
    if with_response:
        sentences = (
            f"Part {part} of the answer turns to {chance.choice(_TOPICS)} for an example." for part in range(12)
        )
        facet.response = f"Think of {topic} first. {' '.join(sentences)}"
        facet.finish_reason = "stop"
        facet.check_results = {preferences[0].subdimension: "pass"}
    return InstructionRow(
        row_id_of(instruction), instruction, "benchmark", "benchmark", number, tags=["benchmark"], facets=[facet]
    )


async def seed_job(
    sessions: async_sessionmaker[AsyncSession],
    store: ArtifactStore,
    folder: Path,
    *,
    project_id: str,
    rows: int,
    last_made: StageKind = StageKind.COMPOSE,
    provider: str = "fake",
) -> str:
    """Store a job of `rows` instructions with one facet each, whose stages up to `last_made` have succeeded; returns its id.

    It stops after `respond`.
    """
    taxonomy = default_taxonomy()
    spec = JobSpec.model_validate(
        {
            "name": f"benchmark of {rows} rows",
            "sources": [{"bundled": "demo"}],
            "teacher": {"provider": provider, "model": "m"},
            "augment": {"sets_per_instruction": 1},
            # One call per row, so that answers can be counted against rows.
            "respond": {"no_system_share": 0},
            "stop_after": "respond",
        }
    )
    last = next(stage.name for stage in COLLECTION_PLAN if stage.kind is last_made)
    with_response = last_made is StageKind.RESPOND
    return await seed_stages(
        sessions,
        store,
        folder,
        project_id=project_id,
        spec=spec,
        last=last,
        rows=rows,
        row=lambda number: instruction_row(number, taxonomy, with_response),
    )


async def seed_stages(
    sessions: async_sessionmaker[AsyncSession],
    store: ArtifactStore,
    folder: Path,
    *,
    project_id: str,
    spec: JobSpec,
    last: str,
    rows: int,
    row: Callable[[int], InstructionRow],
) -> str:
    """Store a job whose stages up to the one called `last` have succeeded, with the rows that this one left; returns its id.

    All becomes visible at once, so a controller that runs finds nothing half made.
    """
    taxonomy = default_taxonomy()
    size = shard_size(rows)
    parts = [range(start, min(rows, start + size)) for start in range(0, rows, size)]
    plans = {stage.name: stage for stage in plan_of(spec)}
    ordinal = list(plans).index(last)
    async with sessions() as session, session.begin():
        job, _ = await JobRepository(session).submit(project_id, spec, taxonomy, teacher_is_simulator=False)
        for stage in await JobRepository(session).stages(job.id):
            if stage.ordinal > ordinal:
                continue
            steps = [NewStep(shard, len(numbers)) for shard, numbers in enumerate(parts)]
            made = UnpartitionedStage(
                stage.id, job.id, stage.name, stage.kind, stage.service, stage.ordinal, tuple(stage.needs)
            )
            await SchedulingRepository(session).make_steps(made, steps if plans[last].is_row_stage else steps[:1])
            ended = sa.update(Step).where(col(Step.stage_id) == stage.id)
            await session.execute(ended.values(state=StepState.SUCCEEDED.value, finished_at=sa.func.now()))
            total = sa.select(sa.func.count()).where(col(Step.stage_id) == stage.id).scalar_subquery()
            await session.execute(
                sa.update(Stage)
                .where(col(Stage.id) == stage.id)
                .values(
                    state=StageState.SUCCEEDED.value,
                    steps_succeeded=total,
                    started_at=sa.func.now(),
                    finished_at=sa.func.now(),
                )
            )
        step_ids = {step.shard: step.id for step in await _steps(session, job.id, last)}
        stage_folder = layout.stage_folder(project_id, job.id, ordinal, last)
        for shard, numbers in enumerate(parts):
            path = folder / layout.part_name(shard)
            written = write_rows(path, map(row, numbers))
            stored = await store.put_file(
                layout.attempt_key(stage_folder, path.name, shard + 1), path, "application/vnd.apache.parquet"
            )
            path.unlink()
            await ArtifactRepository(session).add(
                project_id=project_id,
                job_id=job.id,
                stage=last,
                name=layout.part_name(shard),
                key=stored.key,
                kind="table",
                media_type="application/vnd.apache.parquet",
                sha256=stored.sha256,
                size=stored.size,
                step_id=step_ids[shard],
                rows=written,
                schema_version=ROW_SCHEMA_VERSION,
            )
        return job.id


async def _steps(session: AsyncSession, job_id: str, stage: str) -> list[Step]:
    return await JobRepository(session).steps(job_id, stage=stage, limit=1_000_000)
