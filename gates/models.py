"""The simulator as a language model within this process: the same answers as over HTTP, and the hidden labels of its slips."""

from collections import Counter
from typing import TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from services.simulator.answers import body_digest, make_answer, prompt_tokens
from services.simulator.faults import FaultInjector, FaultPlan
from services.simulator.labels import Label
from services.simulator.requests import class_of, parse_request
from shared.llm.protocol import Completion, CompletionRequest, OutputInvalid, OutputTruncated
from shared.llm.wire import encode_request

Output = TypeVar("Output", bound=BaseModel)

MODEL = "simulator-large"


class Labelled(msgspec.Struct, frozen=True):
    """A slip that was really made: in the answer to which call."""

    sample_index: str
    label: Label


class SimulatedModel:
    """One per row, so that its labels are the row's. Equal plans and requests give equal answers."""

    provider = "simulator"
    model = MODEL

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._injector = FaultInjector(plan)
        self.labels: list[Labelled] = []
        self.calls: Counter[str] = Counter()
        """By the name of the schema that was asked for, empty for plain text."""

    async def complete(self, request: CompletionRequest) -> Completion:
        self.calls[request.schema_name or ""] += 1
        body = encode_request(MODEL, request)
        parsed = parse_request(body)
        request_class = class_of(request.request_class, parsed)
        digest = body_digest(body)
        fault = self._injector.decide(request_class, digest, 0.0).fault
        answer = make_answer(parsed, request_class, fault, self._plan.seed, digest, self._plan)
        if answer.label is not None and answer.label.made:
            self.labels.append(Labelled(request.sample_index, answer.label))
        return Completion(
            text=answer.content or "",
            finish_reason=answer.finish_reason,
            refusal=answer.refusal,
            model=MODEL,
            prompt_tokens=prompt_tokens(parsed),
            completion_tokens=len(answer.content or "") // 4,
            cost_micro_usd=0,
            cached=False,
        )

    async def complete_structured(self, request: CompletionRequest, output: type[Output]) -> tuple[Output, Completion]:
        completion = await self.complete(request)
        if completion.finish_reason == "length":
            raise OutputTruncated("cut off at the token limit")
        try:
            return output.model_validate_json(completion.text), completion
        except ValidationError as error:
            raise OutputInvalid(str(error)) from error
