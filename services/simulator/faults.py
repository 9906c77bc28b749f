"""The fault plan: what goes wrong, for which class of request, how often.

Whether a call meets a fault depends on (plan seed, exact request body, how often this body was asked before) and on
nothing else, so a run can be repeated and a retry of the same body can succeed. Only the rate limits depend on time.
"""

import math
from collections import OrderedDict
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec
from pydantic import Field, ValidationError, model_validator

from services.simulator.chance import uniforms_of
from services.simulator.judge_profile import JudgeProfile, PlanModel
from services.simulator.requests import RequestClass

REMEMBERED_BODIES = 500_000
"""So many request bodies have their attempts counted; older ones start again at zero."""


class Fault(StrEnum):
    """What a call can meet instead of a sound answer."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    HTML_502 = "html_502"
    HANG = "hang"
    CONNECTION_RESET = "connection_reset"
    UNAUTHORIZED = "unauthorized"
    TRUNCATED_BODY = "truncated_body"
    MALFORMED_BODY = "malformed_body"
    MALFORMED_ANSWER = "malformed_answer"
    INVALID_ANSWER = "invalid_answer"
    TRUNCATED_ANSWER = "truncated_answer"
    REFUSAL_FIELD = "refusal_field"
    REFUSAL_PHRASE = "refusal_phrase"
    EMPTY_ANSWER = "empty_answer"
    OFF_LANGUAGE = "off_language"
    CONTRADICTORY_SET = "contradictory_set"
    MOOT_PREFERENCE = "moot_preference"
    WRONG_POLE = "wrong_pole"
    WRONG_LEVEL = "wrong_level"
    DUPLICATE_SET = "duplicate_set"
    COMMA_SPLIT_KEYWORDS = "comma_split_keywords"
    HELD_OUT_PARAPHRASE = "held_out_paraphrase"
    HELD_OUT_REWORDED = "held_out_reworded"
    INJECTED_DESCRIPTION = "injected_description"
    LEAKED_ANSWER = "leaked_answer"
    RESTATED_TASK = "restated_task"
    INJECTED_MESSAGE = "injected_message"
    IGNORED_FACET = "ignored_facet"
    BROKEN_FACT = "broken_fact"
    INJECTED_ANSWER = "injected_answer"


CLASS_OF_SLIP: dict[Fault, RequestClass] = {
    Fault.CONTRADICTORY_SET: RequestClass.AUGMENT,
    Fault.MOOT_PREFERENCE: RequestClass.AUGMENT,
    Fault.WRONG_POLE: RequestClass.AUGMENT,
    Fault.WRONG_LEVEL: RequestClass.AUGMENT,
    Fault.DUPLICATE_SET: RequestClass.AUGMENT,
    Fault.COMMA_SPLIT_KEYWORDS: RequestClass.AUGMENT,
    Fault.HELD_OUT_PARAPHRASE: RequestClass.AUGMENT,
    Fault.HELD_OUT_REWORDED: RequestClass.AUGMENT,
    Fault.INJECTED_DESCRIPTION: RequestClass.AUGMENT,
    Fault.LEAKED_ANSWER: RequestClass.COMPOSE,
    Fault.RESTATED_TASK: RequestClass.COMPOSE,
    Fault.INJECTED_MESSAGE: RequestClass.COMPOSE,
    Fault.IGNORED_FACET: RequestClass.RESPOND,
    Fault.BROKEN_FACT: RequestClass.RESPOND,
    Fault.INJECTED_ANSWER: RequestClass.RESPOND,
}
"""Slips: faults of meaning in an answer whose form is sound, and the class of request that can meet each."""


class RateLimit(PlanModel):
    """A token bucket: calls above it get 429 at once."""

    calls_per_second: float = Field(gt=0)
    burst: int = Field(default=1, ge=1, description="calls that may come at once after a pause")
    retry_after_seconds: float | None = Field(
        default=None, ge=0, description="sent as Retry-After; null sends no such header"
    )


class Shares(PlanModel):
    """Share of calls that meet each fault, 0 to 1; together at most 1."""

    rate_limited: float = Field(default=0.0, ge=0, le=1, description="429 at random")
    server_error: float = Field(default=0.0, ge=0, le=1, description="JSON error with `server_error_status`")
    html_502: float = Field(default=0.0, ge=0, le=1, description="502 with the HTML page of a proxy")
    hang: float = Field(default=0.0, ge=0, le=1, description="no byte for `hang_seconds`, then the connection closes")
    connection_reset: float = Field(default=0.0, ge=0, le=1, description="the connection is dropped without an answer")
    unauthorized: float = Field(default=0.0, ge=0, le=1, description="401 with code invalid_api_key")
    truncated_body: float = Field(default=0.0, ge=0, le=1, description="200, but the body ends early")
    malformed_body: float = Field(default=0.0, ge=0, le=1, description="200 with a complete body that is not JSON")
    malformed_answer: float = Field(
        default=0.0, ge=0, le=1, description="sound body, but a demanded JSON answer is none"
    )
    invalid_answer: float = Field(default=0.0, ge=0, le=1, description="the answer is JSON that breaks its schema")
    truncated_answer: float = Field(default=0.0, ge=0, le=1, description="half an answer, finish_reason length")
    refusal_field: float = Field(default=0.0, ge=0, le=1, description="content null, refusal set")
    refusal_phrase: float = Field(default=0.0, ge=0, le=1, description="an ordinary answer whose text refuses")
    empty_answer: float = Field(default=0.0, ge=0, le=1, description="content is the empty string")
    off_language: float = Field(default=0.0, ge=0, le=1, description="an answer in another language than asked for")

    contradictory_set: float = Field(
        default=0.0, ge=0, le=1, description="augment: a wish that cannot stand beside another of its set"
    )
    moot_preference: float = Field(
        default=0.0, ge=0, le=1, description="augment: a wish that any sensible answer meets"
    )
    wrong_pole: float = Field(default=0.0, ge=0, le=1, description="augment: a description of the opposite pole")
    wrong_level: float = Field(
        default=0.0, ge=0, le=1, description="augment: a description of another subdimension of the dimension"
    )
    duplicate_set: float = Field(default=0.0, ge=0, le=1, description="augment: a set says what another set says")
    comma_split_keywords: float = Field(default=0.0, ge=0, le=1, description="augment: keywords that are a list")
    held_out_paraphrase: float = Field(
        default=0.0, ge=0, le=1, description="augment: one of the plan's `held_out_texts` in lightly other words"
    )
    held_out_reworded: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="augment: what one of the plan's `held_out_texts` asks for, in words of its own",
    )
    injected_description: float = Field(
        default=0.0, ge=0, le=1, description="augment: a description holds a command to whoever reviews it"
    )
    leaked_answer: float = Field(default=0.0, ge=0, le=1, description="compose: the message holds an answer to a task")
    restated_task: float = Field(default=0.0, ge=0, le=1, description="compose: the message sets a task")
    injected_message: float = Field(
        default=0.0, ge=0, le=1, description="compose: the message holds a command to whoever reviews it"
    )
    ignored_facet: float = Field(default=0.0, ge=0, le=1, description="respond: an answer as if without system message")
    broken_fact: float = Field(
        default=0.0, ge=0, le=1, description="respond: a statement that contradicts the other answers"
    )
    injected_answer: float = Field(default=0.0, ge=0, le=1, description="respond: a command to whoever grades the text")

    @model_validator(mode="after")
    def at_most_one(self) -> Self:
        together = math.fsum(self.model_dump().values())
        if together > 1 + 1e-9:
            raise ValueError(f"the shares add up to {together:g}; one call meets one fault, so set at most 1 together")
        return self


class ClassFaults(PlanModel):
    """What happens to one class of requests."""

    latency_ms: float = Field(default=0.0, ge=0, description="every answer and error takes at least so long")
    jitter_ms: float = Field(default=0.0, ge=0, description="mean of an exponential tail on top of it")
    rate_limit: RateLimit | None = None
    shares: Shares = Shares()
    retry_after_seconds: float | None = Field(
        default=None, ge=0, description="Retry-After of the 429 at random; null sends no such header"
    )
    server_error_status: int = Field(default=500, ge=500, le=599)
    hang_seconds: float = Field(default=600.0, ge=0)


class FaultPlan(PlanModel):
    """The whole plan. A class named in `classes` is described there alone; `default` is for all others."""

    seed: int = 0
    rate_limit: RateLimit | None = Field(default=None, description="one bucket that all classes share")
    default: ClassFaults = ClassFaults()
    classes: dict[RequestClass, ClassFaults] = Field(default_factory=dict)
    held_out_texts: tuple[str, ...] = Field(default=(), description="what the held-out slips give away")
    judge: JudgeProfile = Field(
        default=JudgeProfile(), description="how the judge errs: a preset's name or its settings"
    )

    @model_validator(mode="after")
    def slips_can_happen(self) -> Self:
        for request_class, faults in self.classes.items():
            for slip, own_class in CLASS_OF_SLIP.items():
                if own_class is not request_class and getattr(faults.shares, slip.value) > 0:
                    raise ValueError(
                        f"classes/{request_class.value}/shares/{slip.value} would do nothing: only requests of class"
                        f" {own_class.value} meet it"
                    )
        shares = self.of(RequestClass.AUGMENT).shares
        for name in ("held_out_paraphrase", "held_out_reworded"):
            if getattr(shares, name) > 0 and not any(text.strip() for text in self.held_out_texts):
                raise ValueError(f"{name} needs `held_out_texts`: the texts that are to be reworded")
        return self

    def of(self, request_class: RequestClass) -> ClassFaults:
        return self.classes.get(request_class, self.default)


class FaultPlanRefused(ValueError):
    """A fault plan cannot be used; the text says what was seen and where."""


def parse_fault_plan(data: bytes | str) -> FaultPlan:
    """The plan from JSON text. Raises FaultPlanRefused with the JSON path of every value that is wrong."""
    try:
        return FaultPlan.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'/'.join(str(part) for part in problem['loc']) or 'plan'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise FaultPlanRefused(f"the fault plan cannot be used: {problems}") from error


def load_fault_plan(path: Path) -> FaultPlan:
    """The plan from a JSON file. Raises FaultPlanRefused, also when the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FaultPlanRefused(f"the fault plan {path} cannot be read: {error.strerror}") from error
    return parse_fault_plan(data)


