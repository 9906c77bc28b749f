"""Shortcuts: what gives the chosen answer, or an entry's dimension, away without reading the system message."""

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable, why_no_interval
from shared.audit.measures.pair_orders import BOTH_ORDERS, all_mirrored
from shared.statistics.intervals import Interval, cluster_mean_interval
from shared.statistics.shortcuts import ShortcutAccuracy, blind_accuracy, position_accuracy

MOST_PAIRS = 6000
BLIND = Threshold(warn=0.53, bad=0.6)
LONGER = Threshold(warn=0.05, bad=0.12, worse="apart", centre=0.5)
WORDS = Threshold(warn=0.1, bad=0.25, worse="apart")
POSITION = Threshold(warn=0.05, bad=0.3)


def measure(data: AuditData) -> list[Finding]:
    """Accuracy of the blind classifier, share of pairs whose chosen answer is longer, the difference of length, and how much
    better the position in a set tells the dimension than chance does."""
    return [*_of_pairs(data), _of_positions(data)]


def _of_pairs(data: AuditData) -> list[Finding]:
    titles = {
        "blind_classifier": "Chosen answer told without the system message",
        "chosen_longer": "Pairs whose chosen answer is longer",
        "length_difference": "Chosen longer than rejected, relative",
    }
    pairs = [
        (row.cluster, row.chosen, row.rejected)
        for row in data.rows
        if row.chosen is not None and row.rejected is not None
    ]
    if not pairs:
        return [not_applicable(name, title, "this layout has no pairs") for name, title in titles.items()]
    clusters = [cluster for cluster, _, _ in pairs]
    blind = blind_accuracy([own for _, own, _ in pairs], [other for _, _, other in pairs], clusters, most=MOST_PAIRS)
    lengths = [(len(own.split()), len(other.split())) for _, own, other in pairs]
    unequal = [(cluster, pair) for cluster, pair in zip(clusters, lengths, strict=True) if pair[0] != pair[1]]
    relative = [2 * (own - other) / max(own + other, 1) for own, other in lengths]
    longer = cluster_mean_interval([float(own > other) for _, (own, other) in unequal], [name for name, _ in unequal])
    words = sum(own - other for own, other in lengths) / len(lengths)
    exact = all_mirrored(pairs)

    def settled(found: Interval) -> Interval:
        """Where all pairs are mirrored the figure cannot be another, however many instructions are added."""
        if not exact or found.estimate is None:
            return found
        return Interval(found.estimate, found.estimate, found.estimate, found.level, found.clusters, BOTH_ORDERS)

    return [
        finding(
            "blind_classifier",
            titles["blind_classifier"],
            settled(blind.accuracy),
            blind.observations,
            "pairs",
            BLIND,
            note=f"1/2 is chance; {_sampled(blind)}",
        ),
        finding(
            "chosen_longer",
            titles["chosen_longer"],
            settled(longer),
            len(unequal),
            "pairs of different length",
            LONGER,
            note="1/2 is even; in words",
        ),
        finding(
            "length_difference",
            titles["length_difference"],
            settled(cluster_mean_interval(relative, clusters)),
            len(relative),
            "pairs",
            WORDS,
            note=f"mean of 2 (chosen - rejected) / (chosen + rejected) in words; {words:+.1f} words on average",
        ),
    ]


def _of_positions(data: AuditData) -> Finding:
    title = "Dimension told by its position, above chance"
    sets = [(row.cluster, [entry.dimension for entry in row.entries]) for row in data.rows if row.entries]
    if not sets:
        return not_applicable("position_dimension", title, "this layout has no preference sets")
    found = position_accuracy([dimensions for _, dimensions in sets], [cluster for cluster, _ in sets])
    if found.gain.estimate is None:
        return not_applicable("position_dimension", title, why_no_interval(found.gain.method))
    accuracy, chance = found.accuracy.estimate or 0.0, found.chance or 0.0
    return finding(
        "position_dimension",
        title,
        found.gain,
        found.observations,
        "entries",
        POSITION,
        note=f"accuracy {accuracy:.0%} where chance is {chance:.0%}; {_sampled(found)}",
    )


def _sampled(found: ShortcutAccuracy) -> str:
    return f"{found.observations:,} of {found.available:,} judged by rules learnt from other instructions"
