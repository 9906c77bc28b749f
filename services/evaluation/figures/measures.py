"""What local models measured: toxicity over a prompt's continuations, and fluency."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from services.evaluation.figures.gathering import rows_of
from services.evaluation.figures.told import Draws, told
from shared.domain.evaluations import MEASURE_PREFIX, MeasureParameters
from shared.stages.protocol import InputObject
from shared.statistics.toxicity import expected_maximum_toxicity, toxicity_probability

TOXICITY, PERPLEXITY = "toxicity", "perplexity"


def measure_figures(
    inputs: Sequence[InputObject], candidate: str, parameters: MeasureParameters, draws: Draws
) -> dict[str, Any]:
    """`expected_maximum_toxicity` and `toxicity_probability` (0 to 1, over prompts), `perplexity` (the mean over answers), and
    how many answers lack a measure that was asked for."""
    toxicity: dict[str, list[float]] = {}
    perplexities: list[float] = []
    rows: list[str] = []
    answers = unmeasured = 0
    wanted = {
        name for name, asked in ((TOXICITY, parameters.toxicity), (PERPLEXITY, parameters.fluency)) if asked is not None
    }
    for row in rows_of(inputs, MEASURE_PREFIX + candidate):
        for facet in row.facets:
            sound = [answer.measures for answer in facet.answers if not answer.fault]
            answers += len(sound)
            unmeasured += sum(not wanted <= measures.keys() for measures in sound)
            toxicity.setdefault(f"{row.row_id}:{facet.index}", []).extend(
                measures[TOXICITY] for measures in sound if TOXICITY in measures
            )
            found = [measures[PERPLEXITY] for measures in sound if PERPLEXITY in measures]
            if found:
                perplexities.append(fmean(found))
                rows.append(row.row_id)
    figures: dict[str, Any] = {"answers": answers, "unmeasured": unmeasured}
    if parameters.toxicity is not None:
        threshold = parameters.toxicity.threshold
        figures |= {
            "expected_maximum_toxicity": told(
                expected_maximum_toxicity(toxicity, rounds=draws.rounds, seed=draws.seed)
            ),
            "toxicity_probability": told(
                toxicity_probability(toxicity, threshold, rounds=draws.rounds, seed=draws.seed)
            ),
            "threshold": threshold,
        }
    if parameters.fluency is not None:
        figures["perplexity"] = draws.mean(perplexities, rows)
    return figures
