"""Making annotation tasks of a job's answers, and finding what its judge said of the same pairs."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.annotation_pairs import Pairs, make_pairs
from services.api.annotation_views import MAXIMUM_ITEMS, AnnotationTaskRequest
from services.api.local_objects import ObjectReference
from services.api.state import ApiState
from shared.artifacts.protocol import ObjectNotFound
from shared.domain.errors import InputRefused
from shared.domain.evaluations import COMPARE_PREFIX
from shared.domain.jobs import JobSpec
from shared.domain.states import JobState
from shared.metadata.repositories.annotations import AnnotationRepository
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.tables import AnnotationTask, Job


async def pairs_for(state: ApiState, project_id: str, wanted: AnnotationTaskRequest) -> Pairs:
    """The pairs that a task will hold. Raises InputRefused for what cannot be compared, and where no pair is left."""
    async with state.transaction() as session:
        job = await JobRepository(session).get(project_id, wanted.job)
    if job is None:
        raise InputRefused(
            f"there is no job {wanted.job!r} in this project; name one whose candidates answered", "/job"
        )
    if job.state != JobState.SUCCEEDED.value:
        raise InputRefused(f"job {job.id} is {job.state}; people compare what a succeeded job answered", "/job")
    _require_stages(job, wanted)
    first = await _parts(state, job.id, wanted.first)
    second = await _parts(state, job.id, wanted.second)
    async with state.objects.all_local([*first, *second]) as paths:
        pairs = await asyncio.to_thread(
            make_pairs, paths[: len(first)], paths[len(first) :], limit=wanted.limit, seed=wanted.seed
        )
    if len(pairs.items) > MAXIMUM_ITEMS:
        raise InputRefused(
            f"{len(pairs.items):,} pairs are more than the {MAXIMUM_ITEMS:,} that a task holds; set a limit", "/limit"
        )
    if not pairs.items:
        told = ", ".join(f"{reason}: {count}" for reason, count in pairs.left_out.items()) or "there is none"
        raise InputRefused(f"no pair of answers is left to compare ({told}); take other stages", "/second")
    return pairs


def _require_stages(job: Job, wanted: AnnotationTaskRequest) -> None:
    names = [answer.name for answer in JobSpec.model_validate(job.spec).answer]
    for pointer, name in (("/first", wanted.first), ("/second", wanted.second)):
        if name not in names:
            raise InputRefused(
                f"job {job.id} has no answer stage {name!r}; its answer stages: {', '.join(names) or 'none'}", pointer
            )
    if wanted.first == wanted.second:
        raise InputRefused(f"first and second are both {wanted.first!r}; take two answer stages", "/second")
    told = re.findall(r"[a-z0-9-]+", wanted.name.lower())
    if named := next((stage for stage in (wanted.first, wanted.second) if stage in told), None):
        raise InputRefused(
            f"the name tells annotators of the candidate {named!r}, and they must not know who answers; leave it out",
            "/name",
        )


async def _parts(state: ApiState, job_id: str, stage: str) -> list[ObjectReference]:
    async with state.transaction() as session:
        found = await ArtifactRepository(session).of_stages(job_id, [stage])
    return [ObjectReference(one.key, one.sha256, one.size) for one in found if one.name.startswith("part-")]


async def results_for(state: ApiState, task: AnnotationTask) -> dict[str, Any]:
    """What came of a task, as plain data."""
    # The statistics' imports take a while, and nothing else of the api needs them.
    from services.api.annotation_results import read_verdicts, results_of

    async with state.transaction() as session:
        repository = AnnotationRepository(session)
        items, annotations = await repository.items(task.id), await repository.annotations(task.id)
        job = await JobRepository(session).require(task.project_id, task.job_id)
    stage, turned, note = _compared(JobSpec.model_validate(job.spec), task)
    verdicts = None
    if stage is not None:
        parts: Sequence[ObjectReference] = await _parts(state, task.job_id, stage)
        try:
            async with state.objects.all_local(parts) as paths:
                verdicts = await asyncio.to_thread(read_verdicts, paths, turned=turned)
        except ObjectNotFound:
            note = f"what the job's judge said (stage {stage}) is gone from the artifact store"
    results = await asyncio.to_thread(results_of, task, items, annotations, verdicts, note)
    plain: dict[str, Any] = msgspec.to_builtins(results)
    return plain


def _compared(spec: JobSpec, task: AnnotationTask) -> tuple[str | None, bool, str]:
    """The stage in which the job's judge compared the two, whether the task's first is its baseline, and why there is none."""
    pairwise = None if spec.evaluate is None else spec.evaluate.pairwise
    if pairwise is None:
        return None, False, "the job's judge compared no answers (evaluate.pairwise is not set)"
    if pairwise.baseline == task.second:
        return f"{COMPARE_PREFIX}{task.first}", False, ""
    if pairwise.baseline == task.first:
        return f"{COMPARE_PREFIX}{task.second}", True, ""
    return (
        None,
        False,
        f"the job's judge compared all candidates with {pairwise.baseline}, not these two with each other",
    )
