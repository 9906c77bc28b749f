"""Whatever else is in the batch, a sequence gets the scores that the model gives it alone."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from services.inference.cpu_server.engine import batch as batch_module
from services.inference.cpu_server.engine.adapters import AdapterChoice
from services.inference.cpu_server.engine.attention import NAME, register_attention
from services.inference.cpu_server.engine.batch import Batch
from services.inference.cpu_server.engine.detokenising import TokenTexts
from services.inference.cpu_server.engine.language_model import LanguageModel
from services.inference.cpu_server.engine.linear import reorder_linear_layers
from services.inference.cpu_server.engine.protocol import (
    EngineCounters,
    EngineEnd,
    EngineFailed,
    EngineRequest,
    EngineToken,
)
from services.inference.cpu_server.engine.sequences import Item, Running
from tests.support.served_models import (
    ARCHITECTURES,
    VOCABULARY,
    plain_log_probabilities,
    plain_model,
    save_language_model,
)
from tests.support.tiny_models import tiny_tokenizer

_TEXTS = TokenTexts(tiny_tokenizer(), VOCABULARY)


def _batch(folder: Path, slots: int = 4, eos: frozenset[int] = frozenset()) -> Batch:
    model = plain_model(folder)
    register_attention()
    model.set_attn_implementation(NAME)
    reorder_linear_layers(model, slots)
    return Batch(LanguageModel(model, AdapterChoice(model.device)), slots, 256, eos, EngineCounters())


def _running(length: int, more: int, seed: int = 0, **values: Any) -> Running:
    draw = random.Random(seed + length)
    prompt = [draw.randrange(5, VOCABULARY) for _ in range(length)]
    return Running(EngineRequest(prompt_ids=prompt, max_new_tokens=more, seed=seed, **values), _TEXTS, None)


@torch.inference_mode()
def _run(batch: Batch, arrivals: Sequence[tuple[int, Running]]) -> dict[Running, list[Item]]:
    """All items of each sequence; each arrives before the step with its number."""
    items: dict[Running, list[Item]] = {running: [] for _, running in arrivals}
    step = 0
    left = sorted(arrivals, key=lambda arrival: arrival[0])
    while left or not batch.is_idle:
        while left and left[0][0] <= step:
            batch.add(left.pop(0)[1])
        for running, more in batch.step():
            items[running] += more
        step += 1
        assert step < 1000
    return items


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_scored_token_equals_a_plain_forward_pass(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prompts longer than this are read in pieces.
    monkeypatch.setattr(batch_module, "PROMPT_TOKENS_ALONE", 20)
    monkeypatch.setattr(batch_module, "PROMPT_TOKENS_BESIDE", 9)
    folder = save_language_model(tmp_path, architecture)
    shapes = [(3, 12, 0), (37, 9, 0), (1, 4, 1), (8, 20, 3), (22, 3, 5), (5, 7, 5), (150, 2, 6)]
    arrivals = [
        (step, _running(length, more, seed=length, sample=length % 2 == 0, top_tokens=VOCABULARY, prompt_log_probabilities=True))
        for length, more, step in shapes
    ]  # fmt: skip
    found = _run(_batch(folder), arrivals)
    model = plain_model(folder)
    for running, items in found.items():
        tokens = [item for item in items if isinstance(item, EngineToken)]
        assert len(tokens) == running.request.max_new_tokens
        assert isinstance(items[-1], EngineEnd)
        prompt = list(running.request.prompt_ids)
        expected = plain_log_probabilities(model, [*prompt, *(token.id for token in tokens)])
        for place, token in enumerate(tokens):
            told = torch.full((VOCABULARY,), torch.nan)
            for other in token.top:
                assert other.log_probability is not None
                told[other.id] = other.log_probability
            assert (told - expected[len(prompt) - 1 + place]).abs().max() < 1e-4
        assert [token.id for token in running.prompt_tokens] == prompt
        assert running.prompt_tokens[0].log_probability is None
        for place, token in enumerate(running.prompt_tokens[1:]):
            assert token.log_probability == pytest.approx(float(expected[place, token.id]), abs=1e-4)


def test_the_same_seed_gives_the_same_tokens_whoever_runs_beside(model_folder: Path) -> None:
    def tokens(seed: int, companions: int) -> list[Item]:
        draw = random.Random(companions)
        ours = _running(11, 30, seed=seed, sample=True, temperature=0.9, top_p=0.95, repetition_penalty=1.2)
        others = [
            (draw.randrange(20), _running(draw.randrange(1, 60), draw.randrange(1, 30), seed=number, sample=True, top_k=7))
            for number in range(companions)
        ]  # fmt: skip
        items = _run(_batch(model_folder), [(draw.randrange(5), ours), *others])[ours]
        return [item.id if isinstance(item, EngineToken) else item for item in items]

    alone = tokens(5, 0)
    assert alone == tokens(5, 3) == tokens(5, 9)
    assert alone != tokens(6, 0)


def test_a_short_prompt_does_not_wait_until_a_long_one_was_read(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "PROMPT_TOKENS_BESIDE", 10)
    batch = _batch(model_folder)
    first, long = _running(4, 20), _running(100, 2)
    batch.add(first)
    with torch.inference_mode():
        batch.step()
        batch.add(long)
        for step in range(9):
            # The first goes on by a token in every step while the long prompt is read in pieces.
            assert [running for running, _ in batch.step()] == [first], step


def test_more_sequences_than_slots_wait_for_their_turn(model_folder: Path) -> None:
    batch = _batch(model_folder, slots=2)
    arrivals = [(0, _running(5, 3, seed=number)) for number in range(7)]
    items = _run(batch, arrivals)
    assert all(len(found) == 4 for found in items.values())
    assert batch._counters.finished == 7
    assert max(batch._counters.batch_sizes) == 2


def test_a_sequence_that_was_not_read_yet_moves_into_a_freed_slot(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "PROMPT_TOKENS_ALONE", 6)
    monkeypatch.setattr(batch_module, "PROMPT_TOKENS_BESIDE", 6)
    arrivals = [(0, _running(6, 1, seed=number)) for number in range(9)]
    items = _run(_batch(model_folder, slots=9), arrivals)
    assert all(isinstance(found[-1], EngineEnd) for found in items.values())


def test_a_cancelled_sequence_gives_its_slot_to_the_next_before_another_token(model_folder: Path) -> None:
    batch = _batch(model_folder, slots=1)
    first, second, third = _running(5, 50), _running(6, 2), _running(7, 2)
    with torch.inference_mode():
        for running in (first, second, third):
            batch.add(running)
        assert [running for running, _ in batch.step()] == [first]
        first.is_cancelled = third.is_cancelled = True
        assert [running for running, _ in batch.step()] == [second]
        batch.step()
    assert batch.is_idle
    assert batch._counters.cancelled == 2


def test_memory_is_given_back_when_sequences_end(model_folder: Path) -> None:
    batch = _batch(model_folder)
    with torch.inference_mode():
        batch.add(_running(200, 3))
        batch.step()
        large = batch.stored_bytes
        batch.add(_running(3, 30))
        for _ in range(4):
            batch.step()
        assert 0 < batch.stored_bytes <= large
        while not batch.is_idle:
            batch.step()
    assert batch.stored_bytes == 0


def _failing(batch: Batch, fails: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = batch._model.scores

    def scarce(tokens: Any, *rest: Any) -> torch.Tensor:
        if fails(tokens):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return scores(tokens, *rest)

    monkeypatch.setattr(batch._model, "scores", scarce)


def test_where_memory_does_not_suffice_for_all_they_run_in_smaller_passes(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(batch: Batch) -> list[list[int]]:
        arrivals = [(0, _running(4 + number, 6, seed=number)) for number in range(4)]
        found = _run(batch, arrivals)
        return [[item.id for item in found[running] if isinstance(item, EngineToken)] for _, running in arrivals]

    expected = run(_batch(model_folder))
    batch = _batch(model_folder)
    _failing(batch, lambda tokens: len(tokens) > 8, monkeypatch)
    assert run(batch) == expected
    assert batch._counters.failed == 0


def test_a_sequence_that_fails_alone_ends_and_the_others_go_on(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = _batch(model_folder)
    _failing(batch, lambda tokens: len(tokens) > 40, monkeypatch)
    good, bad, after = _running(4, 6), _running(60, 6), _running(5, 4)
    items = _run(batch, [(0, good), (0, bad), (4, after)])
    (failure,) = items[bad]
    assert isinstance(failure, EngineFailed)
    assert "can't allocate memory" in str(failure)
    assert len(items[good]) == 7
    assert len(items[after]) == 5
    assert (batch._counters.failed, batch._counters.finished) == (1, 2)


def test_a_token_that_the_model_has_not_ends_its_own_sequence(model_folder: Path) -> None:
    good = _running(4, 6)
    bad = Running(EngineRequest(prompt_ids=[5, VOCABULARY + 7], max_new_tokens=3), _TEXTS, None)
    items = _run(_batch(model_folder), [(0, good), (0, bad)])
    assert isinstance(items[bad][0], EngineFailed)
    assert len(items[good]) == 7


def test_scores_that_are_not_finite_end_one_sequence_and_spoil_no_slot(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _run(_batch(model_folder), [(0, good := _running(4, 8)), (3, later := _running(9, 5))])
    batch = _batch(model_folder)
    scores = batch._model.scores

    def broken(tokens: Sequence[int], *rest: Any) -> torch.Tensor:
        found = scores(tokens, *rest)
        if len(tokens) > 20:
            found[-1] = torch.nan
            for layer in batch._store._layers.values():
                layer.values[1] = torch.nan
        return found

    monkeypatch.setattr(batch._model, "scores", broken)
    again, bad, later_again = _running(4, 8), _running(30, 5), _running(9, 5)
    items = _run(batch, [(0, again), (1, bad), (3, later_again)])
    assert isinstance(items[bad][0], EngineFailed)
    assert [type(item) for item in items[again]] == [type(item) for item in expected[good]]
    assert [item.id for item in items[later_again] if isinstance(item, EngineToken)] == [
        item.id for item in expected[later] if isinstance(item, EngineToken)
    ]


def test_a_sequence_ends_at_any_eos_token_which_is_not_part_of_its_text(model_folder: Path) -> None:
    plain = _running(6, 12)
    tokens = [item for item in _run(_batch(model_folder), [(0, plain)])[plain] if isinstance(item, EngineToken)]
    ends = frozenset({tokens[4].id, 1023})
    first = next(place for place, token in enumerate(tokens) if token.id in ends)
    stopped, ignoring = _running(6, 12), _running(6, 12, stop_at_eos=False)
    items = _run(_batch(model_folder, eos=ends), [(0, stopped), (0, ignoring)])
    end = items[stopped][-1]
    assert isinstance(end, EngineEnd)
    assert (end.reason, end.generated_tokens, end.seed) == ("eos_token", first + 1, None)
    assert end.text == "".join(token.text for token in tokens[:first])
    last = items[stopped][-2]
    assert isinstance(last, EngineToken)
    assert last.special
    assert len(items[ignoring]) == 13
