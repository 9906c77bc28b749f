"""What a job will take before it is submitted: calls, tokens and money per stage.

A default model of every request class (how many calls a row needs, how many characters they hold) is corrected by what
earlier jobs of the project really took with the same model: one factor each for calls (retries for quality included),
prompt characters and answer characters. Characters become tokens by the characters per token that the provider's own usage
figures showed, so no tokenizer is needed.
"""

from math import ceil
from typing import Any

import msgspec
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from shared.domain.answers import AnswerParameters
from shared.domain.jobs import AugmentParameters, JobSpec, ModelChoice, SamplingParameters
from shared.domain.no_system import no_system_probability
from shared.domain.plan import COLLECTION_ROW_STAGES, plan_of
from shared.domain.taxonomy import Taxonomy
from shared.llm.estimate_evaluation import ANSWER_CHARACTERS, ExpectedCalls, evaluation_calls
from shared.llm.prices import cost_micro_usd
from shared.llm.providers import Providers, ResolvedModel
from shared.llm.servers.resolved import DEPLOYMENT_PROVIDER
from shared.llm.wire import CHARACTERS_PER_TOKEN

USUAL_INSTRUCTION_CHARACTERS = 200.0
"""Assumed of earlier jobs whose own average is not known."""
OPEN_WISHES = 0.8
"""Share of preferences that a judge is asked about: the rest carries a machine check that decides (tests/gates/test_calls.py)."""
REVIEW_CALLS = {"augment": 2.25, "compose": 1.25}
"""Calls of a review per row and stage: those about everything, and in a quarter of the rows one more, where two looks differ.
docs/gates.md counts the calls of a judge who never errs and of one who does in a twentieth."""
REVIEWED = tuple(REVIEW_CALLS)
"""Stages whose results a judge reviews; in `respond` it fills in checklists."""
SECOND_LOOKS = 0.1
"""Share of answers that a judge is asked about again, because they would fall for a preference of their own."""
FACTS_CALLS = 1.1
"""Calls per row that compare facts: one about all answers, and seldom one more, where it and the checklists disagree."""
_JOBS_LEARNED_FROM = 20


class StageEstimate(BaseModel):
    """Calls, tokens and cost of one request class of one stage. `cost_micro_usd` is None when no price is known."""

    stage: str
    request_class: str
    provider: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int | None
    learned: bool
    """True when earlier jobs of the project corrected the figures."""


