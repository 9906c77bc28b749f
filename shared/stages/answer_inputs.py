"""Finding what answering reads: the rows that are asked, and the models that answer and score.

Every fault is an InputRefused that points at the option in the job spec, so submission can ask the same questions. The child of
`select` finds its rows as parts of the stage `rows`, what the collection took of them as tables of `collection`, or an upload;
those of a bench as the table of the stage `bench` or as an upload, with the items that its review dropped in the metadata.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.answers import (
    AnswerParameters,
    CandidateChoice,
    QuestionParameters,
    RewardChoice,
    ServerChoice,
)
from shared.domain.benches import BENCH_ROWS_FILE, Outcome, outcomes
from shared.domain.deployments import ServerOptions, ServingModel
from shared.domain.errors import InputRefused
from shared.domain.evaluations import BENCH, subject_of
from shared.domain.jobs import JobSpec
from shared.domain.plan import asked_stages, plan_until
from shared.domain.states import JobState
from shared.domain.training import Method
from shared.llm.providers import load_providers
from shared.metadata.repositories.artifacts import ArtifactRepository
from shared.metadata.repositories.benches import BenchRepository
from shared.metadata.repositories.files import FileRepository
from shared.metadata.repositories.jobs import JobRepository
from shared.metadata.repositories.models import ModelRepository
from shared.metadata.repositories.served_models import refuse_options, served_model
from shared.metadata.repositories.serving import ServingRepository
from shared.metadata.repositories.steps import Claim
from shared.metadata.tables import Artifact, Bench, Job, RegisteredModel, UploadedFile
from shared.settings import get_settings
from shared.stages.protocol import InputReference
from shared.stages.training_inputs import reference, refuse_removed, upload_reference

ROWS_STAGE = "rows"
COLLECTION_STAGE = "collection"
REFERENCES_STAGE = "references"
"""Stage of the upload that holds reference answers to the questions of another."""
DROPPED = "dropped"
"""Name in an input's metadata: ids of the items of a bench that are not asked."""

_ASSEMBLE = "assemble"
_COLLECTION_TABLES = ("collection/train.parquet", "collection/test.parquet")


async def question_inputs(session: AsyncSession, claim: Claim, spec: JobSpec) -> list[InputReference]:
    """All objects that the stage `select` reads. Raises InputRefused for what is not there."""
    asked = spec.asked
    if asked.file is not None:
        found = [upload_reference(await find_file_of_questions(session, claim.project_id, asked))]
        if asked.references is not None:
            references = upload_reference(await find_references(session, claim.project_id, asked.references))
            found.append(msgspec.structs.replace(references, stage=REFERENCES_STAGE))
        return found
    if asked.hub is not None:
        return []  # the step reads the Hub itself
    if asked.suite is not None:
        return []  # the package carries the rows
    if asked.bench is not None:
        return [await _bench_input(session, claim.project_id, asked.bench)]
    if asked.job is None:
        return await _rows(session, claim.job_id, claim.needs, "/questions")
    job = await find_job_of_questions(session, claim.project_id, asked)
    return await _rows(session, job.id, stages_asked_of(job), "/questions/job")


async def find_job_of_questions(session: AsyncSession, project_id: str, asked: QuestionParameters) -> Job:
    """The job that `questions.job` names. Raises InputRefused at `/questions/job`."""
    place = "/questions/job"
    job = await JobRepository(session).get(project_id, asked.job or "")
    if job is None:
        raise InputRefused(f"there is no job {asked.job!r} in this project; name one that made a collection", place)
    if job.state != JobState.SUCCEEDED.value:
        raise InputRefused(f"job {job.id} is {job.state}; only what a succeeded job made is asked", place)
    refuse_removed(job, place)
    if not stages_asked_of(job):
        raise InputRefused(
            f"job {job.id} made no rows that can be asked (no sources, or it stops after augment); name one that made a "
            "collection",
            place,
        )
    return job


def stages_asked_of(job: Job) -> tuple[str, ...]:
    """The stages of another job that its questions are taken from; none where it has no rows that can be asked."""
    spec = JobSpec.model_validate(job.spec)
    plan = plan_until(spec.stop_after) if spec.sources else ()
    stages = asked_stages(plan)
    # Where a job stops after augment its rows have preference sets that nothing was made of.
    return () if plan and plan[-1].name == "augment" else stages


