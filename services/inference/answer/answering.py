"""The row stage `answer`: a candidate answers every living facet of a row, as often as asked; a reward model scores it.

Answers that exist already (of a file, or brought along by the questions) are kept as they are, and scored alike.
"""

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
EXISTING = "existing"
"""Provider, in the provenance, of answers that exist already."""
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
    `retries_exhausted`); `no_answer` where an answer should exist and does not; `no_other_person` where system messages are
    shuffled and the row has no second one. An answer that the token limit cut is an answer. StepDeferred and StepFailed pass
    through: a server that is away costs no row.
    """
    systems = system_messages(row, context.answer, context.spec.seed)
    for facet in row.facets:
        if facet.alive and facet.index not in systems:
            reject(facet, context.stage, Fault("no_other_person", "there is no second system message to shuffle with"))
    living = [facet for facet in row.facets if facet.alive]
    await concurrently([_answer_facet(row, facet, systems[facet.index], context) for facet in living])
    return row


def system_messages(row: InstructionRow, parameters: AnswerParameters, seed: int) -> dict[int, str | None]:
    """The system message that each living facet is asked under: its own, none, or that of another person of the row, so that each
    message is used once. Facets that have no other person to take one from are left out."""
    living = [facet for facet in row.facets if facet.alive]
    if parameters.system == "none":
        return {facet.index: None for facet in living}
    if parameters.system == "own":
        return {facet.index: facet.system for facet in living}
    order = sorted(living, key=lambda facet: seed_of(seed, "shuffle", row.row_id, facet.index))
    if len(order) < 2:
        return {}
    # Each takes the message of the next in a shuffled ring: nobody keeps their own.
    return {facet.index: order[place - 1].system for place, facet in enumerate(order)}


async def _answer_facet(row: InstructionRow, facet: Facet, system: str | None, context: RowContext) -> None:
    parameters = context.answer
    messages = messages_of(row, system)
    if parameters.candidate.exists:
        await _keep(row, facet, messages, context)
        return
    samples = await concurrently(
        [_sample(row, facet, number, messages, context) for number in range(parameters.samples)]
    )
    answers = [sample.answer for sample in samples]
    if context.scorer is not None:
        answers = await _scored(row, answers, messages, context.scorer)
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
    _settle(facet, answers, context)


async def _keep(row: InstructionRow, facet: Facet, messages: Sequence[Message], context: RowContext) -> None:
    """Take the facet's answers as they are: nobody is asked."""
    if not facet.answers:
        reject(facet, context.stage, Fault("no_answer", "there is no answer to this question"))
        return
    answers: Sequence[Answer] = facet.answers
    if context.scorer is not None:
        answers = await _scored(row, answers, messages, context.scorer)
    facet.answers = with_best(answers, is_ranked=context.scorer is not None)
    facet.provenance.append(Provenance(context.stage, EXISTING, context.answer.name, PROMPT_VERSION, 0))
    _settle(facet, answers, context)


def _settle(facet: Facet, answers: Sequence[Answer], context: RowContext) -> None:
    """Say who scored, and reject the facet whose every answer has a fault."""
    if context.scorer is not None:
        facet.provenance.append(
            Provenance(f"{context.stage}:reward", context.scorer.provider, context.scorer.model, PROMPT_VERSION, 0)
        )
    faults = Counter(answer.fault for answer in answers)
    if not faults[""]:
        reason, count = faults.most_common(1)[0]
        reject(facet, context.stage, Fault(reason, f"{count} of {len(answers)} answers"))


def messages_of(row: InstructionRow, system: str | None) -> list[Message]:
    """What the candidate is asked: the instruction, under a system message where there is one."""
    messages: list[Message] = [{"role": "user", "content": row.instruction}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
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
    # The stage's name is no part: two candidates with equal weights give equal answers, and one that is asked again is not asked.
    sample_index = f"answer:{facet.index}:{number}"
    seed = seed_of(context.spec.seed, "answer", row.row_id, facet.index, number) % _SEEDS
    try:
        completion = await context.candidate.complete(_request(messages, sample_index, seed, context))
    except LanguageModelError as error:
        return _Sample(Answer("", "error", seed, 0, fault=error_fault(error)), 0)
    text = completion.text
    found = Answer(text, completion.finish_reason, seed, completion.completion_tokens, fault=answer_fault(completion))
    sample = _Sample(found, completion.prompt_tokens)
    if found.fault or not row.turns:
        return sample
    return await _talked_on(row, sample, messages, sample_index, context)


async def _talked_on(
    row: InstructionRow, sample: _Sample, messages: Sequence[Message], sample_index: str, context: RowContext
) -> _Sample:
    """The sample with the answers to the later turns, each asked after all that was said before. A turn that gets none ends the
    conversation: the answers before it stand, and `finish_reason` is its fault."""
    answer, prompt_tokens = sample.answer, sample.prompt_tokens
    said = [*messages, Message(role="assistant", content=answer.text)]
    for number, turn in enumerate(row.turns, start=1):
        said.append(Message(role="user", content=turn))
        try:
            completion = await context.candidate.complete(
                _request(list(said), f"{sample_index}:{number}", answer.seed, context)
            )
        except LanguageModelError as error:
            return _Sample(msgspec.structs.replace(answer, finish_reason=error_fault(error)), prompt_tokens)
        prompt_tokens += completion.prompt_tokens
        if fault := answer_fault(completion):
            return _Sample(msgspec.structs.replace(answer, finish_reason=fault), prompt_tokens)
        said.append(Message(role="assistant", content=completion.text))
        answer = msgspec.structs.replace(
            answer,
            later=[*answer.later, completion.text],
            tokens=answer.tokens + completion.completion_tokens,
            finish_reason=completion.finish_reason,
        )
    return _Sample(answer, prompt_tokens)


def _request(messages: Sequence[Message], sample_index: str, seed: int, context: RowContext) -> CompletionRequest:
    decoding = context.answer.decoding
    return CompletionRequest(
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


async def _scored(
    row: InstructionRow, answers: Sequence[Answer], messages: Sequence[Message], scorer: Scorer
) -> list[Answer]:
    """The answers with their rewards. One that the reward model cannot take is kept without."""
    sound = [position for position, answer in enumerate(answers) if not answer.fault]
    batches = [sound[start : start + SCORES_PER_CALL] for start in range(0, len(sound), SCORES_PER_CALL)]

    def conversation(answer: Answer) -> list[Message]:
        said = [*messages, Message(role="assistant", content=answer.text)]
        for turn, text in zip(row.turns, answer.later, strict=False):
            said += [Message(role="user", content=turn), Message(role="assistant", content=text)]
        return said

    async def score(batch: Sequence[int]) -> list[float | None]:
        conversations = [conversation(answers[position]) for position in batch]
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
