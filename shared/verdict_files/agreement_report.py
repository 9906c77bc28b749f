"""How far the annotators of a file agree: every two of them, all of them, and what most of them say."""

from collections import Counter
from itertools import combinations

import msgspec

from shared.domain.errors import InputRefused
from shared.statistics.agreement import (
    Metric,
    cohen_kappa_interval,
    fleiss_kappa_interval,
    krippendorff_alpha_interval,
    majority,
)
from shared.statistics.bootstrap import ROUNDS, bootstrap_means
from shared.statistics.calibration import FIRST, SECOND, TIE
from shared.statistics.intervals import SEED, Interval
from shared.verdict_files.fields import number
from shared.verdict_files.verdicts import LeftOut, Verdict, VerdictFile

Label = str | float


class PairAgreement(msgspec.Struct, frozen=True):
    """Two annotators on the `items` that both labelled: share of equal labels, and Cohen's kappa."""

    first: str
    second: str
    items: int
    same: Interval
    kappa: Interval


class AgreementReport(msgspec.Struct, frozen=True):
    """Of one file. `labels`: how many each annotator gave, most first; `pairs`: annotators with common items, most items first.

    `fleiss` is over the `complete` items that all annotators labelled; `krippendorff` by metric, over all items with two labels.
    `majorities`: items by the label that most gave; `tied_majorities` have none, since two labels share the first place (a
    majority for `tie` is another thing), `unlabelled` have no label. `orders_differ`: labels that are a tie because an
    annotator's two orders gave different ones.
    """

    file: str
    layout: str
    lines: int
    used: int
    left_out: dict[str, LeftOut]
    missing: dict[str, LeftOut]
    items: int
    labels: dict[str, int]
    pairs: tuple[PairAgreement, ...]
    complete: int
    fleiss: Interval
    krippendorff: dict[str, Interval]
    majorities: dict[str, int]
    tied_majorities: int
    unlabelled: int
    orders_differ: int


def agreement_report(file: VerdictFile, *, rounds: int = ROUNDS, seed: int = SEED) -> AgreementReport:
    """Cohen's, Fleiss' and Krippendorff's coefficients with intervals over items, and the majorities.

    Pairs of answers are labelled `first`, `second` or `tie`, by whose answer is better in the order of the item's first line;
    an annotator whose two orders differ has said `tie`. Labels of the ratings layout are numbers where all of them are.
    Raises InputRefused for a file in which nobody labelled anything.
    """
    given, orders_differ = _labels(file.verdicts)
    if not any(label is not None for by_annotator in given.values() for label in by_annotator.values()):
        reasons = [f"{reason} ({found.example})" for reason, found in (file.left_out | file.missing).items()]
        raise InputRefused(
            f"{file.name} holds no verdict in {file.lines} lines, read as layout {file.layout}: {'; '.join(reasons)}"
        )
    counts = Counter(
        name for by_annotator in given.values() for name, label in by_annotator.items() if label is not None
    )
    annotators = sorted(
        {name for by_annotator in given.values() for name in by_annotator}, key=lambda name: (-counts[name], name)
    )
    table = [[by_annotator.get(name) for name in annotators] for by_annotator in given.values()]
    numeric = all(isinstance(label, float) for item in table for label in item if label is not None)
    metrics: tuple[Metric, ...] = ("nominal", "ordinal", "interval") if numeric else ("nominal",)
    winners = [majority(item) for item in table]
    labelled = [any(label is not None for label in item) for item in table]
    majorities = Counter(_shown(winner) for winner in winners if winner is not None)
    return AgreementReport(
        file=file.name,
        layout=file.layout,
        lines=file.lines,
        used=file.used,
        left_out=file.left_out,
        missing=file.missing,
        items=len(table),
        labels={name: counts[name] for name in annotators},
        pairs=_pairs(annotators, list(given.values()), rounds, seed),
        complete=sum(all(label is not None for label in item) for item in table),
        fleiss=fleiss_kappa_interval(table, rounds=rounds, seed=seed),
        krippendorff={
            metric: krippendorff_alpha_interval(table, metric, rounds=rounds, seed=seed) for metric in metrics
        },
        majorities=dict(sorted(majorities.items(), key=lambda entry: (-entry[1], entry[0]))),
        tied_majorities=sum(winner is None and known for winner, known in zip(winners, labelled, strict=True)),
        unlabelled=len(table) - sum(labelled),
        orders_differ=orders_differ,
    )


def _labels(verdicts: tuple[Verdict, ...]) -> tuple[dict[tuple[str, ...], dict[str, Label | None]], int]:
    """Item -> annotator -> label (None where it is missing), and how often an annotator's orders differ."""
    first_of: dict[tuple[str, ...], str] = {}
    said: dict[tuple[str, ...], dict[str, list[Label]]] = {}
    for verdict in verdicts:
        battle = verdict.battle
        models = () if battle is None else tuple(sorted((battle.first, battle.second)))
        item = (verdict.item, *models)
        of_annotator = said.setdefault(item, {}).setdefault(verdict.annotator, [])
        if battle is None:
            if verdict.label is not None:
                of_annotator.append(verdict.label)
        elif battle.outcome is not None:
            turned = first_of.setdefault(item, battle.first) != battle.first
            outcome = 1 - battle.outcome if turned else battle.outcome
            of_annotator.append(FIRST if outcome > 0.5 else SECOND if outcome < 0.5 else TIE)
        else:
            first_of.setdefault(item, battle.first)
    as_numbers = all(
        number(label) is not None
        for by_annotator in said.values()
        for labels in by_annotator.values()
        for label in labels
    )
    found: dict[tuple[str, ...], dict[str, Label | None]] = {}
    differ = 0
    for item, by_annotator in said.items():
        found[item] = {}
        for name, labels in by_annotator.items():
            kept = [float(label) if as_numbers else str(label) for label in labels]
            differ += len(set(kept)) > 1
            found[item][name] = None if not kept else kept[0] if len(set(kept)) == 1 else TIE
    return found, differ


def _pairs(
    annotators: list[str], items: list[dict[str, Label | None]], rounds: int, seed: int
) -> tuple[PairAgreement, ...]:
    shared: dict[tuple[str, str], list[tuple[Label, Label]]] = {}
    place = {name: number for number, name in enumerate(annotators)}
    for by_annotator in items:
        given = sorted(
            ((name, label) for name, label in by_annotator.items() if label is not None), key=lambda one: place[one[0]]
        )
        for (one, label), (other, other_label) in combinations(given, 2):
            shared.setdefault((one, other), []).append((label, other_label))
    found = []
    for (one, other), labels in shared.items():
        first, second = [label for label, _ in labels], [label for _, label in labels]
        same = [float(mine == theirs) for mine, theirs in labels]
        found.append(
            PairAgreement(
                one,
                other,
                len(labels),
                bootstrap_means(same, range(len(same)), rounds=rounds, seed=seed)[None],
                cohen_kappa_interval(first, second, rounds=rounds, seed=seed),
            )
        )
    return tuple(sorted(found, key=lambda pair: (-pair.items, place[pair.first], place[pair.second])))


def _shown(label: object) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)
