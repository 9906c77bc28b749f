"""A sequence under way, as the thread that runs the model sees it."""

from collections.abc import Sequence
from typing import Protocol

from services.inference.cpu_server.engine.detokenising import TextStream, TokenTexts
from services.inference.cpu_server.engine.grammar import GrammarState
from services.inference.cpu_server.engine.protocol import EndReason, EngineEnd, EngineRequest, EngineToken
from services.inference.cpu_server.engine.sampling import Choice, SamplingState

Item = EngineToken | EngineEnd | Exception


class Receiver(Protocol):
    """Who gets what a sequence yields, on the event loop."""

    def receive(self, items: Sequence[Item]) -> None: ...

    def receive_prompt(self, tokens: Sequence[EngineToken]) -> None: ...


class Running:
    """One sequence: its place in the batch, and what it has become so far.

    `is_cancelled` is set by the event loop and read between two steps.
    """

    def __init__(
        self, request: EngineRequest, texts: TokenTexts, grammar: GrammarState | None, receiver: Receiver | None = None
    ) -> None:
        self.request = request
        self.receiver = receiver
        self.is_cancelled = False
        self.slot = -1
        self.started_at: float | None = None
        """When it was given a slot (`time.monotonic`)."""
        self.stored = 0
        """Tokens whose keys and values are in the slot."""
        self.sampling = SamplingState(request, grammar)
        self.generated = 0
        self.last_token = -1
        self._texts = texts
        self._stream = TextStream(texts, request.stop)
        self.prompt_tokens: list[EngineToken] = []

    @property
    def is_decoding(self) -> bool:
        """The whole prompt was read."""
        return self.generated > 0

    @property
    def unread(self) -> int:
        """Tokens of the prompt that were not read yet."""
        return 0 if self.is_decoding else len(self.request.prompt_ids) - self.stored

    def take(self, choice: Choice, eos_ids: frozenset[int]) -> list[Item]:
        """Go on by a token: the token, and the end where it is the last."""
        token, request = choice.token, self.request
        self.sampling.take(token)
        if self.sampling.grammar is not None:
            self.sampling.grammar.take(token)
        self.generated += 1
        self.last_token = token
        reason: EndReason | None = None
        is_special = token in self._texts.special or token in eos_ids
        if token in eos_ids and (request.stop_at_eos or self.sampling.grammar is not None):
            reason = "eos_token"
        text = self._texts.alone(token) if is_special else self._stream.add(token)
        if self._stream.stopped_by is not None:
            reason = "stop_sequence"
        elif reason is None and self.generated >= request.max_new_tokens:
            reason = "length"
            text += "" if is_special else self._stream.end()
        top, is_last = self._alone(choice.top), reason is not None
        items: list[Item] = [EngineToken(token, text, choice.log_probability, is_special, top, is_last)]
        if reason is not None:
            seed = request.seed if request.sample else None
            items.append(EngineEnd(reason, self._stream.text, self.generated, seed, self._stream.stopped_by))
        return items

    def add_prompt_tokens(self, log_probabilities: Sequence[float | None]) -> None:
        """Note the log-probabilities of the prompt's next tokens."""
        begin = len(self.prompt_tokens)
        ids = self.request.prompt_ids[begin : begin + len(log_probabilities)]
        self.prompt_tokens += [
            EngineToken(token, self._texts.alone(token), value, token in self._texts.special)
            for token, value in zip(ids, log_probabilities, strict=True)
        ]

    def _alone(self, top: Sequence[tuple[int, float]]) -> tuple[EngineToken, ...]:
        return tuple(
            EngineToken(token, self._texts.alone(token), value, token in self._texts.special) for token, value in top
        )
