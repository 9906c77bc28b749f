"""The engine as the event loop sees it (`protocol.Engine`)."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from services.inference.cpu_server.engine.detokenising import TokenTexts
from services.inference.cpu_server.engine.grammar import Grammars, GrammarState
from services.inference.cpu_server.engine.protocol import (
    EngineCounters,
    EngineEnd,
    EngineFacts,
    EngineFailed,
    EngineOverloaded,
    EngineRequest,
    EngineToken,
)
from services.inference.cpu_server.engine.sequences import Item, Running
from services.inference.cpu_server.engine.worker import Scoring, Worker


class RunningSequence:
    """See `protocol.EngineSequence`."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        """`on_end` is called once, when nothing more is wanted or to come."""
        self.prompt_tokens: Sequence[EngineToken] = ()
        self._on_end = on_end
        self.running: Running | None = None
        self._items: deque[Item] = deque()
        self._came = asyncio.Event()
        self._is_over = False

    @property
    def started_at(self) -> float | None:
        return None if self.running is None else self.running.started_at

    def receive(self, items: Sequence[Item]) -> None:
        if self._is_over:
            return
        self._items.extend(items)
        if not isinstance(items[-1], EngineToken):
            self._settle()
        self._came.set()

    def receive_prompt(self, tokens: Sequence[EngineToken]) -> None:
        self.prompt_tokens = tuple(tokens)

    def __aiter__(self) -> AsyncIterator[EngineToken | EngineEnd]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[EngineToken | EngineEnd]:
        try:
            while True:
                while not self._items:
                    if self._is_over:
                        return
                    self._came.clear()
                    await self._came.wait()
                item = self._items.popleft()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        if self._is_over:
            return
        if self.running is not None:
            self.running.is_cancelled = True
        self._items.clear()
        # Whoever waits for the next token in another task waits no longer.
        self.receive([EngineFailed("the sequence was closed")])

    def _settle(self) -> None:
        self._is_over = True
        self._on_end()


class TransformersEngine:
    """See `protocol.Engine`. Made by `opening.open_engine`."""

    def __init__(
        self,
        facts: EngineFacts,
        counters: EngineCounters,
        worker: Worker,
        texts: TokenTexts,
        grammars: Grammars,
        maximum_waiting: int,
    ) -> None:
        self.facts = facts
        self.counters = counters
        self._worker = worker
        self._texts = texts
        self._grammars = grammars
        self._maximum_waiting = maximum_waiting
        self._is_closed = False
        self._alive = 0

    async def start(self) -> None:
        self._worker.start()

    async def submit(self, request: EngineRequest) -> RunningSequence:
        self._check(request)
        if self._is_closed:
            raise EngineFailed("the engine was closed")
        self._require_room()
        grammar: GrammarState | None = None
        if request.grammar is not None:
            grammar = await asyncio.to_thread(self._grammars.state, request.grammar)
            self._require_room()
        sequence = RunningSequence(self._leave)
        sequence.running = Running(request, self._texts, grammar, sequence)
        self._alive += 1
        self._worker.put(sequence.running)
        return sequence

    async def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        if not self.facts.is_reward_model:
            raise ValueError(f"{self.facts.model_id} is a language model, which gives no scores; serve a reward model")
        if self._is_closed:
            raise EngineFailed("the engine was closed")
        for sequence in sequences:
            self._check_length(len(sequence), 0)
        if not sequences:
            return []
        future: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        self._worker.put(Scoring([list(sequence) for sequence in sequences], future))
        return await future

    async def close(self) -> None:
        self._is_closed = True
        await asyncio.to_thread(self._worker.close)
        await asyncio.sleep(0)  # what the thread handed over last is delivered

    def _require_room(self) -> None:
        if self._alive >= self.facts.slots + self._maximum_waiting:
            raise EngineOverloaded(
                f"{self._alive} sequences are under way, as many as this server takes ({self.facts.slots} that run and "
                f"{self._maximum_waiting} that wait); ask again later"
            )

    def _leave(self) -> None:
        self._alive -= 1

    def _check(self, request: EngineRequest) -> None:
        if self.facts.is_reward_model:
            raise ValueError(f"{self.facts.model_id} is a reward model, which writes no text; serve a language model")
        if request.adapter is not None and request.adapter not in self.facts.adapters:
            raise ValueError(
                f"there is no adapter {request.adapter!r}; there is {', '.join(self.facts.adapters) or 'none'}"
            )
        if request.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {request.max_new_tokens}; ask for at least 1")
        self._check_length(len(request.prompt_ids), request.max_new_tokens)

    def _check_length(self, given: int, more: int) -> None:
        if not given:
            raise ValueError("there is no token to begin from")
        if given + more > self.facts.maximum_total_tokens:
            raise ValueError(
                f"{given} tokens and {more} to come are more than the {self.facts.maximum_total_tokens} that a sequence may have"
            )
