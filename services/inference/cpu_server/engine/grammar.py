"""Grammars by llguidance: which tokens may come next so that the whole text is what was asked for."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.cpu_server.engine.protocol import GrammarRefused
from shared.llm.servers.protocol import Grammar

_KEPT = 128
"""Compiled grammars that are kept for the next request with the same."""

# White space between tokens of JSON is no more than a break and some indentation: a model that is uncertain must not go on with
# spaces until its last token.
_WHITE_SPACE = r"[\n ]{0,1}[ ]{0,16}"


class GrammarState:
    """Where one sequence stands in its grammar."""

    def __init__(self, matcher: Any, eos_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._eos_ids = eos_ids

    @property
    def is_over(self) -> bool:
        """Nothing but EOS can follow."""
        return bool(self._matcher.is_stopped())

    def write_mask(self, words: NDArray[np.int32]) -> None:
        """One bit for each token of the vocabulary, lowest first: 1 where it may come next. None may where the grammar has become
        too complex on the way."""
        if self._matcher.is_error():
            words[:] = 0
            return
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if not self._matcher.is_accepting():
            # A model may name an ordinary token as one that ends a text; within a string it would be allowed as text.
            for token in self._eos_ids:
                words.view(np.uint8)[token // 8] &= 0xFF ^ (1 << token % 8)

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)


class Grammars:
    """Compiles grammars for one tokenizer. Methods may be called from any thread; the first call takes about a second."""

    def __init__(self, tokenizer: Any, vocabulary: int, eos_ids: Sequence[int]) -> None:
        """`vocabulary`: how many scores the model gives."""
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos_ids = list(eos_ids)
        self._lock = threading.Lock()
        self._tokens: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def state(self, grammar: Grammar) -> GrammarState:
        """A new state at the beginning. Raises GrammarRefused with what the compiler says."""
        text = _source(grammar)
        with self._lock:
            matcher = self._compiled.get(text)
            if matcher is None:
                matcher = self._compiled[text] = self._compile(text)
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(text)
            return GrammarState(matcher.deep_copy(), self._eos_ids)

    def _compile(self, text: str) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._known_tokens(), text, log_level=0)
        if matcher.is_error():
            raise GrammarRefused(f"the grammar cannot be compiled: {_first_lines(matcher.get_error())}")
        return matcher

    def _known_tokens(self) -> Any:
        from llguidance.hf import from_tokenizer

        if not self._eos_ids:
            raise GrammarRefused(
                "the model has no end-of-sequence token, by which a finished grammar ends; serve a model whose "
                "generation_config.json names one (eos_token_id)"
            )
        if self._tokens is None:
            try:
                self._tokens = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._eos_ids)
            except ValueError as error:
                raise GrammarRefused(f"the model's tokenizer is not one that grammars can follow: {error}") from error
        return self._tokens


def _source(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    if grammar.kind == "regex":
        if not isinstance(grammar.value, str):
            raise GrammarRefused(f"a regex is a text, not {type(grammar.value).__name__}")
        source: str = LLMatcher.grammar_from_regex(grammar.value)
        return source
    if not isinstance(grammar.value, dict):
        raise GrammarRefused(f"a JSON schema is an object here, not {type(grammar.value).__name__}")
    try:
        source = LLMatcher.grammar_from_json_schema(
            json.dumps(grammar.value), defaults={"whitespace_pattern": _WHITE_SPACE}
        )
    except ValueError as error:
        raise GrammarRefused(f"the JSON schema cannot be read: {_first_lines(str(error))}") from error
    return source


def _first_lines(message: str) -> str:
    return " ".join(message.strip().splitlines()[:3])[:400]
