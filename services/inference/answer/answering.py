"""The row stage `answer`: a candidate answers every living facet of a row, as often as asked; a reward model scores it."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from services.inference.answer.faults import answer_fault, error_fault
from shared.domain.answers import AnswerParameters
from shared.domain.identifiers import seed_of
from shared.domain.rows import Answer, Facet, InstructionRow, Provenance
from shared.llm.protocol import CompletionRequest, LanguageModelError, Message, Scorer
from shared.stages.facets import Fault, concurrently, reject
from shared.stages.protocol import RowContext

REQUEST_CLASS = "chat"
SCORES_PER_CALL = 4
"""Conversations of one call for scores: what a server takes of one client by default (TGI's max_client_batch_size)."""
PROMPT_VERSION = "verbatim"
"""There is no prompt: the system message and the instruction are sent as they are."""
_SEEDS = 2**31
"""Servers take seeds below this, each of its own kind."""


class _Sample(msgspec.Struct, frozen=True):
    """One answer, and what its call took."""

    answer: Answer
    prompt_tokens: int


async def answer(row: InstructionRow, context: RowContext) -> InstructionRow:
    """Fill `answers` of every living facet and mark the best one, or reject the facet whose every answer has a fault.

    Reasons: `empty`, `content_refused`, and the codes of the model's errors (`prompt_too_long`, `request_rejected`,
    `retries_exhausted`). An answer that the token limit cut is an answer. StepDeferred and StepFailed pass through: a server that
    is away costs no row.
    """
    living = [facet for facet in row.facets if facet.alive]
    await concurrently([_answer_facet(row, facet, context) for facet in living])
    return row


async def _answer_facet(row: InstructionRow, facet: Facet, context: RowContext) -> None:
    parameters = context.answer
    messages = messages_of(row, facet, parameters)
    samples = await concurrently(
        [_sample(row, facet, number, messages, context) for number in range(parameters.samples)]
    )
    answers = [sample.answer for sample in samples]
    if context.scorer is not None:
        answers = await _scored(answers, messages, context.scorer)
    facet.answers = with_best(answers, is_ranked=context.scorer is not None)
    decoding = parameters.decoding
    facet.provenance.append(
        Provenance(
            stage=context.stage,
            provider=context.candidate.provider,
            model=context.candidate.model,
            prompt_version=PROMPT_VERSION,
            seed=answers[0].seed,
            temperature=decoding.temperature,
            top_p=None if decoding.greedy else decoding.top_p,
            max_tokens=decoding.max_tokens,
            repetition_penalty=decoding.repetition_penalty,
            attempts=parameters.samples,
            prompt_tokens=sum(sample.prompt_tokens for sample in samples),
            completion_tokens=sum(answer.tokens for answer in answers),
        )
    )
    if context.scorer is not None:
        facet.provenance.append(
            Provenance(f"{context.stage}:reward", context.scorer.provider, context.scorer.model, PROMPT_VERSION, 0)
        )
    faults = Counter(answer.fault for answer in answers)
    if not faults[""]:
        reason, count = faults.most_common(1)[0]
        reject(facet, context.stage, Fault(reason, f"{count} of {len(answers)} answers"))


def messages_of(row: InstructionRow, facet: Facet, parameters: AnswerParameters) -> list[Message]:
    """What the candidate is asked: the instruction under the facet's system message, or alone where that is the ablation."""
    messages: list[Message] = [{"role": "user", "content": row.instruction}]
    if facet.system and parameters.system == "own":
        messages.insert(0, {"role": "system", "content": facet.system})
    return messages


def with_best(answers: Sequence[Answer], *, is_ranked: bool) -> list[Answer]:
    """The answers with the best one marked: the highest reward, of equal ones the first; without rewards the only one there is.
    Of several that nothing ranks none is marked."""
    sound = [position for position, answer in enumerate(answers) if not answer.fault]
    best = None
    if is_ranked:
        scored = [position for position in sound if answers[position].reward is not None]
        best = max(scored, key=lambda position: (answers[position].reward or 0.0, -position), default=None)
    elif len(answers) == 1 and sound:
        best = 0
    return [msgspec.structs.replace(answer, best=position == best) for position, answer in enumerate(answers)]


async def _sample(
    row: InstructionRow, facet: Facet, number: int, messages: Sequence[Message], context: RowContext
) -> _Sample:
    decoding = context.answer.decoding
    # The stage's name is no part: two candidates with equal weights give equal answers, and one that is asked again is not asked.
    sample_index = f"answer:{facet.index}:{number}"
    seed = seed_of(context.spec.seed, "answer", row.row_id, facet.index, number) % _SEEDS
    try:
        completion = await context.candidate.complete(
            CompletionRequest(
                messages=messages,
                request_class=REQUEST_CLASS,
                sample_index=sample_index,
                temperature=decoding.temperature,
                top_p=None if decoding.greedy or decoding.top_p == 1 else decoding.top_p,
                max_tokens=decoding.max_tokens,
                repetition_penalty=decoding.repetition_penalty,
                seed=seed,
                stop=decoding.stop,
            )
        )
    except LanguageModelError as error:
        return _Sample(Answer("", "error", seed, 0, fault=error_fault(error)), 0)
    text = completion.text
    found = Answer(text, completion.finish_reason, seed, completion.completion_tokens, fault=answer_fault(completion))
    return _Sample(found, completion.prompt_tokens)


async def _scored(answers: Sequence[Answer], messages: Sequence[Message], scorer: Scorer) -> list[Answer]:
    """The answers with their rewards. One that the reward model cannot take is kept without."""
    sound = [position for position, answer in enumerate(answers) if not answer.fault]
    batches = [sound[start : start + SCORES_PER_CALL] for start in range(0, len(sound), SCORES_PER_CALL)]

    async def score(batch: Sequence[int]) -> list[float | None]:
        conversations = [[*messages, Message(role="assistant", content=answers[position].text)] for position in batch]
        try:
            return list(await scorer.score(conversations))
        except LanguageModelError:
            if len(batch) == 1:
                return [None]
            # One of them is at fault, such as one that is too long: the others get theirs.
            return [found for position in batch for found in await score([position])]

    rewards = [reward for found in await concurrently([score(batch) for batch in batches]) for reward in found]
    scored = list(answers)
    for position, reward in zip(sound, rewards, strict=True):
        change = {"fault": "not_scored"} if reward is None else {"reward": reward}
        scored[position] = msgspec.structs.replace(answers[position], **change)
    return scored