async def find_file_of_questions(session: AsyncSession, project_id: str, asked: QuestionParameters) -> UploadedFile:
    """The upload that `questions.file` names. Raises InputRefused at `/questions/file`."""
    file = await FileRepository(session).get(project_id, asked.file or "")
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {asked.file!r}; POST it to /v1/files and set the id it returns, or write "
            "upload:<file name> and give `multifacet submit` its path by --upload",
            "/questions/file",
        )
    return file


async def find_references(session: AsyncSession, project_id: str, file_id: str) -> UploadedFile:
    """The upload that `questions.references` names. Raises InputRefused there."""
    file = await FileRepository(session).get(project_id, file_id)
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {file_id!r} of reference answers; POST it to /v1/files and set the id it returns",
            "/questions/references",
        )
    return file


async def find_file_of_answers(session: AsyncSession, project_id: str, spec: JobSpec, stage: str) -> UploadedFile:
    """The upload that holds the answers of a stage `take-…`. Raises InputRefused at the candidate's `file`."""
    names = [answer.name for answer in spec.answer]
    number = names.index(subject_of(stage))
    file_id = spec.answer[number].candidate.file or ""
    file = await FileRepository(session).get(project_id, file_id)
    if file is None:
        raise InputRefused(
            f"there is no uploaded file {file_id!r} of answers; POST it to /v1/files and set the id it returns, or write "
            "upload:<file name> and give `multifacet submit` its path by --upload",
            f"/answer/{number}/candidate/file",
        )
    return file


async def find_bench_of_questions(
    session: AsyncSession, project_id: str, bench_id: str
) -> tuple[Bench, Artifact | UploadedFile]:
    """The bench that `questions.bench` names, and the object that holds its items. Raises InputRefused at `/questions/bench`."""
    place = "/questions/bench"
    bench = await BenchRepository(session).get(project_id, bench_id)
    if bench is None:
        raise InputRefused(
            f"there is no bench {bench_id!r} in this project; GET /v1/benches lists them, POST makes one of an uploaded file",
            place,
        )
    held = await bench_object(session, bench)
    if held is None:
        raise InputRefused(f"the items of bench {bench_id} are gone; make it again", place)
    return bench, held


async def bench_object(session: AsyncSession, bench: Bench) -> Artifact | UploadedFile | None:
    """What holds the items of a bench: the rows that its job kept (`bench-rows.parquet`), or its uploaded file."""
    if bench.file_id is not None:
        return await FileRepository(session).get(bench.project_id, bench.file_id)
    found = await ArtifactRepository(session).of_stages(bench.job_id or "", [BENCH], BENCH_ROWS_FILE)
    return found[-1] if found else None


async def dropped_items(session: AsyncSession, bench_id: str) -> list[str]:
    """Ids of the items that the review of a bench dropped, see `shared.domain.benches.outcome_of`."""
    reviews = await BenchRepository(session).reviews(bench_id)
    told = outcomes((review.item_id, review.decision) for review in reviews)
    return sorted(item for item, outcome in told.items() if outcome is Outcome.DROPPED)


async def _bench_input(session: AsyncSession, project_id: str, bench_id: str) -> InputReference:
    _, held = await find_bench_of_questions(session, project_id, bench_id)
    found = reference(held, BENCH, held.name) if isinstance(held, Artifact) else upload_reference(held)
    dropped = await dropped_items(session, bench_id)
    return msgspec.structs.replace(found, metadata={**found.metadata, DROPPED: dropped})


async def find_registered(
    session: AsyncSession, project_id: str, model_id: str, place: str, server: ServerChoice
) -> RegisteredModel:
    """The registered model of that id, which a server of that kind can hold. Raises InputRefused at `place`."""
    try:
        model = (await served_model(session, project_id, model_id)).model
        refuse_options(model, ServerOptions(server=server))
    except InputRefused as error:
        raise InputRefused(str(error), place) from error
    return model


async def find_deployment(session: AsyncSession, project_id: str, name: str, place: str) -> ServingModel:
    """The deployment of that name, which answers now. Raises InputRefused at `place`."""
    serving = await ServingRepository(session).find(project_id, name)
    if serving is None:
        raise InputRefused(
            f"no deployment {name!r} of this project answers now; GET /v1/deployments lists them with their states",
            place,
        )
    return serving


