"""Which models of a file of comparisons win: win rates by pair of models, at equal length where asked, and ratings."""

from collections import Counter
from itertools import combinations

import msgspec

from shared.domain.errors import InputRefused
from shared.statistics.bootstrap import ROUNDS
from shared.statistics.intervals import SEED, Interval
from shared.statistics.length_control import length_controlled_win_rate
from shared.statistics.pairwise import Battle, WinRate, between, win_rate
from shared.statistics.ratings import BOOTSTRAP_ROUNDS, Ratings, bradley_terry
from shared.verdict_files.verdicts import LeftOut, VerdictFile

MOST_PAIRS = 45
"""Pairs of models that are told one by one without a baseline: those of ten models."""
STYLE_NAMES = {"style_1": "headings", "style_2": "list items", "style_3": "bold passages"}


class RatedPair(msgspec.Struct, frozen=True):
    """Two models' win rate; `at_equal_length` where it was asked for, over pairs with known lengths (of `without_length` they
    are not)."""

    win_rate: WinRate
    at_equal_length: Interval | None
    without_length: int


class RateReport(msgspec.Struct, frozen=True):
    """Of one file. `merged_ties` are ties that stand for two orders that differ; `notes` say what is not told and why."""

    file: str
    layout: str
    lines: int
    used: int
    left_out: dict[str, LeftOut]
    missing: dict[str, LeftOut]
    battles: int
    baseline: str | None
    pairs: tuple[RatedPair, ...]
    ratings: Ratings
    style_ratings: Ratings | None
    merged_ties: int
    notes: tuple[str, ...]


def rate_report(
    file: VerdictFile,
    *,
    baseline: str | None = None,
    length_control: bool = False,
    style_control: bool = False,
    rounds: int = ROUNDS,
    rating_rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = SEED,
) -> RateReport:
    """Win rates of every model against the baseline (without one: of every two models that met), and Bradley-Terry ratings.

    Raises InputRefused for a file that compares no models, for a baseline that is none of them, and where length or style is to
    be controlled though the file tells no lengths.
    """
    battles = file.battles
    if not battles:
        raise InputRefused(
            f"{file.name} compares no models (layout {file.layout}, {file.used} lines used); see `agreement`"
        )
    judged = [battle for battle in battles if battle.outcome is not None]
    models = sorted({name for battle in battles for name in (battle.first, battle.second)})
    if baseline is not None and baseline not in models:
        raise InputRefused(f"{baseline!r} is no model of {file.name}; choose one of {', '.join(models)}")
    if (length_control or style_control) and not any(map(_has_length, battles)):
        raise InputRefused(
            f"{file.name} tells no lengths of answers (layout {file.layout}), so that they cannot be controlled for; "
            "leave --length-control and --style-control out"
        )
    met = _met(battles, models, baseline)
    notes = []
    if baseline is None and len(met) > MOST_PAIRS:
        notes.append(f"{len(met)} pairs of models met; give a baseline for win rates against it")
        met = []
    annotators = {verdict.annotator for verdict in file.verdicts}
    # Runs of our own judge are averaged, other annotators are not.
    if len(annotators) > 1 and file.layout != "comparisons":
        notes.append(f"{len(annotators)} annotators: what one of them says of one pair of answers counts as a pair")
    anchor = baseline if any(baseline in (one.first, one.second) for one in judged) else None
    ratings = bradley_terry(battles, rounds=rating_rounds, seed=seed, anchor=anchor)
    styled = None
    if style_control:
        styled = bradley_terry(battles, rounds=rating_rounds, seed=seed, anchor=anchor, style=True)
        styled = msgspec.structs.replace(
            styled, style={STYLE_NAMES.get(name, name): found for name, found in styled.style.items()}
        )
    return RateReport(
        file=file.name,
        layout=file.layout,
        lines=file.lines,
        used=file.used,
        left_out=file.left_out,
        missing=file.missing,
        battles=len(battles),
        baseline=baseline,
        pairs=tuple(_rated(between(battles, *pair), length_control, rounds, seed) for pair in met),
        ratings=ratings,
        style_ratings=styled,
        merged_ties=sum(battle.kind == "inconsistent" for battle in battles),
        notes=(*notes, *_rating_notes(ratings), *_length_notes(battles, length_control or style_control)),
    )


def _met(battles: list[Battle], models: list[str], baseline: str | None) -> list[tuple[str, str]]:
    """Pairs of models that met, in the order of their names; with a baseline, all others against it."""
    counts = Counter(frozenset((battle.first, battle.second)) for battle in battles)
    wanted = (
        combinations(models, 2) if baseline is None else ((model, baseline) for model in models if model != baseline)
    )
    return [pair for pair in wanted if frozenset(pair) in counts]


def _rated(battles: list[Battle], length_control: bool, rounds: int, seed: int) -> RatedPair:
    rate = win_rate(battles, rounds=rounds, seed=seed)
    if not length_control:
        return RatedPair(rate, None, 0)
    known = [battle for battle in battles if _has_length(battle)]
    without = {(one.instruction, one.pair) for one in battles} - {(one.instruction, one.pair) for one in known}
    return RatedPair(rate, length_controlled_win_rate(known, rounds=rounds, seed=seed), len(without))


def _has_length(battle: Battle) -> bool:
    return battle.first_words > 0 or battle.second_words > 0


def _rating_notes(ratings: Ratings) -> list[str]:
    notes = []
    if ratings.unconnected:
        notes.append(
            "some models never met, directly or through others: ratings of different groups cannot be compared"
        )
    if ratings.separated:
        notes.append(f"won or lost everything, so that the rating's size means nothing: {', '.join(ratings.separated)}")
    elif ratings.models and not ratings.determined and not ratings.unconnected:
        notes.append(
            "a group of models won everything against the others: how far apart the groups stand means nothing"
        )
    return notes


def _length_notes(battles: list[Battle], controlled: bool) -> list[str]:
    unknown = sum(not _has_length(battle) for battle in battles)
    if not controlled or not unknown:
        return []
    return [
        f"{unknown} of {len(battles)} verdicts have no lengths: ratings under style control take their style as equal"
    ]