class Estimate(BaseModel):
    """The whole job. Answers that are already in the cache cost nothing and are not taken off here."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_micro_usd: int | None
    characters_per_token: float
    """Of the teacher, over prompts and answers."""
    average_instruction_characters: float
    rows: int
    stages: list[StageEstimate]


class Questions(msgspec.Struct, frozen=True):
    """What candidates will be asked, as far as it is known: how many facets, and characters of one prompt."""

    count: int = 0
    characters: float = 0.0
    people: float = 1.0
    """Facets of one instruction, on average."""
    turns: float = 1.0
    """What a user says in one conversation, on average."""
    models: tuple[ResolvedModel | None, ...] = ()
    """Who answers, for each answer stage; None for a model that the job deploys itself."""


class _Expectation(msgspec.Struct, frozen=True):
    """The default model of one request class: calls per row, and characters of one call."""

    calls_per_row: float
    prompt_characters: float
    completion_characters: float


class _Learned(msgspec.Struct):
    """Sums over earlier jobs: what was expected of them by the default model, and what they took."""

    expected_calls: float = 0.0
    calls: float = 0.0
    expected_prompt: float = 0.0
    prompt: float = 0.0
    expected_completion: float = 0.0
    completion: float = 0.0

    def call_factor(self) -> float:
        return self.calls / self.expected_calls if self.expected_calls else 1.0

    def prompt_factor(self) -> float:
        return self.prompt / self.expected_prompt if self.expected_prompt else 1.0

    def completion_factor(self) -> float:
        return self.completion / self.expected_completion if self.expected_completion else 1.0


def neutral_answers(facets: int, judged: bool, no_system_share: float, test_share: float) -> float:
    """Expected neutral answers per row: one each with a judge, else those that training without a system message draws."""
    return 1.0 if judged else (1.0 - test_share) * no_system_probability(facets, no_system_share)


def expectation(
    stage: str,
    request_class: str,
    augment: AugmentParameters,
    dimensions: int,
    instruction_characters: float,
    neutral: float,
) -> _Expectation:
    """The default model, before any usage is known: rough sizes of the shipped prompts, preference sets of `dimensions`
    preferences each, system messages of some 700 characters, responses of some 1,200, `neutral` answers per row without a
    system message. Usage corrects it."""
    facets = augment.sets_per_instruction
    match request_class, stage:
        case "augment", _:
            calls = ceil(facets * augment.mean_set_size() / augment.slots_per_call())
            preferences = facets * augment.mean_set_size() / calls
            return _Expectation(calls, 2500 + instruction_characters + 330 * preferences, 60 + 330 * preferences)
        case "compose", _:
            return _Expectation(facets, 1800 + instruction_characters + 300 * dimensions, 700)
        case "respond", _:
            answers = facets + neutral
            return _Expectation(answers, 700 * facets / answers + instruction_characters, 1200)
        case "judge", "augment":
            preferences = facets * augment.mean_set_size()
            return _Expectation(
                REVIEW_CALLS[stage], 2200 + instruction_characters + 1000 * preferences, 40 + 46 * preferences
            )
        case "judge", "compose":
            return _Expectation(REVIEW_CALLS[stage], 2000 + 750 * facets, 20 + 50 * facets)
        case "judge", _:
            # One call per answer over the wishes of all facets that no program decides, and a control; beside the answer stands
            # the neutral one. Some answers are looked at again. Then all answers are compared with the neutral one.
            items = OPEN_WISHES * facets * dimensions + 1
            looks = facets * (1 + SECOND_LOOKS) + neutral
            asked = looks + FACTS_CALLS
            prompt = looks * (2400 + 2400 + 170 * items) + FACTS_CALLS * (1800 + 1200 * (facets + 1))
            completion = looks * (40 + 65 * items) + FACTS_CALLS * 30
            return _Expectation(asked, instruction_characters + prompt / asked, completion / asked)
        case _:
            return _Expectation(0.0, instruction_characters, 1200)


async def estimate_job(
    session: AsyncSession,
    spec: JobSpec,
    taxonomy: Taxonomy,
    rows: int,
    average_instruction_characters: float,
    project_id: str,
    providers: Providers,
    questions: Questions | None = None,
) -> Estimate:
    """Estimate a job of `rows` instructions of `average_instruction_characters` characters, with what its candidates are asked.
    Trainings call no model; what our own servers answer costs nothing.

    Raises:
        InputRefused: unknown provider or model.
    """
    dimensions = len(taxonomy.dimensions)
    stages: list[StageEstimate] = []
    teacher_characters_per_token = CHARACTERS_PER_TOKEN
    if spec.teacher is not None:
        teacher_characters_per_token = await _characters_per_token(session, project_id, spec.teacher)
    for stage, request_class, choice, pointer in _classes(spec):
        model = providers.require(choice, pointer)
        per_token = (
            teacher_characters_per_token
            if choice == spec.teacher
            else await _characters_per_token(session, project_id, choice)
        )
        learned = await _learn(session, project_id, stage, request_class, choice, dimensions)
        neutral = neutral_answers(
            spec.augment.sets_per_instruction,
            spec.judge is not None,
            spec.respond.no_system_share,
            spec.splits.test_share,
        )
        expected = expectation(stage, request_class, spec.augment, dimensions, average_instruction_characters, neutral)
        calls = rows * expected.calls_per_row * learned.call_factor()
        prompt_tokens = round(calls * expected.prompt_characters * learned.prompt_factor() / per_token)
        completion_tokens = round(calls * expected.completion_characters * learned.completion_factor() / per_token)
        stages.append(
            StageEstimate(
                stage=stage,
                request_class=request_class,
                provider=choice.provider,
                model=choice.model,
                calls=round(calls),
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost_micro_usd=cost_micro_usd(model, prompt_tokens, completion_tokens),
                learned=learned.prompt > 0,
            )
        )
    if questions is not None:
        for answer, answering in zip(spec.answer, questions.models, strict=True):
            if answer.candidate.exists:
                continue  # nobody is asked
            stages.append(await _estimate_answers(session, project_id, answer, answering, questions))
        for expected_calls in evaluation_calls(
            spec, questions.count, questions.people, questions.turns, questions.characters
        ):
            stages.append(await _estimate_evaluation(session, project_id, expected_calls, providers))
    costs = [stage.cost_micro_usd for stage in stages]
    return Estimate(
        calls=sum(stage.calls for stage in stages),
        prompt_tokens=sum(stage.prompt_tokens for stage in stages),
        completion_tokens=sum(stage.completion_tokens for stage in stages),
        cost_micro_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        characters_per_token=round(teacher_characters_per_token, 3),
        average_instruction_characters=average_instruction_characters,
        rows=rows,
        stages=stages,
    )


async def _estimate_answers(
    session: AsyncSession,
    project_id: str,
    answer: AnswerParameters,
    model: ResolvedModel | None,
    questions: Questions,
) -> StageEstimate:
    """What a candidate will take, for all samples. Nobody knows the length of its answers before."""
    choice = answer.candidate
    calls = round(questions.count * answer.samples * questions.turns)
    provider, name = DEPLOYMENT_PROVIDER, choice.stage or choice.registry or choice.deployment or ""
    per_token = CHARACTERS_PER_TOKEN
    if model is not None:
        provider, name = model.provider_name, model.model
        per_token = await _characters_per_token(session, project_id, ModelChoice(provider=provider, model=name))
    prompt_tokens = round(calls * questions.characters / per_token)
    longest = answer.decoding.max_tokens
    completion_tokens = round(calls * min(longest, ANSWER_CHARACTERS / per_token))
    return StageEstimate(
        stage=answer.name,
        request_class="chat",
        provider=provider,
        model=name,
        calls=calls,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_micro_usd=0 if model is None else cost_micro_usd(model, prompt_tokens, completion_tokens),
        learned=False,
    )


async def _estimate_evaluation(
    session: AsyncSession, project_id: str, expected: ExpectedCalls, providers: Providers
) -> StageEstimate:
    model = providers.require(expected.choice, expected.pointer)
    per_token = await _characters_per_token(session, project_id, expected.choice)
    prompt_tokens = round(expected.calls * expected.prompt_characters / per_token)
    completion_tokens = round(expected.calls * expected.completion_characters / per_token)
    return StageEstimate(
        stage=expected.stage,
        request_class="judge",
        provider=expected.choice.provider,
        model=expected.choice.model,
        calls=round(expected.calls),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_micro_usd=cost_micro_usd(model, prompt_tokens, completion_tokens),
        learned=False,
    )


def _classes(spec: JobSpec) -> list[tuple[str, str, ModelChoice, str]]:
    """(stage, request class, model, JSON pointer of the choice) of everything in the job that calls a model."""
    classes = []
    for stage in plan_of(spec):
        if stage.kind in COLLECTION_ROW_STAGES:
            classes.append((stage.name, stage.kind.value, spec.require_teacher(), "/teacher"))
        if stage.name in (*REVIEWED, "respond") and spec.judge is not None:
            classes.append((stage.name, "judge", spec.judge, "/judge"))
    return classes


async def _characters_per_token(session: AsyncSession, project_id: str, choice: ModelChoice) -> float:
    """Learned from the project's own calls of the model; 4.0 before there are any."""
    found = (
        await session.execute(
            sa.text(
                "SELECT sum(prompt_characters + completion_characters), sum(prompt_tokens + completion_tokens) FROM usage "
                "WHERE project_id = :project_id AND provider = :provider AND model = :model"
            ),
            {"project_id": project_id, "provider": choice.provider, "model": choice.model},
        )
    ).one()
    characters, tokens = found
    return float(characters) / float(tokens) if characters and tokens else CHARACTERS_PER_TOKEN


