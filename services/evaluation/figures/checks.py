"""Machine checks: what programs say of every answer, for nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.evaluation.figures.gathering import rows_of
from services.evaluation.figures.told import Draws
from shared.domain.checks import NECESSARY_KINDS, evaluate
from shared.domain.judged_answers import judged_answers
from shared.stages.protocol import InputObject


def check_figures(inputs: Sequence[InputObject], candidate: str, draws: Draws) -> dict[str, Any]:
    """Share of checks passed among those that could be measured, over all checked preferences of all answers that count, in all
    and by kind and dimension; with `not_applicable` counted. A kind is `necessary` where failing says more than passing."""
    values: list[float] = []
    clusters: list[str] = []
    kinds: list[str] = []
    dimensions: list[str] = []
    silent: Counter[str] = Counter()
    for row in rows_of(inputs, candidate):
        for facet in row.facets:
            checked = [(one.dimension, one.check) for one in facet.preferences if one.check is not None]
            for position in judged_answers(facet) if checked else ():
                for dimension, check in checked:
                    outcome = evaluate(check, facet.answers[position].text).outcome
                    if outcome == "not_applicable":
                        silent[check.kind] += 1
                        continue
                    values.append(float(outcome == "pass"))
                    clusters.append(row.row_id)
                    kinds.append(check.kind)
                    dimensions.append(dimension)
    by_kind = draws.means(values, clusters, kinds)
    return {
        "passed": draws.mean(values, clusters),
        "kinds": [
            {
                "name": str(kind),
                "necessary": kind in NECESSARY_KINDS,
                "not_applicable": silent[str(kind)],
                **by_kind[kind],
            }
            for kind in sorted(by_kind, key=str)
        ],
        "dimensions": [
            {"name": str(name), **figure}
            for name, figure in sorted(draws.means(values, clusters, dimensions).items(), key=str)
        ],
        "not_applicable": sum(silent.values()),
    }
