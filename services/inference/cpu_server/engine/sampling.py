"""Choose the next token of every sequence of a batch at once.

The order is TGI's: repetition penalty, frequency penalty, grammar; then, for sequences that sample, temperature, top-k, top-p,
typical-p. Log-probabilities are those of what is left after that.

What holds of a seed: the numbers that a sequence draws depend on its seed and place alone, and every row of the scores is
treated by itself. The scores themselves come out of sums that another batch size may add up in another order, which moves them
in their last digits (float32: about 1e-6). So the same seed gives the same text whatever else runs, except where a drawn number
falls within such a distance of the border between two tokens, or two tokens are that close for first place. In bfloat16 that
distance is some thousand times as large, and over long texts it will happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.inference.cpu_server.engine.grammar import GrammarState
from services.inference.cpu_server.engine.protocol import EngineRequest
from services.inference.cpu_server.engine.random_numbers import seed_word, uniforms

_PREFIX = 1024
"""So many of the likeliest tokens are sorted for top-p before all are: a full sort of a vocabulary costs as much as a small
model's layer."""
_RUN = 128
"""Tokens whose probabilities are summed as one when a token is looked up by its cumulated probability."""


class SeenTokens:
    """The different tokens of a sequence, prompt included, and how often each occurs."""

    def __init__(self, prompt_ids: Sequence[int], more: int) -> None:
        """`more`: how many tokens can follow."""
        ids, counts = np.unique(np.asarray(prompt_ids, dtype=np.int64), return_counts=True)
        self.length = len(prompt_ids)
        self._places = {int(token): place for place, token in enumerate(ids)}
        self._ids = np.zeros(len(ids) + more, dtype=np.int64)
        self._counts = np.zeros(len(ids) + more, dtype=np.float32)
        self._ids[: len(ids)], self._counts[: len(ids)] = ids, counts

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        self._ids[place] = token
        self._counts[place] += 1
        self.length += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: len(self._places)]

    @property
    def shares(self) -> NDArray[np.float32]:
        """Of each id: its count as a share of all tokens."""
        return self._counts[: len(self._places)] / np.float32(self.length)


class SamplingState:
    """What one sequence brings to every choice of its tokens."""

    def __init__(self, request: EngineRequest, grammar: GrammarState | None) -> None:
        self.request = request
        self.grammar = grammar
        self.drawn = 0
        self.repetition = request.repetition_penalty or 1.0
        self.frequency = request.frequency_penalty or 0.0
        self.seen: SeenTokens | None = None
        if self.repetition != 1.0 or self.frequency != 0.0:
            self.seen = SeenTokens(request.prompt_ids, request.max_new_tokens)

    def take(self, token: int) -> None:
        """The token was chosen: count it."""
        if self.request.sample:
            self.drawn += 1
        if self.seen is not None:
            self.seen.add(token)


@dataclass(frozen=True)
class Choice:
    """A chosen token and the `top` likeliest (id, log-probability) in falling order. `token` is -1 where no token has a finite
    score."""

    token: int
    log_probability: float
    top: tuple[tuple[int, float], ...] = ()


class _Plan:
    """What a batch of the same sequences needs at every step, worked out once."""

    def __init__(self, states: Sequence[SamplingState]) -> None:
        self.states = tuple(states)
        self.penalised = [row for row, state in enumerate(states) if state.seen is not None]
        self.grammars = [row for row, state in enumerate(states) if state.grammar is not None]
        self.sampling = [row for row, state in enumerate(states) if state.request.sample]
        self.topped = [row for row, state in enumerate(states) if state.request.top_tokens]
        sampled = [states[row].request for row in self.sampling]
        self.temperatures = torch.tensor([request.temperature for request in sampled])[:, None]
        self.are_warm = any(request.temperature != 1.0 for request in sampled)
        self.seeds = np.array([seed_word(request.seed) for request in sampled], dtype=np.uint64)
        self.top_k = _set({row: request.top_k for row, request in enumerate(sampled)})
        self.top_p = _set({row: request.top_p if request.top_p != 1.0 else None for row, request in enumerate(sampled)})
        self.typical_p = _set(
            {row: request.typical_p if request.typical_p != 1.0 else None for row, request in enumerate(sampled)}
        )


def _set(values: dict[int, Any]) -> dict[int, Any]:
    return {row: value for row, value in values.items() if value is not None}


