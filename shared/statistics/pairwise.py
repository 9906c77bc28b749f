"""Which of two models wins, over answers that were compared in both orders.

An order effect is no preference: the verdicts on one pair of answers are averaged over both orders (and runs) before anything
else, and how often the order alone changed sides is told beside the win rate (Zheng et al. 2023, arXiv 2306.05685, section 3.4).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from shared.statistics.bootstrap import ROUNDS, bootstrap_means
from shared.statistics.intervals import LEVEL, SEED, Interval

WIN, TIE, LOSS = 1.0, 0.5, 0.0


class Battle(msgspec.Struct, frozen=True):
    """One verdict on two models' answers to one instruction."""

    instruction: str
    first: str
    second: str
    outcome: float | None
    """1: the first model wins, 0: the second, 0.5: a tie; between them where a judge is of two minds. None: no verdict."""
    order: int = 0
    """0: the first model's answer was shown first; 1: the second's. Where it is not known: 0."""
    kind: str = ""
    """Of a tie where it is known: `both_good` or `both_bad`; `inconsistent` where one tie stands for two orders that differ."""
    pair: str = ""
    """What else tells pairs of answers to one instruction apart, such as the person they were written for, or who judged."""
    first_words: int = 0
    second_words: int = 0
    weight: int = 1
    """How often the verdict counts in ratings: Arena-Hard counts strong ones thrice."""
    first_style: tuple[float, ...] = ()
    """Further features of the answers' style, for ratings under style control, such as headers, lists, bold passages."""
    second_style: tuple[float, ...] = ()


class PairOutcome(msgspec.Struct, frozen=True):
    """One pair of answers: the mean outcome for the first model over all of its verdicts, and whether the sides changed with the
    order (None where only one order has a verdict)."""

    instruction: str
    outcome: float
    flipped: bool | None
    first_words: int
    second_words: int


class WinRate(msgspec.Struct, frozen=True):
    """Of `first` against `second`. `interval`: share of pairs won, ties half (0 to 1), over instructions. Counts are of pairs:
    `wins` and `losses` by the mean outcome, `ties` those of 0.5; of these `both_good` and `both_bad` where all verdicts said so.
    `missing` counts verdicts that were lost, `unjudged` pairs without any."""

    first: str
    second: str
    interval: Interval
    pairs: int
    wins: int
    losses: int
    ties: int
    both_good: int
    both_bad: int
    missing: int
    unjudged: int
    flip_rate: Interval
    """Share of pairs for which one order gave the win to one model and the other order to the other."""


def swapped(battle: Battle) -> Battle:
    """The same verdict as the other model sees it."""
    return msgspec.structs.replace(
        battle,
        first=battle.second,
        second=battle.first,
        outcome=None if battle.outcome is None else 1 - battle.outcome,
        order=1 - battle.order,
        first_words=battle.second_words,
        second_words=battle.first_words,
        first_style=battle.second_style,
        second_style=battle.first_style,
    )


def between(battles: Iterable[Battle], first: str, second: str) -> list[Battle]:
    """The battles of two models, all as `first` sees them."""
    found = []
    for battle in battles:
        if (battle.first, battle.second) == (first, second):
            found.append(battle)
        elif (battle.first, battle.second) == (second, first):
            found.append(swapped(battle))
    return found


def pair_outcomes(battles: Sequence[Battle]) -> list[PairOutcome]:
    """Verdicts of one ordered pair of models, averaged by pair of answers; pairs without a verdict are left out.

    Orders count alike: each order's verdicts are averaged first. Raises ValueError for battles of several pairs of models, and
    for an order that is neither 0 nor 1.
    """
    _require_one_pair(battles)
    if unknown := {battle.order for battle in battles} - {0, 1}:
        raise ValueError(f"the order {min(unknown)} is none: give 0 where the first answer was shown first, else 1")
    by_pair: dict[tuple[str, str], list[Battle]] = {}
    for battle in battles:
        by_pair.setdefault((battle.instruction, battle.pair), []).append(battle)
    found = []
    for (instruction, _), members in by_pair.items():
        by_order: dict[int, list[float]] = {}
        for battle in members:
            if battle.outcome is not None:
                by_order.setdefault(battle.order, []).append(battle.outcome)
        if not by_order:
            continue
        means = {order: sum(outcomes) / len(outcomes) for order, outcomes in by_order.items()}
        flipped = None if len(means) < 2 else (means[0] - TIE) * (means[1] - TIE) < 0
        found.append(
            PairOutcome(
                instruction,
                sum(means.values()) / len(means),
                flipped,
                members[0].first_words,
                members[0].second_words,
            )
        )
    return found


def win_rate(battles: Sequence[Battle], *, rounds: int = ROUNDS, level: float = LEVEL, seed: int = SEED) -> WinRate:
    """How often the first model of one ordered pair of models wins, with intervals by bootstrap over instructions.

    Without a battle both names are empty and the intervals say `nothing`. Raises ValueError for battles of several pairs of
    models (see `between`).
    """
    outcomes = pair_outcomes(battles)
    instructions = [pair.instruction for pair in outcomes]
    rate = bootstrap_means([pair.outcome for pair in outcomes], instructions, rounds=rounds, level=level, seed=seed)[
        None
    ]
    known = [pair for pair in outcomes if pair.flipped is not None]
    flips = bootstrap_means(
        [float(bool(pair.flipped)) for pair in known],
        [pair.instruction for pair in known],
        rounds=rounds,
        level=level,
        seed=seed,
    )[None]
    kinds: dict[tuple[str, str], set[str]] = {}
    for battle in battles:
        if battle.outcome is not None:
            kinds.setdefault((battle.instruction, battle.pair), set()).add(battle.kind)
    agreed = Counter(next(iter(names)) for names in kinds.values() if len(names) == 1)
    return WinRate(
        first=battles[0].first if battles else "",
        second=battles[0].second if battles else "",
        interval=rate,
        pairs=len(outcomes),
        wins=sum(pair.outcome > TIE for pair in outcomes),
        losses=sum(pair.outcome < TIE for pair in outcomes),
        ties=sum(pair.outcome == TIE for pair in outcomes),
        both_good=agreed["both_good"],
        both_bad=agreed["both_bad"],
        missing=sum(battle.outcome is None for battle in battles),
        unjudged=len({(battle.instruction, battle.pair) for battle in battles}) - len(outcomes),
        flip_rate=flips,
    )


def _require_one_pair(battles: Sequence[Battle]) -> None:
    pairs = {(battle.first, battle.second) for battle in battles}
    if len(pairs) > 1:
        raise ValueError(
            f"the battles are of several pairs of models ({', '.join(f'{a} and {b}' for a, b in sorted(pairs)[:3])}); take one "
            "pair, as one of the two sees it"
        )
