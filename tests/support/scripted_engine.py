"""An engine that says what it was told to, so that what is tested is the server around it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.inference.cpu_server.engine.protocol import (
    EngineCounters,
    EngineEnd,
    EngineFacts,
    EngineFailed,
    EngineOverloaded,
    EngineRequest,
    EngineToken,
    GrammarRefused,
)

ANSWER = " one two three four five six seven été"


class ScriptedEngine:
    """Says `answer` token by token, then EOS. Drawn answers begin with their seed; with a grammar the answer is `{"a": 1}`.

    `fail_after`, `hang_after` and `vanish_after` (tokens) end a sequence with EngineFailed, keep it waiting, and end it without
    an end. `full` refuses every sequence. Log-probabilities are -0.5, -0.625, -0.75 and so on.
    """

    def __init__(self, tokenizer: Any, *, is_reward_model: bool = False, adapters: tuple[str, ...] = ()) -> None:
        self.tokenizer = tokenizer
        self.facts = EngineFacts("scripted", is_reward_model, "float32", "cpu", 256, 4, adapters)
        self.counters = EngineCounters()
        self.answer = ANSWER
        self.fail_after: int | None = None
        self.hang_after: int | None = None
        self.vanish_after: int | None = None
        self.full = False
        self.requests: list[EngineRequest] = []
        self.scored: list[list[int]] = []
        self.closed_early = threading.Event()
        """A sequence was closed before its end."""
        self.steps_after_close = 0
        self.closed = asyncio.Event()

    async def start(self) -> None:
        pass

    async def submit(self, request: EngineRequest) -> "ScriptedSequence":
        if self.full:
            raise EngineOverloaded("4 sequences wait; try again later")
        if request.grammar is not None and request.grammar.value == "(":
            raise GrammarRefused("the expression has a group that does not end")
        self.requests.append(request)
        return ScriptedSequence(self, request)

    async def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        self.scored += [list(sequence) for sequence in sequences]
        return [float(len(sequence)) for sequence in sequences]

    async def close(self) -> None:
        self.closed.set()


class ScriptedSequence:
    def __init__(self, engine: ScriptedEngine, request: EngineRequest) -> None:
        self._engine = engine
        self._request = request
        self._ended = False
        self._closed = False
        self.started_at: float | None = None
        self.prompt_tokens: tuple[EngineToken, ...] = ()
        if request.prompt_log_probabilities:
            self.prompt_tokens = tuple(
                EngineToken(number, engine.tokenizer.decode([number]), None if place == 0 else -1.0)
                for place, number in enumerate(request.prompt_ids)
            )
        engine.counters.running += 1

    async def __aiter__(self) -> AsyncIterator[EngineToken | EngineEnd]:
        engine, request = self._engine, self._request
        answer = f" {request.seed}" + engine.answer if request.sample else engine.answer
        if request.grammar is not None:
            answer = '{"a": 1}'
        ids = engine.tokenizer.encode(answer, add_special_tokens=False)
        told = ""
        for step in range(request.max_new_tokens):
            await asyncio.sleep(0)
            if self._closed:
                engine.steps_after_close += 1
            if step == engine.vanish_after:
                return
            await self._misbehave(step)
            if step == len(ids):
                yield self._token(engine.tokenizer.eos_token_id, "</s>", step, special=True, last=True)
                yield self._end("eos_token", told, step + 1)
                return
            # As a detokenizer does: a character of several tokens comes with its last.
            whole = engine.tokenizer.decode(ids[: step + 1])
            text = "" if whole.endswith("\ufffd") else whole[len(told) :]
            told += text
            stop = next((stop for stop in request.stop if stop in told), None)
            last = stop is not None or step + 1 == request.max_new_tokens
            yield self._token(ids[step], text, step, last=last)
            if last:
                yield self._end("stop_sequence" if stop else "length", told, step + 1, stop)
                return

    async def _misbehave(self, step: int) -> None:
        if step == self._engine.fail_after:
            raise EngineFailed("out of memory")
        if step == self._engine.hang_after:
            await self._engine.closed.wait()
            raise EngineFailed("the engine was closed")

    def _token(self, number: int, text: str, step: int, *, special: bool = False, last: bool = False) -> EngineToken:
        value = -0.5 - step / 8
        top = tuple(
            EngineToken(number + place, f"{text}{place}", value - place) for place in range(self._request.top_tokens)
        )
        return EngineToken(number, text, value, special, top, last)

    def _end(self, reason: Any, text: str, count: int, stopped_by: str | None = None) -> EngineEnd:
        self._ended = True
        self._engine.counters.finished += 1
        self._engine.counters.running -= 1
        return EngineEnd(reason, text, count, self._request.seed if self._request.sample else None, stopped_by)

    async def aclose(self) -> None:
        if not self._ended and not self._closed:
            self._engine.counters.cancelled += 1
            self._engine.counters.running -= 1
            self._engine.closed_early.set()
        self._closed = True