class Sampler:
    """Keeps what it worked out for a batch while the batch stays the same."""

    def __init__(self) -> None:
        self._plan: _Plan | None = None

    def choose(self, scores: torch.Tensor, states: Sequence[SamplingState]) -> list[Choice]:
        """`scores` [sequences, vocabulary] in float32 on the CPU; they are changed. States are not: see their `take`."""
        plan = self._plan
        if plan is None or plan.states != tuple(states):
            plan = self._plan = _Plan(states)
        if plan.penalised:
            _penalise(scores, plan)
        if plan.grammars:
            _forbid(scores, plan)
        if plan.sampling:
            _warp(scores, plan)
        highest, tokens = scores.max(dim=-1)
        weights = torch.exp(scores - highest[:, None])
        broken = ~torch.isfinite(highest)
        if broken.any():
            weights[broken] = 1.0  # anything that can be looked up: no token is taken
        totals = weights.sum(dim=-1, dtype=torch.float64)
        if plan.sampling:
            counts = np.array([states[row].drawn for row in plan.sampling], dtype=np.uint64)
            drawn = torch.from_numpy(uniforms(plan.seeds, counts))
            everyone = len(plan.sampling) == len(states)
            tokens[plan.sampling] = look_up(weights if everyone else weights[plan.sampling], drawn)
        chosen = scores.gather(1, tokens[:, None])[:, 0].double()
        bases = highest.double() + totals.log()
        told = (chosen - bases).tolist()
        tops = _tops(scores, bases, plan)
        return [
            Choice(-1, 0.0) if is_broken else Choice(token, log_probability, tops.get(row, ()))
            for row, (token, log_probability, is_broken) in enumerate(
                zip(tokens.tolist(), told, broken.tolist(), strict=True)
            )
        ]

    def forget(self) -> None:
        """Let go of the last batch's sequences."""
        self._plan = None


