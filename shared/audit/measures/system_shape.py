"""Shape of system messages: whether they all have one length and one build."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, finding, not_applicable, share_finding
from shared.statistics.intervals import Interval, Numbers, bootstrap_interval, cluster_codes

VARIATION = Threshold(warn=0.35, bad=0.2, worse="below")
SHAPES = Threshold(warn=0.6, bad=0.85)
_LIST = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_ROLE = re.compile(r"^\W*(?:you(?:'re| are)|as an?|act as|imagine (?:that )?you)\b", re.IGNORECASE)


def shape_of(system: str) -> str:
    """Beginning (a role or not), paragraphs (one or several) and list (with or without), as words."""
    beginning = "role first" if _ROLE.match(system) else "no role first"
    paragraphs = "one paragraph" if len(system.strip().splitlines()) == 1 else "several lines"
    return f"{beginning}, {paragraphs}, {'with' if _LIST.search(system) else 'without'} list"


def variation_interval(lengths: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """The coefficient of variation, standard deviation by mean, of positive lengths, with its interval."""
    centre = float(np.mean(lengths))
    values = np.array(lengths, dtype=np.float64) - centre  # equal lengths vary by exactly 0
    codes, count = cluster_codes(clusters)
    summed = [np.bincount(codes, part, minlength=count) for part in (np.ones(len(values)), values, values**2)]
    moments = np.stack(summed, axis=1)

    def variation(drawn: Numbers) -> float:
        number, total, squares = drawn @ moments
        shift = total / number
        return float(np.sqrt(max(squares / number - shift**2, 0.0)) / (centre + shift))

    return bootstrap_interval(variation, count)


def measure(data: AuditData) -> list[Finding]:
    """Coefficient of variation of the length in characters, and share of the commonest shape."""
    titles = {"system_length_variation": "Variation of system length", "system_shape": "System messages of one shape"}
    systems = list(dict.fromkeys((row.cluster, row.system) for row in data.rows if row.system))
    if not systems:
        why = "this layout has no system message of its own"
        return [not_applicable(name, title, why) for name, title in titles.items()]
    lengths = [float(len(system)) for _, system in systems]
    low, middle, high = np.quantile(lengths, [0.05, 0.5, 0.95])
    shapes = [(cluster, shape_of(system)) for cluster, system in systems]
    counts = Counter(shape for _, shape in shapes)
    commonest = counts.most_common(1)[0][0]
    return [
        finding(
            "system_length_variation",
            titles["system_length_variation"],
            variation_interval(lengths, [cluster for cluster, _ in systems]),
            len(systems),
            "system messages",
            VARIATION,
            note=f"standard deviation by mean; 5% {low:,.0f}, median {middle:,.0f}, 95% {high:,.0f} characters",
        ),
        share_finding(
            "system_shape",
            titles["system_shape"],
            [(cluster, shape == commonest) for cluster, shape in shapes],
            "system messages",
            SHAPES,
            examples=[f"{shape}: {number / len(shapes):.0%}" for shape, number in counts.most_common(5)],
        ),
    ]