class Decision(msgspec.Struct, frozen=True):
    """What one call meets. `delay` in seconds comes before anything is sent."""

    fault: Fault | None
    delay: float
    retry_after: float | None
    settings: ClassFaults


class _Bucket:
    """Token bucket on a monotonic clock."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.tokens = float(limit.burst)
        self.filled_at: float | None = None

    def take(self, now: float) -> bool:
        if self.filled_at is not None:
            grown = self.tokens + (now - self.filled_at) * self.limit.calls_per_second
            self.tokens = min(float(self.limit.burst), grown)
        self.filled_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class FaultInjector:
    """Decides for every call by the plan; holds the buckets and the attempts per body."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self._shared_bucket = _Bucket(plan.rate_limit) if plan.rate_limit else None
        self._buckets: dict[RequestClass, _Bucket] = {}
        self._thresholds: dict[RequestClass, tuple[tuple[float, Fault], ...]] = {}
        self._settings: dict[RequestClass, ClassFaults] = {}
        for request_class in RequestClass:
            settings = plan.of(request_class)
            self._settings[request_class] = settings
            if settings.rate_limit:
                self._buckets[request_class] = _Bucket(settings.rate_limit)
            reached = 0.0
            steps = []
            for name, share in settings.shares.model_dump().items():
                fault = Fault(name)
                # The default plan may name slips of several classes: each class meets its own.
                if share > 0 and CLASS_OF_SLIP.get(fault, request_class) is request_class:
                    reached += share
                    steps.append((reached, fault))
            self._thresholds[request_class] = tuple(steps)

    def decide(self, request_class: RequestClass, body_digest: bytes, now: float) -> Decision:
        """What this call meets. `now` is a monotonic time in seconds, for the rate limits alone.

        A call that a bucket turns away is not counted as an attempt: else the faults of a body would depend on time.
        """
        settings = self._settings[request_class]
        for bucket in (self._shared_bucket, self._buckets.get(request_class)):
            if bucket is not None and not bucket.take(now):
                return Decision(Fault.RATE_LIMITED, 0.0, bucket.limit.retry_after_seconds, settings)
        thresholds = self._thresholds[request_class]
        if not thresholds and not settings.jitter_ms:
            return Decision(None, settings.latency_ms / 1000, None, settings)
        attempt = self._attempts.get(body_digest, 0)
        self._attempts[body_digest] = attempt + 1
        self._attempts.move_to_end(body_digest)
        if len(self._attempts) > REMEMBERED_BODIES:
            self._attempts.popitem(last=False)
        choice, tail = uniforms_of(self.plan.seed, body_digest, attempt)
        delay = (settings.latency_ms - settings.jitter_ms * math.log1p(-tail)) / 1000
        fault = next((name for threshold, name in thresholds if choice < threshold), None)
        retry_after = settings.retry_after_seconds if fault is Fault.RATE_LIMITED else None
        return Decision(fault, delay, retry_after, settings)
