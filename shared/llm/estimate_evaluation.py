"""What the stages of a bench and of an evaluation will ask of the teacher and of the judge, before they start."""

from collections.abc import Iterator

import msgspec

from shared.domain.answers import AnswerParameters
from shared.domain.evaluations import COMPARE_PREFIX, JUDGE_PREFIX, RATE_PREFIX, RUBRIC, compared_stages
from shared.domain.jobs import JobSpec, ModelChoice
from shared.llm.wire import CHARACTERS_PER_TOKEN

ANSWER_CHARACTERS = 1200
"""Of a candidate's or a reference answer, before any is known."""
USUAL_SET_SIZE = 4.0
"""Preferences of a set that the job does not draw itself: the paper's, one per dimension."""
_RUBRIC_CHARACTERS = 900
_FEEDBACK_CHARACTERS = 450


class ExpectedCalls(msgspec.Struct, frozen=True):
    """Calls of one stage, and characters of one call. `pointer` is that of the model in the job spec."""

    stage: str
    choice: ModelChoice
    pointer: str
    calls: float
    prompt_characters: float
    completion_characters: float


def evaluation_calls(
    spec: JobSpec, questions: int, people: float, turns: float, prompt_characters: float
) -> Iterator[ExpectedCalls]:
    """All stages of the job's bench and evaluation that ask a model, in the plan's order.

    `questions` are facets that will be asked, `people` the mean number of them per instruction, `turns` that of what a
    user says in one, `prompt_characters` what the candidate is sent for one. Repairs, retries for quality and answers that are
    missing are not foreseen.
    """
    size = spec.augment.mean_set_size() if spec.sources and spec.asked.is_own else USUAL_SET_SIZE
    if spec.bench is not None:
        prompt = 1900 + prompt_characters + 160 * size
        yield ExpectedCalls(
            RUBRIC, spec.require_teacher(), "/teacher", questions, prompt, 60 + _RUBRIC_CHARACTERS * size
        )
    evaluate = spec.evaluate
    if evaluate is None or spec.judge is None:
        return
    for answer in spec.answer:
        answers = questions * _judged(answer)
        if evaluate.absolute is not None:
            rubrics = size * (1 + (people - 1 if evaluate.absolute.cross else 0))
            reference = ANSWER_CHARACTERS if evaluate.absolute.reference else 0
            prompt = 1900 + prompt_characters + _length(answer) + reference + _RUBRIC_CHARACTERS
            calls = answers * rubrics * evaluate.absolute.runs
            yield ExpectedCalls(JUDGE_PREFIX + answer.name, spec.judge, "/judge", calls, prompt, _FEEDBACK_CHARACTERS)
        if evaluate.conversation is not None:
            prompt = 1400 + prompt_characters + turns * _length(answer)
            calls = answers * turns * evaluate.conversation.runs
            yield ExpectedCalls(RATE_PREFIX + answer.name, spec.judge, "/judge", calls, prompt, _FEEDBACK_CHARACTERS)
    if evaluate.pairwise is not None:
        own_answer = ANSWER_CHARACTERS if evaluate.pairwise.protocol == "arena_hard" else 0
        lengths = {answer.name: _length(answer) for answer in spec.answer}
        beside = lengths[evaluate.pairwise.baseline]
        for name in compared_stages(evaluate, [answer.name for answer in spec.answer]):
            prompt = 1700 + prompt_characters + lengths[name] + beside + 160 * size
            calls = questions * 2 * evaluate.pairwise.runs
            yield ExpectedCalls(
                COMPARE_PREFIX + name, spec.judge, "/judge", calls, prompt, _FEEDBACK_CHARACTERS + own_answer
            )


def _length(answer: AnswerParameters) -> float:
    """Characters of one answer, as far as they can be foreseen: no more than its decoding lets through."""
    if answer.candidate.exists:
        return ANSWER_CHARACTERS
    return min(ANSWER_CHARACTERS, answer.decoding.max_tokens * CHARACTERS_PER_TOKEN)


def _judged(answer: AnswerParameters) -> int:
    """How many answers to one question are judged: the best one where something ranks them, else all."""
    return 1 if answer.reward is not None else answer.samples
