"""The batch that requests join and leave between two tokens: one `step` is one forward pass.

In a step every sequence whose prompt was read goes on by one token; beside them prompts are read, several at once or a long one
in pieces, no more tokens than leaves those that decode their pace.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.inference.cpu_server.engine.attention import PackedBatch, Piece
from services.inference.cpu_server.engine.language_model import LanguageModel
from services.inference.cpu_server.engine.protocol import EngineCounters, EngineEnd, EngineFailed
from services.inference.cpu_server.engine.sampling import Sampler
from services.inference.cpu_server.engine.sequences import Item, Running
from services.inference.cpu_server.engine.store import KeyValueStore

PROMPT_TOKENS_ALONE = 512
"""Most prompt tokens of a step in which nothing decodes."""
PROMPT_TOKENS_BESIDE = 128
"""Most prompt tokens of a step beside sequences that decode: a long prompt slows them down, but does not stop them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Member:
    """What a sequence gives to a pass: `tokens` of its prompt, or (0) the token that it chose last."""

    running: Running
    tokens: int

    @property
    def count(self) -> int:
        return self.tokens or 1


class Batch:
    """Sequences that wait and run. Not safe for threads: one thread calls everything but `Running.is_cancelled`."""

    def __init__(
        self,
        model: LanguageModel,
        slots: int,
        maximum_total_tokens: int,
        eos_ids: frozenset[int],
        counters: EngineCounters,
    ) -> None:
        self._model = model
        self._slots = slots
        self._eos_ids = eos_ids
        self._counters = counters
        self._store = KeyValueStore(slots, maximum_total_tokens)
        self._sampler = Sampler()
        self._waiting: deque[Running] = deque()
        # A sequence's place here is its slot: slots in use have no holes.
        self._running: list[Running] = []
        self._results: list[tuple[Running, list[Item]]] = []

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def stored_bytes(self) -> int:
        """Memory of keys and values."""
        return self._store.bytes()

    def add(self, running: Running) -> None:
        self._waiting.append(running)

    def step(self) -> list[tuple[Running, list[Item]]]:
        """One pass; what each sequence yielded."""
        self._results = []
        self._drop_cancelled()
        while self._waiting and len(self._running) < self._slots:
            running = self._waiting.popleft()
            running.slot = len(self._running)
            running.started_at = time.monotonic()
            self._running.append(running)
        members = self._members()
        if members:
            began = time.perf_counter()
            self._pass(members)
            if decoding := sum(not member.tokens for member in members):
                self._counters.steps += 1
                self._counters.batch_sizes[decoding] = self._counters.batch_sizes.get(decoding, 0) + 1
                self._counters.step_seconds += time.perf_counter() - began
        self._count()
        return self._results

    def end_all(self, message: str) -> list[tuple[Running, list[Item]]]:
        """Fail everything that waits and runs."""
        self._results = []
        for running in [*self._running, *self._waiting]:
            self._results.append((running, [EngineFailed(message)]))
            self._counters.failed += 1
        self._running.clear()
        self._waiting.clear()
        self._sampler.forget()
        self._store.shrink(0, 0)
        self._count()
        return self._results

    def _count(self) -> None:
        self._counters.running, self._counters.waiting = len(self._running), len(self._waiting)

    def _drop_cancelled(self) -> None:
        for running in [running for running in self._running if running.is_cancelled]:
            self._release(running)
            self._counters.cancelled += 1
        if any(running.is_cancelled for running in self._waiting):
            kept = [running for running in self._waiting if not running.is_cancelled]
            self._counters.cancelled += len(self._waiting) - len(kept)
            self._waiting = deque(kept)

    def _members(self) -> list[_Member]:
        decoding = [_Member(running, 0) for running in self._running if running.is_decoding]
        left = PROMPT_TOKENS_BESIDE if decoding else PROMPT_TOKENS_ALONE
        reading = []
        for running in sorted((running for running in self._running if running.unread), key=lambda one: -one.stored):
            if left:
                tokens = min(left, running.unread)
                left -= tokens
                reading.append(_Member(running, tokens))
        return decoding + reading

    def _pass(self, members: Sequence[_Member]) -> None:
        """A forward pass for these and the choice of their tokens. Where it fails it is tried again in halves (what was stored is
        written again the same), so that only a sequence that fails alone is over."""
        try:
            scores, kept = self._forward(members)
        except Exception as error:  # noqa: BLE001  memory, a kernel, a token that the model has not: all are told alike
            if len(members) > 1:
                half = len(members) // 2
                self._pass(members[:half])
                self._pass(members[half:])
                return
            _log.warning("a sequence was given up: the forward pass raised %s", type(error).__name__)
            self._fail(members[0].running, f"the forward pass failed ({type(error).__name__}: {str(error)[:200]})")
            return
        chooses, rows = [], []
        for member, begin in zip(members, kept, strict=True):
            running, last = member.running, begin
            if member.tokens and running.request.prompt_log_probabilities:
                self._note_prompt(member, scores[begin : begin + member.tokens])
                last = begin + member.tokens - 1
            running.stored += member.count
            self._counters.prompt_tokens += member.tokens
            if not member.tokens or not running.unread:
                chooses.append(running)
                rows.append(last)
        if chooses:
            self._choose(chooses, scores if len(rows) == len(scores) else scores[rows])

    def _forward(self, members: Sequence[_Member]) -> tuple[torch.Tensor, list[int]]:
        """Scores, and for each member where its rows begin: the last token's, or all of a piece whose prompt's are asked for."""
        tokens: list[int] = []
        positions: list[int] = []
        adapters: list[str | None] = []
        pieces: list[Piece] = []
        kept: list[int] = []
        begins: list[int] = []
        for running, count in ((member.running, member.tokens) for member in members):
            start, position, begin = len(tokens), running.stored, len(kept)
            if count:
                tokens += running.request.prompt_ids[position : position + count]
                positions += range(position, position + count)
                pieces.append(Piece(running.slot, start, count, position))
            else:
                tokens.append(running.last_token)
                positions.append(position)
            adapters += [running.request.adapter] * (count or 1)
            first = start if count and running.request.prompt_log_probabilities else len(tokens) - 1
            kept += range(first, len(tokens))
            begins.append(begin)
        self._store.reserve(max(member.running.slot for member in members) + 1, max(positions) + 1)
        decoding = [member.running for member in members if not member.tokens]
        batch = PackedBatch(
            self._store,
            [running.slot for running in decoding],
            [running.stored for running in decoding],
            pieces,
            self._model.device,
        )
        return self._model.scores(tokens, positions, batch, kept, adapters), begins

    def _note_prompt(self, member: _Member, scores: torch.Tensor) -> None:
        """Scores after each token of a piece tell the log-probability of the token that follows."""
        running = member.running
        following = running.request.prompt_ids[running.stored + 1 : running.stored + member.tokens + 1]
        if not running.stored:
            running.add_prompt_tokens([None])
        if following:
            scores = scores[: len(following)]
            chosen = scores.gather(1, torch.tensor(following)[:, None])[:, 0]
            running.add_prompt_tokens((chosen - scores.logsumexp(dim=-1)).tolist())

    def _choose(self, chooses: Sequence[Running], scores: torch.Tensor) -> None:
        choices = self._sampler.choose(scores, [running.sampling for running in chooses])
        for running, choice in zip(chooses, choices, strict=True):
            if choice.token < 0:
                self._store.clear(running.slot)
                self._fail(
                    running, "no token is possible: the model's scores are not finite, or the grammar came to nothing"
                )
                continue
            items = running.take(choice, self._eos_ids)
            self._counters.generated_tokens += 1
            self._results.append((running, items))
            if isinstance(items[-1], EngineEnd):
                self._counters.finished += 1
                self._release(running)

    def _fail(self, running: Running, message: str) -> None:
        self._counters.failed += 1
        self._results.append((running, [EngineFailed(message)]))
        self._release(running)

    def _release(self, running: Running) -> None:
        """Free a slot; the last sequence moves into it."""
        last = self._running.pop()
        if last is not running:
            if last.stored:
                self._store.move(last.slot, running.slot, last.stored)
            last.slot = running.slot
            self._running[last.slot] = last
        if not self._running:
            self._sampler.forget()
        self._store.shrink(len(self._running), max((one.stored for one in self._running), default=0))
