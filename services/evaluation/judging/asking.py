"""One call of a judge: structured output first, then the last tag of what it wrote, then a repair; a lost verdict is recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict

from services.evaluation.judging.verdicts import NO_VERDICT, Verdict, settled_lines
from shared.domain.evaluations import JudgeDecoding, VerdictForm
from shared.llm.protocol import Completion, CompletionRequest, LanguageModel, LanguageModelError, Message
from shared.llm.structured import NotValid, parse_output, repair_messages, strict_schema
from shared.stages.facets import Usage, concurrently

REQUEST_CLASS = "judge"
LONGEST_FEEDBACK = 4000
CALLS_OF_A_ROW = 32
"""So many calls about one row are made ready at once: a row can take thousands, and each holds its prompt while it waits."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Judged(BaseModel):
    """Base of what judges say. Each has a field `feedback` before its verdict: structured output is written in the order of the
    fields, so a base that had one itself would put it before whatever comes first elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeedbackFirst(Judged):
    """What most judges say before their verdict."""

    feedback: str


class Ruling(msgspec.Struct, frozen=True):
    """What came of one call."""

    verdict: Verdict
    feedback: str


class Question(msgspec.Struct, frozen=True):
    """One question to a judge. `output` has a field `feedback`; `read_structured` takes the verdict out of a valid one,
    `read_text` out of prose."""

    messages: list[Message]
    sample_index: str
    seed: int
    schema_name: str
    output: type[Judged]
    read_structured: Callable[[Any], Verdict]
    read_text: Callable[[str], Verdict]


async def ask(
    model: LanguageModel, question: Question, form: VerdictForm, decoding: JudgeDecoding, usage: Usage
) -> Ruling:
    """Ask a judge once, and once more for its JSON where nothing can be read of what it wrote.

    Faults of the verdict: `no_verdict`, `out_of_range`, `content_refused`, `output_truncated`, and the codes of errors that end
    one call alone (`request_rejected`, `retries_exhausted`). StepDeferred and StepFailed pass through: a provider that is away
    costs no verdict.
    """
    request = CompletionRequest(
        messages=question.messages,
        request_class=REQUEST_CLASS,
        sample_index=question.sample_index,
        temperature=decoding.temperature,
        top_p=None if decoding.temperature == 0 or decoding.top_p == 1 else decoding.top_p,
        max_tokens=decoding.max_tokens,
        seed=question.seed,
        schema_name=question.schema_name if form == "structured" else None,
        schema=strict_schema(question.output) if form == "structured" else None,
    )
    try:
        first = await _complete(model, request, usage)
        ruling, problem = _read(first, question, form)
        if problem is None:
            return ruling
        repair = msgspec.structs.replace(
            request,
            messages=repair_messages(request, first.text, problem),
            sample_index=f"{request.sample_index}/repair",
        )
        return _read(await _complete(model, repair, usage), question, form)[0]
    except LanguageModelError as error:
        return Ruling(Verdict(None, error.code), "")


def turns_of_a_row() -> asyncio.Semaphore:
    """What all calls about one row pass through."""
    return asyncio.Semaphore(CALLS_OF_A_ROW)


async def for_each(
    tasks: Sequence[Task], make: Callable[[Task], Awaitable[Result]], turns: asyncio.Semaphore
) -> list[Result]:
    """`make` of every task, in order, as many at once as `turns` lets through. Errors as of `concurrently`."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(tasks))

    async def take_turns() -> None:
        for position, task in waiting:
            async with turns:
                results[position] = await make(task)

    await concurrently([take_turns() for _ in range(min(len(tasks), CALLS_OF_A_ROW))])
    return [results[position] for position in range(len(tasks))]


async def _complete(model: LanguageModel, request: CompletionRequest, usage: Usage) -> Completion:
    usage.attempts += 1
    completion = await model.complete(request)
    usage.add(completion)
    return completion


def _read(completion: Completion, question: Question, form: VerdictForm) -> tuple[Ruling, str | None]:
    """What was said, and what is wrong with it where asking again may help."""
    text = completion.text
    if completion.refusal is not None or completion.finish_reason == "content_filter":
        return Ruling(Verdict(None, "content_refused"), ""), None
    problem: str | None = None
    if form == "structured":
        try:
            said: Any = parse_output(text, question.output)
        except NotValid as error:
            problem = str(error)
        else:
            return Ruling(question.read_structured(said), said.feedback[:LONGEST_FEEDBACK]), None
    feedback = text[:LONGEST_FEEDBACK]
    if completion.finish_reason == "length":
        verdict = question.read_text(settled_lines(text))
        return Ruling(verdict if verdict.value is not None else Verdict(None, "output_truncated"), feedback), None
    if problem is not None and _meant_as_json(text):
        # Its feedback may name scores that it does not give: what is broken is mended, never guessed at.
        return Ruling(Verdict(None, NO_VERDICT), feedback), problem
    verdict = question.read_text(text)
    return Ruling(verdict, feedback), None if verdict.value is not None else problem


def _meant_as_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "```")) or '"feedback"' in text
