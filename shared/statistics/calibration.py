"""How far a judge can be trusted where people judged the same pairs: accuracy, agreement, order effects, taste for length.

Verdicts are told by whose answer is better, whatever the order in which the answers were shown.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.statistics.agreement import cohen_kappa_interval, majority
from shared.statistics.bootstrap import ROUNDS, bootstrap_means
from shared.statistics.intervals import LEVEL, SEED, Interval

FIRST, SECOND, TIE = "first", "second", "tie"
LABELS = (FIRST, SECOND, TIE)


class JudgedPair(msgspec.Struct, frozen=True):
    """One pair of answers with what people and the judge said of it: labels `first`, `second` and `tie`.

    `judge`: its verdict with the first answer shown first, and with the second shown first; None where one is missing.
    """

    instruction: str
    people: Sequence[str | None]
    judge: tuple[str | None, str | None]
    first_words: int = 0
    second_words: int = 0


class Calibration(msgspec.Struct, frozen=True):
    """`accuracy`: share of pairs on which the judge says what most people say, over pairs that both decided; `accuracy_decided`:
    the same over pairs on which neither calls a tie. `kappa`: Cohen's, with ties as a label. `flip_rate`: share of pairs whose
    winner changes with the order. `length_bias`: share of pairs for which the judge takes the longer answer minus that for which
    people take it, over the same pairs. `undecided` pairs have no majority of people, `unjudged` no verdict of the judge."""

    pairs: int
    undecided: int
    unjudged: int
    accuracy: Interval
    accuracy_decided: Interval
    kappa: Interval
    flip_rate: Interval
    length_bias: Interval


def judge_against_people(
    pairs: Sequence[JudgedPair], *, rounds: int = ROUNDS, level: float = LEVEL, seed: int = SEED
) -> Calibration:
    """Compare a judge with the majority of people, pair by pair; intervals by bootstrap over instructions (kappa over pairs).

    The judge's verdict on a pair is the one that both orders give; where they differ it is a tie, as MT-Bench counts it (Zheng et
    al. 2023, arXiv 2306.05685). Raises ValueError for a label that is none of `first`, `second` and `tie`.
    """
    for pair in pairs:
        for label in (*pair.people, *pair.judge):
            if label is not None and label not in LABELS:
                raise ValueError(f"{label!r} is no label of a pair; give first, second or tie")
    people = [majority(pair.people) for pair in pairs]
    judged = [_verdict(pair.judge) for pair in pairs]
    both = [
        (pair, str(said), verdict)
        for pair, said, verdict in zip(pairs, people, judged, strict=True)
        if said is not None and verdict is not None
    ]

    def mean(values: Sequence[float], members: Sequence[JudgedPair]) -> Interval:
        clusters = [pair.instruction for pair in members]
        return bootstrap_means(values, clusters, rounds=rounds, level=level, seed=seed)[None]

    decided = [(pair, said, verdict) for pair, said, verdict in both if TIE not in (said, verdict)]
    ordered = [pair for pair in pairs if None not in pair.judge]
    lengths = [entry for entry in both if entry[0].first_words != entry[0].second_words]
    return Calibration(
        pairs=len(pairs),
        undecided=sum(said is None for said in people),
        unjudged=sum(verdict is None for verdict in judged),
        accuracy=mean([float(said == verdict) for _, said, verdict in both], [pair for pair, _, _ in both]),
        accuracy_decided=mean(
            [float(said == verdict) for _, said, verdict in decided], [pair for pair, _, _ in decided]
        ),
        kappa=cohen_kappa_interval(
            [said for _, said, _ in both], [verdict for _, _, verdict in both], rounds=rounds, level=level, seed=seed
        ),
        flip_rate=mean([float(set(pair.judge) == {FIRST, SECOND}) for pair in ordered], ordered),
        length_bias=mean(
            list(
                np.array([_takes_longer(pair, verdict) for pair, _, verdict in lengths])
                - np.array([_takes_longer(pair, said) for pair, said, _ in lengths])
            ),
            [pair for pair, _, _ in lengths],
        ),
    )


def _verdict(orders: tuple[str | None, str | None]) -> str | None:
    """What both orders say; a tie where they differ, and the one there is where the other is missing."""
    known = [label for label in orders if label is not None]
    if not known:
        return None
    return known[0] if len(set(known)) == 1 else TIE


def _takes_longer(pair: JudgedPair, label: str) -> float:
    """1 where the longer answer is taken, 0 where the shorter, one half for a tie."""
    if label == TIE:
        return 0.5
    return float((label == FIRST) == (pair.first_words > pair.second_words))
