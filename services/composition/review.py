"""Does a system message answer or ask something, or command its reviewer? Patterns see little of it; a judge reads those of an
instruction in one call.

The judge sees the messages alone, in an order drawn by seed, and must quote what it objects to. A finding counts when its
quotation stands in the message and a second call finds fault with the message too (see `shared.stages.second_look`). An
instruction without findings costs one call; one with findings a second, over the messages concerned, and where the two disagree
a third; `docs/gates.md` holds what this finds and turns away with judges who err in known ways. Messages of persistent people
are reviewed one by one, in calls that are the same for every instruction, and so paid for once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict

from shared.domain.identifiers import seed_of
from shared.domain.jobs import SamplingParameters
from shared.llm.protocol import CompletionRequest, LanguageModel, LanguageModelError
from shared.prompts import load_prompt
from shared.stages.facets import Fault, Usage, concurrently, fault_of, share_usage
from shared.stages.second_look import Place, confirmed_faults

PROMPT = load_prompt("services.composition", "message_review")
SAMPLING = SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=4096)
"""Greedy; the limit leaves room for a quoted sentence of each of the most messages of a call."""
SCHEMA_NAME = "message_review"
REASONS = {"answer": "answer_leaked", "task": "restates_task", "command": "injected_message"}
"""What the judge says a message holds -> the fault."""
_QUOTATION_MARKS = " \"'“”„«»…"


class ReviewModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MessageAnswer(ReviewModel):
    message: int
    holds: Literal["nothing", "answer", "task", "command"]
    quote: str


class MessageReview(ReviewModel):
    """The structured output of a review."""

    messages: list[MessageAnswer]


SCHEMA: dict[str, Any] = MessageReview.model_json_schema()


class Reviewed(msgspec.Struct):
    """One system message on its way, and what its review took. `profile`: the persistent person whose it is, if anybody's.

    Of the latest text: `unverified` findings whose quotation does not stand in it, and `unread` calls that said nothing usable
    about it.
    """

    profile: int | None
    usage: Usage = msgspec.field(default_factory=Usage)
    text: str = ""
    fault: Fault | None = None
    unverified: int = 0
    unread: int = 0

    def scores(self) -> dict[str, float]:
        """What is worth keeping of the review, by name."""
        return {"unverified_review": float(self.unverified), "unread_review": float(self.unread)}


class MessageReviewer:
    """Looks at the system messages of one instruction, each text once."""

    def __init__(self, judge: LanguageModel, row_id: str, profiles: Mapping[int, int | None], job_seed: int) -> None:
        """`profiles`: the persistent person, if any, of each facet that may get a message."""
        self._judge = judge
        self._row_id = row_id
        self._job_seed = job_seed
        self._rounds = 0
        self.messages = {index: Reviewed(profile) for index, profile in profiles.items()}

    async def look(self, texts: Mapping[int, str]) -> Mapping[int, Fault]:
        """The faults of those texts that hold an answer (`answer_leaked`), a task (`restates_task`) or a command
        (`injected_message`), by facet, and of those whose review failed (`judge_` and the code of the error). StepFailed,
        StepDeferred and cancellation pass through."""
        fresh = [index for index, text in texts.items() if self.messages[index].text != text]
        for index in fresh:
            one = self.messages[index]
            one.text, one.fault, one.unverified, one.unread = texts[index], None, 0, 0
        own = [index for index in fresh if self.messages[index].profile is None]
        groups = [own, *([index] for index in fresh if self.messages[index].profile is not None)]
        await concurrently([self._settle(group) for group in groups if group])
        self._rounds += bool(own)
        return {index: fault for index in texts if (fault := self.messages[index].fault) is not None}

    async def _settle(self, group: Sequence[int]) -> None:
        whose = self.messages[group[0]].profile
        # A person's message is read by the same call wherever it stands.
        prefix = f"message_review:{self._rounds}" if whose is None else f"message_review:profile:{whose}"

        async def look(indices: Sequence[int], number: int) -> Mapping[Place, Fault] | Fault:
            return await self._ask(indices, f"{prefix}:{number}", self._row_id if whose is None else "profile")

        for index, fault in (await confirmed_faults(group, look)).items():
            self.messages[index].fault = fault

    async def _ask(self, indices: Sequence[int], sample_index: str, whose: str) -> Mapping[Place, Fault] | Fault:
        seed = seed_of(self._job_seed, "message_review", whose, sample_index)
        shown = [self.messages[index] for index in indices]
        order = list(range(len(shown)))
        Random(seed).shuffle(order)
        block = {"messages": [{"message": number, "text": shown[place].text} for number, place in enumerate(order)]}
        for one in shown:
            one.usage.attempts += 1
        try:
            answer, completion = await self._judge.complete_structured(
                CompletionRequest(
                    messages=PROMPT.messages(request=block),
                    request_class="judge",
                    sample_index=sample_index,
                    temperature=SAMPLING.temperature,
                    top_p=SAMPLING.top_p,
                    max_tokens=SAMPLING.max_tokens,
                    seed=seed,
                    schema_name=SCHEMA_NAME,
                    schema=SCHEMA,
                ),
                MessageReview,
            )
        except LanguageModelError as error:
            fault = fault_of(error)
            return Fault(f"judge_{fault.reason}", fault.detail, fault.final)
        share_usage(completion.prompt_tokens, completion.completion_tokens, [one.usage for one in shown])
        return _read(answer, {number: (indices[place], shown[place]) for number, place in enumerate(order)})


def _read(answer: MessageReview, asked: Mapping[int, tuple[int, Reviewed]]) -> dict[Place, Fault]:
    """The findings in an answer, by facet. A message left out or answered twice has none; unknown numbers are passed over."""
    times = Counter(entry.message for entry in answer.messages)
    said = {entry.message: entry for entry in answer.messages}
    found: dict[Place, Fault] = {}
    for number, (index, message) in asked.items():
        entry = said.get(number)
        if entry is None or times[number] > 1:
            message.unread += 1
        elif entry.holds == "nothing":
            continue
        elif not stands_in(entry.quote, message.text):
            message.unverified += 1
        else:
            found[(index,)] = Fault(REASONS[entry.holds], f"the judge objects to {entry.quote.strip()!r}")
    return found


def stands_in(quote: str, text: str) -> bool:
    """Whether the quotation is part of the text, whatever its case, its white space and the marks around it."""
    wanted = _plain(quote).strip(_QUOTATION_MARKS)
    return bool(wanted) and wanted in _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
