"""What the HTTP routes see of the engine: requests of tokens in, tokens out. No HTTP and no chat template below this line."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from shared.llm.servers.protocol import Grammar

EndReason = Literal["eos_token", "length", "stop_sequence"]
"""As TGI calls them."""


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """One sequence to continue. Values were checked by `http.validation`; the engine trusts them."""

    prompt_ids: Sequence[int]
    max_new_tokens: int
    sample: bool = False
    """False: the most likely token is taken."""
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int = 0
    """Of this sequence's own random numbers: what else is in the batch changes nothing."""
    stop: tuple[str, ...] = ()
    grammar: Grammar | None = None
    top_tokens: int = 0
    prompt_log_probabilities: bool = False
    stop_at_eos: bool = True
    """False: an EOS token is a token like others. A finished grammar ends the sequence all the same."""
    adapter: str | None = None
    """One of `EngineFacts.adapters`; None is the model alone."""


@dataclass(frozen=True)
class EngineToken:
    """A generated token, or one of the prompt.

    `log_probability` is natural; of a sampled token it is that of the distribution it was drawn from (after penalties,
    temperature and cuts), as TGI has it; None for the first token of a prompt. `text` is what the token adds to the text:
    empty while a character of several tokens is incomplete. A special token (`special`) adds nothing to the text; its `text`
    is how it is written, as TGI has it. The texts of the other tokens, one after the other, are `EngineEnd.text`. Tokens of a
    prompt and of `top` stand alone: their `text` is what they would add by themselves.
    """

    id: int
    text: str
    log_probability: float | None
    special: bool = False
    top: tuple["EngineToken", ...] = ()
    last: bool = False
    """Of a generated token: nothing but the EngineEnd follows. A stream tells the end together with its last token."""


@dataclass(frozen=True)
class EngineEnd:
    """The last thing of a sequence. `text` is the whole generated text without special tokens; a stop sequence that ended it is
    part of it, as TGI has it (`stopped_by` names it)."""

    reason: EndReason
    text: str
    generated_tokens: int
    seed: int | None
    """None for a greedy sequence."""
    stopped_by: str | None = None


class EngineOverloaded(Exception):
    """As many sequences wait and run as the engine takes."""


class EngineFailed(Exception):
    """The forward pass failed (out of memory, a fault of a kernel): the sequence is over, others may go on."""


class GrammarRefused(Exception):
    """The grammar cannot be compiled: what was seen and why."""


class EngineSequence(Protocol):
    """A sequence under way. Iterate it once: tokens, then one EngineEnd. Leaving early (`aclose`, cancellation) frees its slot
    before the next token."""

    prompt_tokens: Sequence[EngineToken]
    """With `prompt_log_probabilities`, from the first token on."""

    @property
    def started_at(self) -> float | None:
        """When it left the queue (`time.monotonic`); None while it waits."""
        ...

    def __aiter__(self) -> AsyncIterator[EngineToken | EngineEnd]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class EngineFacts:
    """What `/info` and `/metrics` print."""

    model_id: str
    is_reward_model: bool
    dtype: str
    device: str
    maximum_total_tokens: int
    """Of a sequence: prompt and answer."""
    slots: int
    """Sequences that run at once."""
    adapters: tuple[str, ...] = ()


@dataclass
class EngineCounters:
    """Totals since the start, and what is there now."""

    running: int = 0
    waiting: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    """Forward passes that decoded."""
    step_seconds: float = 0.0
    batch_sizes: dict[int, int] = field(default_factory=dict)


class Engine(Protocol):
    """One model in one process. Forward passes run in a thread of its own; methods are called on the event loop."""

    facts: EngineFacts
    counters: EngineCounters

    async def start(self) -> None: ...

    async def submit(self, request: EngineRequest) -> EngineSequence:
        """Raises EngineOverloaded, GrammarRefused; ValueError for a reward model, an adapter that there is not, an empty prompt,
        and for more tokens than `facts.maximum_total_tokens`."""
        ...

    async def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """The reward model's score of each sequence of tokens, in batches; ValueError for a language model."""
        ...

    async def close(self) -> None:
        """End what runs (its iterators raise EngineFailed) and the thread."""
        ...
