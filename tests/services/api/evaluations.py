"""Finished evaluations for tests of the api: a stored job with what its stage `evaluate` makes of known verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.api.state import ApiState
from services.evaluation.reporting.report import run
from shared.domain.jobs import JobSpec
from shared.domain.states import StageState
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import Job
from tests.services.api.support import add_artifact, end_job, submit_directly
from tests.services.evaluation.evaluated import compared, context_of, judged, row_of, spec_of

EVALUATE: Mapping[str, Any] = {"absolute": {"runs": 2}, "pairwise": {"baseline": "base"}}


async def stored_evaluation(state: ApiState, name: str = "small evaluation", **changes: Any) -> Job:
    """A job that evaluates, of which nothing has run."""
    spec = spec_of(EVALUATE, **{"name": name, **changes})
    return await submit_directly(state, **spec.model_dump(mode="json"))


async def finished_evaluation(
    state: ApiState, folder: Path, name: str = "small evaluation", *, lost: int = 0, **changes: Any
) -> Job:
    """One whose figures are there: `tuned` is graded 4 on its own rubrics and 2 on others', `base` 3 and 3. The verdicts on the
    first `lost` of six instructions are lost."""
    job = await stored_evaluation(state, name, **changes)
    await finish_evaluation(state, folder, job, lost=lost)
    return job


async def finish_evaluation(state: ApiState, folder: Path, job: Job, *, lost: int = 0) -> None:
    """Store the figures of a job that evaluates, and end it."""
    spec = JobSpec.model_validate(job.spec)
    folder = folder / job.id
    folder.mkdir()
    rows = {
        candidate: [row_of(number, lambda n, person, word=candidate: f"{word} {n} {person}") for number in range(6)]
        for candidate in ("base", "tuned")
    }
    stages = {
        **rows,
        "judge-base": judged(rows["base"], lambda *_: 3.0),
        "judge-tuned": judged(
            rows["tuned"], lambda number, person, owner: None if number < lost else 4.0 if person == owner else 2.0
        ),
        "compare-tuned": compared(rows["tuned"], lambda number, _: "win" if number else "lose"),
    }
    result = run(context_of(folder, spec, stages))
    for output in result.outputs:
        await add_artifact(state, job, "evaluate", output.name, output.path, media_type=output.media_type)
    async with state.transaction() as session:
        stages_of = await JobRepository(session).stages(job.id)
        stage = next(stage for stage in stages_of if stage.name == "evaluate")
        stage.state, stage.summary = StageState.SUCCEEDED.value, result.summary
    await end_job(state, job.id)
