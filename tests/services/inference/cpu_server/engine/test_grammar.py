import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from services.inference.cpu_server.engine.detokenising import TokenTexts
from services.inference.cpu_server.engine.grammar import Grammars
from services.inference.cpu_server.engine.protocol import EngineEnd, EngineRequest, GrammarRefused
from services.inference.cpu_server.engine.sampling import Sampler
from services.inference.cpu_server.engine.sequences import Running
from shared.llm.servers.protocol import Grammar
from tests.support.tiny_models import tiny_tokenizer

_TOKENIZER = tiny_tokenizer()
_WIDTH = 1100  # more scores than tokens, as padded vocabularies have
_EOS = frozenset({2, 7})  # 7 is an ordinary token, which some models end with too
_TEXTS = TokenTexts(_TOKENIZER, _WIDTH)
_GRAMMARS = Grammars(_TOKENIZER, _WIDTH, sorted(_EOS))

_SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["yes", "no", "é"]}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
            "inner": {
                "type": "object",
                "properties": {"ok": {"type": "boolean"}},
                "required": ["ok"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "tags", "inner"],
        "additionalProperties": False,
    },
    {"anyOf": [{"type": "null"}, {"type": "number"}]},
]


def _written(grammar: Grammar, seed: int, most: int = 400, **values: Any) -> EngineEnd:
    """What comes of scores that know nothing of any grammar."""
    request = EngineRequest(prompt_ids=[5], max_new_tokens=most, sample=True, seed=seed, grammar=grammar, **values)
    running = Running(request, _TEXTS, _GRAMMARS.state(grammar))
    sampler = Sampler()
    draw = torch.Generator().manual_seed(seed)
    while True:
        (choice,) = sampler.choose(torch.randn(1, _WIDTH, generator=draw), [running.sampling])
        assert choice.token >= 0
        items = running.take(choice, _EOS)
        if isinstance(items[-1], EngineEnd):
            return items[-1]


@pytest.mark.parametrize("number", range(len(_SCHEMAS)))
def test_what_a_schema_allows_is_written_and_ends_by_itself(number: int) -> None:
    ended = 0
    for seed in range(8):
        end = _written(Grammar(kind="json", value=_SCHEMAS[number]), seed)
        if end.reason != "eos_token":
            continue
        ended += 1
        value = json.loads(end.text)
        if number == 0:
            assert isinstance(value["age"], int)
            assert set(value) == {"age"}
        elif number == 1:
            assert 1 <= len(value) <= 3
            assert set(value) <= {"yes", "no", "é"}
        elif number == 2:
            assert set(value) == {"name", "tags", "inner"}
            assert isinstance(value["inner"]["ok"], bool)
            assert len(value["name"]) <= 10
        else:
            assert value is None or isinstance(value, int | float)
    # Numbers and white space can go on for long where all tokens are equally likely; most come to an end.
    assert ended >= 6


def test_a_regex_matches_the_whole_text() -> None:
    for seed in range(5):
        end = _written(Grammar(kind="regex", value=r"(red|blue) [0-9]{2}"), seed)
        assert end.reason == "eos_token"
        assert re.fullmatch(r"(red|blue) [0-9]{2}", end.text)


def test_a_finished_grammar_ends_even_where_eos_is_to_be_ignored() -> None:
    end = _written(Grammar(kind="regex", value="ab"), 1, stop_at_eos=False)
    assert (end.reason, end.text) == ("eos_token", "ab")


def test_a_mask_allows_only_tokens_that_can_come_next() -> None:
    words = np.zeros(-(-_WIDTH // 32), dtype=np.int32)
    state = _GRAMMARS.state(Grammar(kind="regex", value="abc"))
    state.write_mask(words)
    allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
    assert {_TEXTS.alone(int(token)) for token in allowed} <= {"a", "ab", "abc"}
    assert not state.is_over


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar(kind="regex", value="(a"), "regex"),
        (Grammar(kind="json", value={"type": "objec"}), "objec"),
        (Grammar(kind="json", value={"$ref": "#/definitions/none"}), "none"),
        (Grammar(kind="regex", value={"a": 1}), "not dict"),
        (Grammar(kind="json", value="{}"), "not str"),
    ],
)
def test_a_grammar_that_cannot_be_compiled_is_refused_with_what_is_wrong(grammar: Grammar, message: str) -> None:
    with pytest.raises(GrammarRefused, match=message):
        _GRAMMARS.state(grammar)


def test_a_model_without_eos_takes_no_grammar() -> None:
    with pytest.raises(GrammarRefused, match="end-of-sequence"):
        Grammars(_TOKENIZER, _WIDTH, []).state(Grammar(kind="regex", value="a"))


def test_a_grammar_is_compiled_once_and_its_states_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    grammars = Grammars(_TOKENIZER, _WIDTH, [2])
    compiled = []
    compile_ = grammars._compile
    monkeypatch.setattr(grammars, "_compile", lambda text: compiled.append(text) or compile_(text))
    first = grammars.state(Grammar(kind="regex", value="ab"))
    for text in ("ab",):
        for token in _TOKENIZER(text, add_special_tokens=False)["input_ids"]:
            first.take(token)
    second = grammars.state(Grammar(kind="regex", value="ab"))
    assert (first.is_over, second.is_over) == (True, False)
    assert len(compiled) == 1