async def _learn(
    session: AsyncSession, project_id: str, stage: str, request_class: str, choice: ModelChoice, dimensions: int
) -> _Learned:
    """What the project's last succeeded jobs took for this request class of the stage with this model."""
    found = await session.execute(
        sa.text(
            "SELECT u.calls, u.cached_calls, u.prompt_characters, u.completion_characters, j.spec, j.taxonomy, j.estimate, "
            "s.rows_expected, s.ledger, EXISTS (SELECT FROM step p JOIN attempt a ON a.step_id = p.id WHERE p.stage_id = s.id "
            "GROUP BY p.id HAVING count(*) > 1) AS repeated FROM usage u JOIN job j ON j.id = u.job_id "
            "JOIN stage s ON s.job_id = u.job_id AND s.name = u.stage "
            "WHERE u.project_id = :project_id AND u.provider = :provider AND u.model = :model "
            "AND u.stage = :stage AND u.request_class = :request_class AND j.state = 'succeeded' "
            "ORDER BY j.created_at DESC LIMIT :jobs"
        ),
        {
            "project_id": project_id,
            "provider": choice.provider,
            "model": choice.model,
            "stage": stage,
            "request_class": request_class,
            "jobs": _JOBS_LEARNED_FROM,
        },
    )
    learned = _Learned()
    for calls, cached, prompt, completion, spec, taxonomy, estimate, rows_expected, ledger, repeated in found:
        rows = rows_expected or (ledger or {}).get("rows_in") or 0
        expected = expectation(
            stage,
            request_class,
            _augment_of(spec),
            len((taxonomy or {}).get("dimensions") or ()) or dimensions,
            float((estimate or {}).get("average_instruction_characters") or USUAL_INSTRUCTION_CHARACTERS),
            _neutral_of(spec),
        )
        # A step that ran twice found its own answers in the cache: how many calls a row needs cannot be read from that.
        if rows and not repeated:
            learned.expected_calls += rows * expected.calls_per_row
            learned.calls += calls + cached
        learned.expected_prompt += calls * expected.prompt_characters
        learned.prompt += prompt
        learned.expected_completion += calls * expected.completion_characters
        learned.completion += completion
    return learned


def _augment_of(spec: dict[str, Any]) -> AugmentParameters:
    """What the default model needs of a stored spec, which an earlier version may have written."""
    stored, usual = spec.get("augment") or {}, AugmentParameters()
    return AugmentParameters(
        sets_per_instruction=stored.get("sets_per_instruction") or usual.sets_per_instruction,
        sampling=SamplingParameters(
            max_tokens=(stored.get("sampling") or {}).get("max_tokens") or usual.sampling.max_tokens
        ),
    )


def _neutral_of(spec: dict[str, Any]) -> float:
    """Neutral answers per row of a stored spec; an earlier version asked for none."""
    share = (spec.get("respond") or {}).get("no_system_share")
    if share is None:
        return 0.0
    test_share = (spec.get("splits") or {}).get("test_share") or 0.0
    return neutral_answers(_augment_of(spec).sets_per_instruction, spec.get("judge") is not None, share, test_share)