async def check_models(session: AsyncSession, project_id: str, answer: AnswerParameters, pointer: str) -> None:
    """Raise InputRefused where a candidate or reward model is not there, or is no model of its kind."""
    registry, deployment = answer.candidate.registry, answer.candidate.deployment
    if registry is not None:
        model = await find_registered(session, project_id, registry, f"{pointer}/candidate/registry", answer.server)
        _refuse_reward(model.method, registry, f"{pointer}/candidate/registry")
    if deployment is not None:
        serving = await find_deployment(session, project_id, deployment, f"{pointer}/candidate/deployment")
        _refuse_reward(serving.method, deployment, f"{pointer}/candidate/deployment")
    if answer.reward is None:
        return
    registry, deployment = answer.reward.registry, answer.reward.deployment
    if registry is not None:
        model = await find_registered(session, project_id, registry, f"{pointer}/reward/registry", "cpu")
        _require_reward(model.method, registry, f"{pointer}/reward/registry")
    if deployment is not None:
        serving = await find_deployment(session, project_id, deployment, f"{pointer}/reward/deployment")
        _require_reward(serving.method, deployment, f"{pointer}/reward/deployment")
        if serving.server_kind != "cpu":
            raise InputRefused(
                f"the deployment {deployment} is on a server of kind {serving.server_kind}, which gives no scores; deploy the "
                "reward model on a server of kind cpu",
                f"{pointer}/reward/deployment",
            )


async def answer_models(session: AsyncSession, claim: Claim, spec: JobSpec) -> dict[str, dict[str, Any]]:
    """What a report must say of the models, by answer stage (`<stage>:reward` for its reward model): `random_weights`,
    `simulated_data` and `trained_on`, the teacher (`provider/model`) of the texts that it was trained on; of a provider's model
    `simulator` and which `model` it is."""
    made = {model.stage: model for model in await ModelRepository(session).of_job(claim.job_id)}
    serving = {model.name: model for model in await ServingRepository(session).serving(claim.project_id)}
    told: dict[str, dict[str, Any]] = {}
    for answer in spec.answer:
        for name, choice in ((answer.name, answer.candidate), (f"{answer.name}:reward", answer.reward)):
            if choice is None:
                continue
            deployed = serving.get(choice.deployment or "")
            model_id = choice.registry or (None if deployed is None else deployed.target.registry)
            model = made.get(choice.stage or "")
            if model is None and model_id is not None:
                model = await ModelRepository(session).get(claim.project_id, model_id)
            if model is not None:
                data = model.lineage.get("data") or {}
                told[name] = {
                    "random_weights": bool(model.lineage.get("random_weights")),
                    "simulated_data": bool(data.get("simulator")),
                    "trained_on": data.get("teacher"),
                }
            elif found := _provider_of(choice, deployed):
                provider, named = found
                configured = load_providers(get_settings().providers_file).providers.get(provider)
                told[name] = {
                    "simulator": configured is not None and configured.simulator,
                    "model": f"{provider}/{named}",
                }
    return told


def _provider_of(
    choice: CandidateChoice | RewardChoice, deployed: ServingModel | None
) -> tuple[str, str | None] | None:
    if isinstance(choice, CandidateChoice) and choice.provider is not None:
        return choice.provider, choice.model
    if deployed is None or deployed.target.provider is None:
        return None
    return deployed.target.provider, deployed.target.model


def _refuse_reward(method: str | None, name: str, place: str) -> None:
    if method == Method.REWARD:
        raise InputRefused(f"{name} is a reward model, which gives scores and no text; name a language model", place)


def _require_reward(method: str | None, name: str, place: str) -> None:
    if method != Method.REWARD:
        raise InputRefused(
            f"{name} is no reward model but {method or 'a model of a provider'}; name one that a training of method rm made",
            place,
        )


async def _rows(session: AsyncSession, job_id: str, stages: Sequence[str], place: str) -> list[InputReference]:
    made = [item for item in await ArtifactRepository(session).of_stages(job_id, stages) if item.step_id is not None]
    rows = [item for item in made if item.stage != _ASSEMBLE and item.name.startswith("part-")]
    if not rows:
        raise InputRefused(f"job {job_id} made no rows that can be asked; name one that made a collection", place)
    tables = [item for item in made if item.stage == _ASSEMBLE and item.name in _COLLECTION_TABLES]
    return [
        *(reference(item, ROWS_STAGE, item.name) for item in rows),
        *(reference(item, COLLECTION_STAGE, item.name) for item in tables),
    ]