def look_up(weights: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """The token at which the cumulated weights of a row pass `drawn` (in [0, 1)) of their sum; never one of weight 0.

    Sums of runs of 128 tokens are cumulated first, then the tokens of the one run, in double precision.
    """
    rows, width = weights.shape
    if width % _RUN:
        weights = torch.nn.functional.pad(weights, (0, -width % _RUN))
    runs = weights.view(rows, -1, _RUN)
    sums = runs.sum(dim=-1, dtype=torch.float64)
    cumulated = sums.cumsum(dim=-1)
    target = torch.minimum(drawn * cumulated[:, -1], cumulated[:, -1] * (1 - 2.0**-52))
    run = torch.searchsorted(cumulated, target[:, None], right=True)
    within = runs[torch.arange(rows), run[:, 0]].double().cumsum(dim=-1)
    rest = target - (cumulated - sums).gather(1, run)[:, 0]
    rest = torch.minimum(rest.clamp(min=0), within[:, -1] * (1 - 2.0**-52))
    return run[:, 0] * _RUN + torch.searchsorted(within, rest[:, None], right=True)[:, 0]


def _penalise(scores: torch.Tensor, plan: _Plan) -> None:
    """Repetition penalty (Keskar et al. 2019, arXiv 1909.05858) over prompt and answer, and TGI's frequency penalty: the penalty
    times the token's share of prompt and answer."""
    width = scores.shape[1]
    places, repetitions, subtracted = [], [], []
    for row in plan.penalised:
        state = plan.states[row]
        assert state.seen is not None
        ids = state.seen.ids
        places.append(ids + row * width)
        repetitions.append(np.full(len(ids), state.repetition, dtype=np.float32))
        subtracted.append(state.seen.shares * np.float32(state.frequency))
    flat = torch.from_numpy(np.concatenate(places))
    repetition = torch.from_numpy(np.concatenate(repetitions))
    values = scores.view(-1)[flat]
    values = torch.where(values < 0, values * repetition, values / repetition)
    scores.view(-1)[flat] = values - torch.from_numpy(np.concatenate(subtracted))


def _forbid(scores: torch.Tensor, plan: _Plan) -> None:
    width = scores.shape[1]
    words = np.zeros((len(plan.grammars), -(-width // 32)), dtype=np.int32)
    for place, row in enumerate(plan.grammars):
        grammar = plan.states[row].grammar
        assert grammar is not None
        grammar.write_mask(words[place])
    allowed = np.unpackbits(words.view(np.uint8), axis=1, count=width, bitorder="little")
    hidden = torch.from_numpy(allowed == 0)
    if len(plan.grammars) == len(plan.states):
        scores.masked_fill_(hidden, -torch.inf)
    else:
        scores[plan.grammars] = scores[plan.grammars].masked_fill_(hidden, -torch.inf)


def _warp(scores: torch.Tensor, plan: _Plan) -> None:
    if not (plan.are_warm or plan.top_k or plan.top_p or plan.typical_p):
        return
    everyone = len(plan.sampling) == len(plan.states)
    warped = scores if everyone else scores[plan.sampling]
    if plan.are_warm:
        warped.div_(plan.temperatures)
    for values, cut in ((plan.top_k, _cut_to_count), (plan.top_p, _cut_to_mass), (plan.typical_p, _cut_to_typical)):
        if not values:
            continue
        rows = list(values)
        if len(rows) == len(warped):
            warped.copy_(cut(warped, list(values.values())))
        else:
            warped[rows] = cut(warped[rows], list(values.values()))
    if not everyone:
        scores[plan.sampling] = warped


def _cut_to_count(scores: torch.Tensor, most: Sequence[int]) -> torch.Tensor:
    """Top-k; tokens as likely as the k-th stay too."""
    kept = [min(count, scores.shape[1]) for count in most]
    likeliest = scores.topk(max(kept), dim=-1).values
    least = likeliest.gather(1, torch.tensor(kept)[:, None] - 1)
    return scores.masked_fill(scores < least, -torch.inf)


def _cut_to_mass(scores: torch.Tensor, masses: Sequence[float]) -> torch.Tensor:
    """Top-p (Holtzman et al. 2019, arXiv 1904.09751): the fewest tokens whose probabilities reach the mass; at least one."""
    mass = torch.tensor(masses, dtype=torch.float64)[:, None]
    base = scores.logsumexp(dim=-1, keepdim=True)
    kept = torch.full_like(scores, -torch.inf)
    rows = list(range(len(masses)))
    for count in (_PREFIX, scores.shape[1]):
        some = scores[rows]
        values, places = some.topk(min(count, scores.shape[1]), dim=-1)
        probabilities = torch.exp(values - base[rows]).double()
        before = probabilities.cumsum(dim=-1) - probabilities
        stays = before < mass[rows]
        stays[:, 0] = True
        kept[rows] = torch.full_like(some, -torch.inf).scatter_(1, places, values.masked_fill(~stays, -torch.inf))
        # A row whose every looked-at token stays may go on beyond them.
        rows = [row for row, all_stay in zip(rows, stays[:, -1].tolist(), strict=True) if all_stay]
        if not rows or count >= scores.shape[1]:
            break
    return kept


def _cut_to_typical(scores: torch.Tensor, masses: Sequence[float]) -> torch.Tensor:
    """Typical sampling (Meister et al. 2022, arXiv 2202.00666), as transformers has it: the tokens whose information is closest
    to the entropy, until their probabilities reach the mass."""
    told = scores.log_softmax(dim=-1)
    probabilities = told.exp()
    entropy = -(told * probabilities).nansum(dim=-1, keepdim=True)
    distance = (-told - entropy).abs()
    ordered, places = distance.sort(dim=-1)
    cumulated = probabilities.gather(1, places).cumsum(dim=-1)
    last = (cumulated < torch.tensor(masses)[:, None]).sum(dim=-1, keepdim=True).clamp(max=scores.shape[1] - 1)
    return scores.masked_fill(distance > ordered.gather(1, last), -torch.inf)


def _tops(scores: torch.Tensor, bases: torch.Tensor, plan: _Plan) -> dict[int, tuple[tuple[int, float], ...]]:
    if not plan.topped:
        return {}
    most = max(plan.states[row].request.top_tokens for row in plan.topped)
    values, places = scores[plan.topped].topk(min(most, scores.shape[1]), dim=-1)
    told = (values.double() - bases[plan.topped, None]).tolist()
    found = {}
    for row, ids, log_probabilities in zip(plan.topped, places.tolist(), told, strict=True):
        pairs = zip(ids, log_probabilities, strict=True)
        wanted = plan.states[row].request.top_tokens
        # What penalties, grammar or cuts left no probability is no token that could have come.
        found[row] = tuple((token, value) for token, value in pairs if value > -torch.inf)[:wanted]
    return found
