"""The language models of a worker process: every call is cached, joined, limited, paced, retried, costed and counted.

One call, in order: the answer cache (look-ups of equal calls in flight are joined), circuit breaker, room for answers that
are not durable yet, the job's budget, the gate (in-flight limit, learned pace, leased permits), the wire. A complete 200 is
stored raw before anything is made of it. What fails for a passing reason frees its slot and is tried again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from shared.domain.errors import StepDeferred, StepFailed
from shared.domain.jobs import ModelChoice
from shared.domain.live_calls import live_account_of
from shared.llm.breaker import CircuitBreaker
from shared.llm.cache import CompletionCache
from shared.llm.gate import Admission, Gate, Slots
from shared.llm.limits import Permits, count_workers
from shared.llm.pacing import SendRate
from shared.llm.prices import cost_micro_usd
from shared.llm.protocol import (
    REQUEST_CLASS_HEADER,
    Completion,
    CompletionRequest,
    ContentRefused,
    Message,
    Output,
    OutputInvalid,
    OutputTruncated,
    RequestRejected,
    RetriesExhausted,
)
from shared.llm.providers import ProviderLimits, Providers, ResolvedModel
from shared.llm.step_calls import StepCalls
from shared.llm.structured import (
    NotValid,
    parse_output,
    repair_messages,
    schema_name,
    strict_schema,
    with_schema_in_prompt,
)
from shared.llm.transport import Reply, Transport, TransportFailed, backoff_seconds
from shared.llm.usage import Counters, JobAccount, UsageKey, UsageLedger
from shared.llm.wire import (
    CHARACTERS_PER_TOKEN,
    Answer,
    IncompleteAnswer,
    cache_key,
    decode_answer,
    decode_scores,
    encode_conversations,
    encode_request,
    error_code,
    error_summary,
)
from shared.settings import Settings
from shared.telemetry.tracing import current_span, span

MOST_FAILURES = 8
"""Failed tries of one call (429 not counted: those are bound by the call's deadline alone)."""
_TOKENS_WHEN_UNKNOWN = 1024
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_REFUSED_FOR_GOOD = frozenset({400, 404, 405, 410, 413, 415, 422})
_RETRY_AFTER_JITTER = 0.1


Find = Callable[[], Awaitable[ResolvedModel | None]]
"""Asks where a deployment answers now; None where it does not."""

_LOOK_SECONDS = 0.5
"""Between two of those questions."""
_UNAVAILABLE = frozenset({502, 503})
MOST_BROKEN_CALLS = 5
"""How often a call to a server of ours may use up its tries while others are answered in between, before it is given up."""


class _Endpoint:
    """What all jobs share of one provider and model in this process: its gate, pace and breaker."""

    def __init__(self, resolved: ResolvedModel, admission: Admission, slots: Slots, settings: Settings) -> None:
        self.name = f"{resolved.provider_name}/{resolved.model}"
        self.pace = SendRate(min(admission.slots.limit, slots.limit))
        self.gate = Gate(admission, slots, self.pace)
        self.breaker = CircuitBreaker(self.name, settings.llm_circuit_open_seconds)
        self.resolved = resolved
        self.url = resolved.chat_url()
        self.score_url = resolved.score_url()
        self.find: Find | None = None
        self.answered = 0
        """Calls that were answered."""
        self._found_at = time.monotonic()
        self.key = key = resolved.api_key()
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self.class_headers: dict[str, dict[str, str]] = {}

    @property
    def is_ours(self) -> bool:
        """A model server of ours: one that does not answer is started again, at the same address or another."""
        return bool(self.resolved.deployment)

    def move(self, resolved: ResolvedModel) -> None:
        """The same model at another address."""
        self.resolved = resolved
        self.url, self.score_url = resolved.chat_url(), resolved.score_url()

    async def look_again(self) -> None:
        """Where the model answers now. Raises StepDeferred where the deployment has another model meanwhile."""
        now = time.monotonic()
        if self.find is None or now - self._found_at < _LOOK_SECONDS:
            return
        self._found_at = now
        found = await self.find()
        if found is None:
            return  # not just now: whoever waits for it goes on trying
        if found.model != self.resolved.model:
            raise StepDeferred(f"the deployment has {found.model} now instead of {self.resolved.model}", 0.0)
        self.move(found)

    def headers_of(self, request_class: str) -> dict[str, str]:
        headers = self.class_headers.get(request_class)
        if headers is None:
            headers = self.class_headers[request_class] = self.headers | {REQUEST_CLASS_HEADER: request_class}
        return headers


class LanguageModels:
    """One per worker process, started and used on one event loop.

    ```
    models = LanguageModels(settings, load_providers(settings.providers_file))
    await models.start()
    teacher = models.bind(choice, project_id=…, job_id=…, stage="respond", budget_micro_usd=None)
    completion = await teacher.complete(request)
    await models.flush()   # everything answered so far is durable, its cost too
    await models.close()
    ```
    """

    def __init__(self, settings: Settings, providers: Providers) -> None:
        self._settings = settings
        self._providers = providers
        self._transport = Transport(settings.maximum_in_flight)
        self._admission = Admission(settings.maximum_in_flight)
        self._provider_slots: dict[str, Slots] = {}
        self._permits: dict[str, Permits] = {}
        self._endpoints: dict[tuple[str, str], _Endpoint] = {}
        self._redis: Any = None
        patience = settings.database_patience_seconds
        self.cache = CompletionCache(settings.database_url, settings.llm_cache_ttl_seconds, patience)
        self.usage = UsageLedger(settings.database_url, patience)
        self.flights: dict[bytes, asyncio.Future[bytes | None]] = {}
        self.broken_calls: dict[bytes, tuple[int, int]] = {}
        """Keys of calls to servers of ours that used up all tries -> how often, and what the server had answered by then."""

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def providers(self) -> Providers:
        return self._providers

    @property
    def transport(self) -> Transport:
        return self._transport

    async def start(self) -> None:
        """Open the session and start the background work, on the running loop."""
        await self._transport.start()
        await self.cache.start()
        await self.usage.start()

    async def flush(self) -> None:
        """Return when every answer, and the cost of every answer, received so far is durable."""
        await self.cache.flush()
        await self.usage.flush()

    async def close(self) -> None:
        """Flush and stop. No call may be open."""
        for endpoint in self._endpoints.values():
            endpoint.gate.close()
        for permits in self._permits.values():
            await permits.close()
        await self.cache.close()
        await self.usage.close()
        await self._transport.close()
        if self._redis is not None:
            await self._redis.aclose()

    @property
    def queue_seconds(self) -> float:
        """How long the calls that wait to be sent keep their provider busy; those that pause before a retry do not count."""
        return self._admission.queue_seconds

    def bind(
        self,
        choice: ModelChoice,
        *,
        project_id: str,
        job_id: str,
        stage: str,
        budget_micro_usd: int | None,
        turn: int = 0,
        calls: StepCalls | None = None,
    ) -> "BoundModel":
        """The model of a choice, for one stage of one job. Of waiting calls those with the lowest `turn` go first; `calls` is
        shared by the models of one step.

        Raises:
            InputRefused: unknown provider or model.
            StepFailed: `model_unpriced` (a budget is set and the model has no price), `authentication_failed` or
                `provider_not_configured` (this worker lacks the provider's key or address).
        """
        return self.bind_resolved(
            self._providers.require(choice, "/teacher"),
            project_id=project_id,
            job_id=job_id,
            stage=stage,
            budget_micro_usd=budget_micro_usd,
            turn=turn,
            calls=calls,
        )

    def bind_resolved(
        self,
        resolved: ResolvedModel,
        *,
        project_id: str,
        job_id: str,
        stage: str,
        budget_micro_usd: int | None,
        turn: int = 0,
        calls: StepCalls | None = None,
        find: Find | None = None,
    ) -> "BoundModel":
        """The same for a provider's model, or a deployment, that was found already. `find` tells where a deployment answers when
        its server does not. Raises StepFailed as `bind`."""
        if budget_micro_usd is not None and not resolved.priced:
            raise StepFailed(
                "model_unpriced",
                f"no price is known for {resolved.model!r} of provider {resolved.provider_name!r}, so the job's budget "
                "cannot be kept: set prompt_price and completion_price in the providers file, or submit the job without a budget",
            )
        account = self.usage.account(job_id, budget_micro_usd)
        endpoint = self._endpoint(resolved)
        if endpoint.is_ours:
            endpoint.find = find
        return BoundModel(
            self,
            resolved=resolved,
            endpoint=endpoint,
            account=account,
            project_id=project_id,
            stage=stage,
            turn=turn,
            calls=calls or StepCalls(),
        )

    def bind_live(self, choice: ModelChoice, *, project_id: str, purpose: str, pointer: str) -> "BoundModel":
        """The model of a choice for calls that belong to no job: somebody waits for the answer. They are counted under the
        project and the UTC day, with `purpose` in place of a stage; no budget bounds them.

        Raises InputRefused at `pointer` for an unknown provider or model, StepFailed as `bind` does.
        """
        self._providers.require(choice, pointer)
        return self.bind(
            choice,
            project_id=project_id,
            job_id=live_account_of(project_id, datetime.now(UTC)),
            stage=purpose,
            budget_micro_usd=None,
        )

    def send_rates(self) -> dict[str, float]:
        """Learned calls per second by `provider/model`, for metrics."""
        return {endpoint.name: endpoint.pace.rate for endpoint in self._endpoints.values()}

    def _endpoint(self, resolved: ResolvedModel) -> _Endpoint:
        # Each deployment is a server of its own, with limits and a pace of its own.
        account = resolved.deployment or resolved.provider_name
        key = (account, resolved.model)
        endpoint = self._endpoints.get(key)
        if endpoint is not None and endpoint.is_ours:
            endpoint.move(resolved)
        if endpoint is None:
            limits = resolved.provider.limits
            slots = self._provider_slots.get(account)
            if slots is None:
                most = self._settings.maximum_in_flight
                slots = Slots(min(most, limits.maximum_in_flight or most))
                self._provider_slots[account] = slots
            endpoint = _Endpoint(resolved, self._admission, slots, self._settings)
            if limits.requests_per_minute or limits.tokens_per_minute:
                endpoint.gate.permits = self._permits_of(resolved.provider_name, limits)
            self._endpoints[key] = endpoint
        return endpoint

    def _permits_of(self, provider: str, limits: ProviderLimits) -> Permits:
        """Those of a provider's account: all its models, as teacher and as judge, draw on them."""
        permits = self._permits.get(provider)
        if permits is None:
            permits = self._permits[provider] = Permits(
                self._open_redis(),
                provider,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                refilled=self._admission.let_in,
                count_workers=partial(
                    count_workers, self._settings.database_url, self._settings.database_patience_seconds
                ),
            )
        return permits

    def _open_redis(self) -> Any:
        """Only providers with configured limits need Redis here."""
        if self._redis is None:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self._redis = Redis.from_url(
                self._settings.redis_url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
            )
        return self._redis


class _Call(msgspec.Struct, frozen=True):
    """One call, ready for the wire. `characters` and `tokens` (of prompt and answer, at most) are what limits and costs are
    reckoned with before it is answered; `read` says what a 200 holds."""

    body: bytes
    key: bytes
    request_class: str
    characters: int
    completion_tokens: int
    read: Callable[[bytes], Answer]
    scores: bool = False

    @property
    def tokens(self) -> int:
        return int(self.characters / CHARACTERS_PER_TOKEN) + self.completion_tokens


class _Paid(msgspec.Struct, frozen=True):
    """A fresh answer and what it took."""

    answer: Answer
    cost_micro_usd: int | None
    prompt_tokens: int
    completion_tokens: int


class _Sent(msgspec.Struct, frozen=True):
    """What came of one try. `reply` is None where the connection failed, `answer` where there is none in it."""

    reply: Reply | None
    problem: str
    sent_at: float
    ended_at: float
    answer: Answer | None = None


def _scores_answer(body: bytes, expected: int) -> Answer:
    """What a call for scores took. Raises IncompleteAnswer."""
    decode_scores(body, expected)
    return Answer("", "stop", None, "", None, 0)


class BoundModel:
    """A LanguageModel and, of a reward model, a Scorer (see `shared.llm.protocol`), made by `LanguageModels.bind`."""

    def __init__(
        self,
        models: LanguageModels,
        *,
        resolved: ResolvedModel,
        endpoint: _Endpoint,
        account: JobAccount,
        project_id: str,
        stage: str,
        turn: int,
        calls: StepCalls,
    ) -> None:
        self._models = models
        self._resolved = resolved
        self._endpoint = endpoint
        self._account = account
        self._project_id = project_id
        self._stage = stage
        self._turn = turn
        self._calls = calls
        self._usage_keys: dict[str, UsageKey] = {}
        self._paid: dict[str, tuple[int, int]] = {}  # request class -> calls, micro-USD

    @property
    def provider(self) -> str:
        return self._resolved.provider_name

    @property
    def model(self) -> str:
        return self._resolved.model

    @property
    def simulator(self) -> bool:
        return self._resolved.simulator

    async def complete(self, request: CompletionRequest) -> Completion:
        """One answer, from the cache or paid for. A refused or truncated answer is an answer: see `refusal` and
        `finish_reason`.

        Raises:
            RequestRejected: the provider refuses this request for good.
            RetriesExhausted: it failed for passing reasons until its tries or its deadline were used up.
            StepDeferred: the circuit is open, or the provider asks to wait longer than the deadline.
            StepFailed: `budget_exhausted`, `authentication_failed`, `quota_exhausted`.

        What ends the step is raised only when the step's open calls were answered and stored: raising it cancels them.
        """
        try:
            return await self._complete(request)
        except (StepDeferred, StepFailed) as error:
            await self._calls.wind_down(error, self._models.settings.cancel_grace_seconds)
            raise

    async def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """A Scorer (see `shared.llm.protocol`): what the reward model on this server gives each conversation, in one call.

        Raises as `complete`.
        """
        read = partial(_scores_answer, expected=len(conversations))
        body = encode_conversations(conversations)
        key = cache_key(self._project_id, self._cache_provider, self.model, body, "score")
        characters = sum(len(message["content"]) for messages in conversations for message in messages)
        call = _Call(body, key, "score", characters, 0, read, scores=True)
        try:
            raw, *_ = await self._answered(call)
        except (StepDeferred, StepFailed) as error:
            await self._calls.wind_down(error, self._models.settings.cancel_grace_seconds)
            raise
        return decode_scores(raw, len(conversations))

    @property
    def _cache_provider(self) -> str:
        """Kinds of servers of ours compute with different kernels: what one answered is not what another would."""
        kind = self._resolved.server_kind
        return f"{self.provider}/{kind}" if kind else self.provider

    async def _complete(self, request: CompletionRequest) -> Completion:
        provider = self._resolved.provider
        if request.schema is not None and provider.structured_output == "prompt":
            messages = with_schema_in_prompt(request)
            request = msgspec.structs.replace(request, messages=messages, schema=None, schema_name=None)
        if request.repetition_penalty is not None and provider.repetition_penalty is None:
            raise StepFailed(
                "repetition_penalty_not_taken",
                f"{self._endpoint.name} takes no repetition penalty: set decoding.repetition_penalty to null, or tell in the "
                "providers file how its server takes one",
            )
        encode = partial(
            encode_request,
            request=request,
            output_limit_parameter=provider.output_limit_parameter,
            repetition_penalty=provider.repetition_penalty,
        )
        named = encode(self.model)
        # Which weights answer is in the key, under whatever name a server has them.
        sent = encode(self._resolved.sent_model) if self._resolved.sent_model else named
        key = cache_key(self._project_id, self._cache_provider, self.model, named, request.sample_index)
        characters = sum(len(message["content"]) for message in request.messages)
        tokens = request.max_tokens or _TOKENS_WHEN_UNKNOWN
        call = _Call(sent, key, request.request_class, characters, tokens, decode_answer)
        raw, paid = await self._answered(call)
        if paid is None:
            return self._replay(raw)
        answer = paid.answer
        return Completion(
            text=answer.text,
            finish_reason=answer.finish_reason,
            refusal=answer.refusal,
            model=answer.model or self.model,
            prompt_tokens=paid.prompt_tokens,
            completion_tokens=paid.completion_tokens,
            cost_micro_usd=paid.cost_micro_usd,
            cached=False,
        )

    async def _answered(self, call: _Call) -> tuple[bytes, "_Paid | None"]:
        """The raw answer, and what was paid for it; None for one that was paid for before, or by the equal call that this one
        joined. One span, however often the call is tried."""
        operation = "score" if call.scores else "chat"
        # Names as OpenTelemetry's conventions for generative AI have them.
        about = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.model,
            "multifacet.request_class": call.request_class,
        }
        with span(f"{operation} {self.model}", "client", attributes=about) as opened:
            raw, paid = await self._found_or_paid(call)
            opened.set({"multifacet.cached": paid is None})
            if paid is not None:
                opened.set(
                    {
                        "gen_ai.usage.input_tokens": paid.prompt_tokens,
                        "gen_ai.usage.output_tokens": paid.completion_tokens,
                    }
                )
            return raw, paid

    async def _found_or_paid(self, call: _Call) -> tuple[bytes, "_Paid | None"]:
        models = self._models
        while (flight := models.flights.get(call.key)) is not None:
            raw = await asyncio.shield(flight)
            if raw is not None:
                self._counters(call.request_class).cached_calls += 1
                return raw, None
        flight = models.flights[call.key] = asyncio.get_running_loop().create_future()
        raw = None
        try:
            raw = await models.cache.get(call.key, patience=0.5 * self._endpoint.gate.queue_seconds)
            if raw is not None:
                self._counters(call.request_class).cached_calls += 1
                return raw, None
            raw, paid = await self._pay(call)
        finally:
            del models.flights[call.key]
            flight.set_result(raw)
        return raw, paid

    async def complete_structured(self, request: CompletionRequest, output: type[Output]) -> tuple[Output, Completion]:
        """An answer validated as `output`. An invalid one is sent back once, with what is wrong with it; tokens and cost of
        the returned completion are then the sum of both.

        Raises:
            OutputInvalid: the repaired answer is invalid too.
            OutputTruncated: the token limit cut the answer.
            ContentRefused: the model refused, or the provider's content filter stopped the answer.
            What `complete` raises.
        """
        if request.schema is None:
            request = msgspec.structs.replace(
                request, schema=strict_schema(output), schema_name=request.schema_name or schema_name(output)
            )
        first = await self.complete(request)
        try:
            return self._read(first, output), first
        except NotValid as error:
            problem = str(error)
        repair = msgspec.structs.replace(
            request,
            messages=repair_messages(request, first.text, problem),
            sample_index=f"{request.sample_index}/repair",
        )
        second = await self.complete(repair)
        costs = (first.cost_micro_usd, second.cost_micro_usd)
        both = msgspec.structs.replace(
            second,
            prompt_tokens=first.prompt_tokens + second.prompt_tokens,
            completion_tokens=first.completion_tokens + second.completion_tokens,
            cost_micro_usd=None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
            cached=first.cached and second.cached,
        )
        try:
            return self._read(second, output), both
        except NotValid as error:
            raise OutputInvalid(f"no valid {schema_name(output)} after one repair: {error}") from error

    @staticmethod
    def _read(completion: Completion, output: type[Output]) -> Output:
        if completion.refusal is not None or completion.finish_reason == "content_filter":
            raise ContentRefused(
                "the provider's content filter stopped the answer"
                if completion.refusal is None
                else "the model refused to answer"
            )
        if completion.finish_reason == "length":
            raise OutputTruncated(
                f"the token limit cut the answer after {completion.completion_tokens} tokens: raise max_tokens"
            )
        return parse_output(completion.text, output)

    def _counters(self, request_class: str) -> Counters:
        key = self._usage_keys.get(request_class)
        if key is None:
            key = self._usage_keys[request_class] = UsageKey(
                self._account.job_id, self._stage, self.provider, self.model, request_class, self._project_id
            )
        return self._models.usage.counters(key)

    def _replay(self, raw: bytes) -> Completion:
        """An answer that was paid for before, or by the equal call that this one joined."""
        answer = decode_answer(raw)
        return Completion(
            text=answer.text,
            finish_reason=answer.finish_reason,
            refusal=answer.refusal,
            model=answer.model or self.model,
            prompt_tokens=answer.prompt_tokens or 0,
            completion_tokens=answer.completion_tokens or 0,
            cost_micro_usd=0,
            cached=True,
        )

    def _expected_cost(self, call: _Call) -> int:
        """Micro-USD that a call is expected to cost: the mean of its class so far, at least 1; nothing on a server of ours."""
        if self._endpoint.is_ours:
            return 0
        calls, paid = self._paid.get(call.request_class, (0, 0))
        if calls:
            return max(1, paid // calls)
        expected = cost_micro_usd(
            self._resolved,
            int(call.characters / CHARACTERS_PER_TOKEN),
            min(call.completion_tokens, _TOKENS_WHEN_UNKNOWN),
        )
        return max(1, expected or 0)

    async def _pay(self, call: _Call) -> tuple[bytes, _Paid]:
        """Get the answer from the provider, store and charge it."""
        models, account = self._models, self._account
        budgeted = account.budget_micro_usd is not None
        if budgeted and not account.loaded:
            await models.usage.load(account)
        expected = self._expected_cost(call) if budgeted else 0
        if budgeted:
            await account.reserve(expected)
        charged = 0
        try:
            raw, answer = await self._try_until_answered(call)
            prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
            if prompt_tokens is None or completion_tokens is None:
                # A server without usage figures: billed by characters, so that the money is not under-counted.
                prompt_tokens = -int(-call.characters // CHARACTERS_PER_TOKEN)
                completion_tokens = -int(-len(answer.text) // CHARACTERS_PER_TOKEN)
            cost = cost_micro_usd(self._resolved, prompt_tokens, completion_tokens)
            models.cache.put(call.key, self._project_id, self.provider, self.model, raw)
            counters = self._counters(call.request_class)
            counters.calls += 1
            counters.prompt_tokens += prompt_tokens
            counters.completion_tokens += completion_tokens
            counters.prompt_characters += call.characters
            counters.completion_characters += len(answer.text)
            if cost is None:
                counters.unpriced_calls += 1
            else:
                charged = cost
                counters.cost_micro_usd += cost
                calls, paid = self._paid.get(call.request_class, (0, 0))
                self._paid[call.request_class] = (calls + 1, paid + cost)
            return raw, _Paid(answer, cost, prompt_tokens, completion_tokens)
        finally:
            account.settle(expected, charged)

    async def _try_until_answered(self, call: _Call) -> tuple[bytes, Answer]:
        models, endpoint = self._models, self._endpoint
        settings = models.settings
        headers = endpoint.headers_of(call.request_class)
        left = settings.llm_call_deadline_seconds
        failures = tries = 0
        while True:
            probing = await endpoint.breaker.check()
            try:
                sent = await self._send(call, headers, tries > 0, left)
            except BaseException:
                if probing:
                    endpoint.breaker.gave_up()
                raise
            reply, problem, now = sent.reply, sent.problem, sent.ended_at
            if sent.answer is not None and reply is not None:
                return reply.body, sent.answer
            left -= now - sent.sent_at
            tries += 1
            current_span().set(
                {"multifacet.failed_tries": tries, "http.response.status_code": 0 if reply is None else reply.status}
            )
            counters = self._counters(call.request_class)
            counters.retries += 1
            if reply is not None and reply.status == 429:
                counters.rate_limited += 1
                endpoint.pace.rejected(sent.sent_at, now)
                endpoint.breaker.rejected()
                pause = self._pause_of_rejection(reply, problem, tries, left)
            else:
                if reply is not None:
                    endpoint.pace.accepted(sent.sent_at, now)
                    if reply.status != 200:
                        self._raise_for(reply, problem)
                failures += 1
                endpoint.breaker.failed(problem)
                pause = backoff_seconds(failures - 1)
                if reply is not None and reply.retry_after is not None:
                    pause = self._asked_pause(reply.retry_after, left)
            gone = reply is None or reply.status in _UNAVAILABLE
            if gone:
                await endpoint.look_again()
            if failures >= MOST_FAILURES or pause >= left:
                if endpoint.is_ours and (gone or (reply is not None and reply.status == 429)):
                    self._put_off(call, problem)
                raise RetriesExhausted(
                    f"{endpoint.name} gave no answer in {tries} tries ({failures} failures); the last one: {problem}"
                )
            await asyncio.sleep(pause)
            left -= pause

    def _put_off(self, call: _Call, problem: str) -> None:
        """A server of ours that is away or busy costs no row: the step waits for it. Returns where this very call was put off
        again and again while others were answered in between: then it breaks the server."""
        broken, answered = self._models.broken_calls, self._endpoint.answered
        times, answered_before = broken.get(call.key, (0, -1))
        times += answered > answered_before
        broken[call.key] = (times, answered)
        if times < MOST_BROKEN_CALLS:
            raise StepDeferred(
                f"{self._endpoint.name} does not answer (last: {problem})",
                self._models.settings.llm_circuit_open_seconds,
            )

    async def _send(self, call: _Call, headers: dict[str, str], is_retry: bool, left: float) -> "_Sent":
        """One try: through the gate, over the wire, and the answer read if there is one."""
        models, endpoint, tokens = self._models, self._endpoint, call.tokens
        await models.cache.room()
        self._calls.admit()
        await endpoint.gate.enter(tokens, is_retry, self._turn)
        sent_at = time.monotonic()
        used_tokens = 0
        reply: Reply | None = None
        try:
            self._calls.admit()
            # Our servers queue what they cannot do at once, and a long answer takes its time on a CPU.
            longest = (
                models.settings.llm_call_deadline_seconds
                if endpoint.is_ours
                else models.settings.llm_request_timeout_seconds
            )
            url = endpoint.score_url if call.scores else endpoint.url
            with self._calls.open_call():
                reply = await models.transport.post(url, call.body, headers, min(longest, max(0.05, left)))
            if reply.status == 200:
                answer = call.read(reply.body)
                used_tokens = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0) or tokens
                ended_at = time.monotonic()
                endpoint.pace.accepted(sent_at, ended_at)
                endpoint.breaker.succeeded()
                endpoint.answered += 1
                models.broken_calls.pop(call.key, None)
                return _Sent(reply, "", sent_at, ended_at, answer)
            problem = f"{reply.status}: {error_summary(reply.body, call.body, endpoint.key)}"
        except (TransportFailed, IncompleteAnswer) as error:
            problem = str(error)
        finally:
            endpoint.gate.leave()
            if endpoint.gate.permits is not None:
                endpoint.gate.permits.settle(tokens, used_tokens)
        return _Sent(reply, problem, sent_at, time.monotonic())

    def _raise_for(self, reply: Reply, problem: str) -> None:
        """Raise what no retry can cure; return for the rest (408, 409, 5xx)."""
        status = reply.status
        if status < 500:
            self._endpoint.breaker.succeeded()  # the provider is up, and said no
        if status in (401, 403):
            raise StepFailed(
                "authentication_failed",
                f"{self._endpoint.name} refuses the configured key ({status}): set a valid key in the environment variable "
                f"{self._resolved.provider.api_key_env or '(none is configured)'} of the workers and retry the job",
            )
        if status == 402 or error_code(reply.body) in _QUOTA_CODES:
            self._raise_quota(problem)
        if status in _REFUSED_FOR_GOOD or 300 <= status < 400:
            raise RequestRejected(f"{self._endpoint.name} refuses this request for good ({problem})")

    def _raise_quota(self, problem: str) -> None:
        raise StepFailed(
            "quota_exhausted",
            f"the account at {self._endpoint.name} has no quota left ({problem}): add credit there and retry the job",
        )

    def _pause_of_rejection(self, reply: Reply, problem: str, tries: int, left: float) -> float:
        if error_code(reply.body) in _QUOTA_CODES:
            self._raise_quota(problem)
        if reply.retry_after is None:
            return backoff_seconds(tries)
        return self._asked_pause(reply.retry_after, left)

    def _asked_pause(self, retry_after: float, left: float) -> float:
        """Retry-After plus a little jitter. Longer than the call may last: the whole step waits, no row is given up."""
        if retry_after >= left:
            raise StepDeferred(f"{self._endpoint.name} asks to wait {retry_after:.0f} s", retry_after)
        return retry_after + backoff_seconds(0, base=_RETRY_AFTER_JITTER)
