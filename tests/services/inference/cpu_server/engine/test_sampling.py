from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from services.inference.cpu_server.engine.protocol import EngineRequest
from services.inference.cpu_server.engine.sampling import Choice, Sampler, SamplingState, look_up

_WIDTH = 300
_PROMPT = [3, 7, 7, 250]


def _request(**values: Any) -> EngineRequest:
    return EngineRequest(**{"prompt_ids": _PROMPT, "max_new_tokens": 50, **values})


def _scores(rows: int, seed: int = 0, width: int = _WIDTH) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 3


def _possible(scores: torch.Tensor, **values: Any) -> dict[int, float]:
    """Every token that can come and its log-probability."""
    state = SamplingState(_request(sample=True, top_tokens=scores.shape[-1], **values), None)
    (choice,) = Sampler().choose(scores[None].clone(), [state])
    return dict(choice.top)


def _same(found: dict[int, float], warped: torch.Tensor) -> None:
    expected = warped.log_softmax(dim=-1)
    assert set(found) == set(torch.isfinite(expected).nonzero().flatten().tolist())
    assert all(abs(value - float(expected[token])) < 1e-4 for token, value in found.items())


@pytest.mark.parametrize("width", [_WIDTH, 5000])
@pytest.mark.parametrize(
    ("values", "warper"),
    [
        ({"temperature": 0.4}, TemperatureLogitsWarper(0.4)),
        ({"top_k": 5}, TopKLogitsWarper(5)),
        ({"top_k": 10_000}, TopKLogitsWarper(10_000)),
        ({"top_p": 0.7}, TopPLogitsWarper(0.7)),
        ({"top_p": 0.999}, TopPLogitsWarper(0.999)),
        ({"top_p": 0.0001}, TopPLogitsWarper(0.0001)),
        ({"typical_p": 0.5}, TypicalLogitsWarper(0.5)),
    ],
)
def test_cuts_leave_what_transformers_leaves(values: dict[str, Any], warper: Any, width: int) -> None:
    scores = _scores(1, 4, width)
    _same(_possible(scores[0], **values), warper(None, scores.clone())[0])


def test_top_p_of_a_flat_distribution_goes_on_beyond_the_tokens_that_are_sorted_first() -> None:
    scores = _scores(1, 5, 5000) / 100
    found = _possible(scores[0], top_p=0.9)
    assert len(found) > 4000
    _same(found, TopPLogitsWarper(0.9)(None, scores.clone())[0])


def test_cuts_are_applied_in_tgis_order() -> None:
    scores = _scores(1, 6)
    warped = scores.clone()
    for warper in (TemperatureLogitsWarper(1.7), TopKLogitsWarper(40), TopPLogitsWarper(0.9), TypicalLogitsWarper(0.8)):
        warped = warper(None, warped)
    _same(_possible(scores[0], temperature=1.7, top_k=40, top_p=0.9, typical_p=0.8), warped[0])


def test_the_repetition_penalty_is_that_of_transformers_over_prompt_and_answer() -> None:
    state = SamplingState(_request(repetition_penalty=1.7, top_tokens=_WIDTH), None)
    for token in (9, 9, 3):
        state.take(token)
    scores = _scores(1, 7)
    (choice,) = Sampler().choose(scores.clone(), [state])
    seen = torch.tensor([[*_PROMPT, 9, 9, 3]])
    _same(dict(choice.top), RepetitionPenaltyLogitsProcessor(1.7)(seen, scores.clone())[0])


def test_the_frequency_penalty_takes_off_each_tokens_share_as_tgi_does() -> None:
    state = SamplingState(_request(frequency_penalty=1.5, top_tokens=_WIDTH), None)
    state.take(7)
    scores = _scores(1, 8)
    (choice,) = Sampler().choose(scores.clone(), [state])
    expected = scores[0].clone()
    for token, count in {3: 1, 7: 3, 250: 1}.items():
        expected[token] -= 1.5 * count / 5
    _same(dict(choice.top), expected)


_SETTINGS = st.fixed_dictionaries(
    {"sample": st.booleans(), "seed": st.integers(-5, 2**70)},
    optional={
        "temperature": st.floats(0.1, 3),
        "top_k": st.integers(1, 400),
        "top_p": st.floats(0.01, 0.99),
        "typical_p": st.floats(0.01, 0.99),
        "repetition_penalty": st.floats(0.5, 2),
        "frequency_penalty": st.floats(-2, 2),
        "top_tokens": st.integers(0, 5),
    },
)


@settings(max_examples=60)
@given(st.lists(_SETTINGS, min_size=1, max_size=6), st.integers(0, 1000))
def test_a_row_is_chosen_the_same_whatever_the_other_rows_are(batch: list[dict[str, Any]], seed: int) -> None:
    def run(rows: list[int]) -> list[list[Choice]]:
        sampler = Sampler()
        states = [SamplingState(_request(**batch[row]), None) for row in rows]
        chosen = []
        for step in range(3):
            chosen.append(sampler.choose(_scores(len(batch), seed + step)[rows], states))
            for state, choice in zip(states, chosen[-1], strict=True):
                state.take(choice.token)
        return chosen

    together = run(list(range(len(batch))))
    for row in range(len(batch)):
        for step, (alone,) in enumerate(run([row])):
            other = together[step][row]
            assert alone.token == other.token
            assert alone.log_probability == pytest.approx(other.log_probability, abs=1e-5)
            assert [token for token, _ in alone.top] == [token for token, _ in other.top]


def test_sampled_tokens_come_as_often_as_their_probabilities_say() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])
    states = [SamplingState(_request(sample=True, seed=seed), None) for seed in range(4000)]
    tokens = [choice.token for choice in Sampler().choose(scores.repeat(4000, 1), states)]
    shares = torch.bincount(torch.tensor(tokens), minlength=4) / 4000
    assert (shares - scores[0].softmax(-1)).abs().max() < 0.03
    assert shares[3] == 0


@given(st.lists(st.sampled_from([0.0, 1e-30, 0.5, 1.0]), min_size=1, max_size=400), st.floats(0, 1, exclude_max=True))
def test_a_token_without_probability_is_never_found(weights: list[float], drawn: float) -> None:
    if not any(weights):
        weights[0] = 1.0
    row = torch.tensor([weights])
    token = int(look_up(row, torch.tensor([drawn], dtype=torch.float64)))
    assert row[0, token] > 0
    below = float(row[0, :token].double().sum() / row[0].double().sum())
    assert below <= drawn + 1e-9


def test_the_log_probability_is_that_of_the_distribution_drawn_from() -> None:
    scores = _scores(1, 9)
    state = SamplingState(_request(sample=True, temperature=0.5, top_k=3, seed=4), None)
    (choice,) = Sampler().choose(scores.clone(), [state])
    warped = TopKLogitsWarper(3)(None, scores / 0.5).log_softmax(-1)
    assert choice.log_probability == pytest.approx(float(warped[0, choice.token]), abs=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_choose_nothing_and_leave_the_others(value: float) -> None:
    scores = _scores(2, 10)
    scores[0] = value
    states = [SamplingState(_request(sample=sample), None) for sample in (True, False)]
    first, second = Sampler().choose(scores, states)
    assert first.token == -1
    assert second.token == int(scores[1].argmax())
