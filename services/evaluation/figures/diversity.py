"""How different a candidate's answers are, and how long: between the people of an instruction, and between samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from services.evaluation.figures.gathering import ItemKey, answer_text, rows_of
from services.evaluation.figures.told import Draws
from shared.domain.evaluations import MEASURE_PREFIX
from shared.stages.protocol import InputObject
from shared.statistics.distributions import length_distribution
from shared.statistics.diversity import distinct_n, mean_pairwise_rouge_l

EMBEDDING_DISTANCE = "embedding_distance"


def diversity_figures(inputs: Sequence[InputObject], candidate: str, draws: Draws) -> dict[str, Any]:
    """`rouge_l`: mean over instructions of the likeness of the answers to different people (0 to 1, the lower the more
    different); `distinct_2`, `distinct_3`: over the samples of one question, where there are several; `embedding_distance` where
    an encoder measured it (0 to 2)."""
    alike: list[tuple[float, str]] = []
    distinct: dict[int, list[tuple[float, str]]] = {2: [], 3: []}
    for row in rows_of(inputs, candidate):
        texts = [text for facet in row.facets if (text := answer_text(facet)) is not None]
        if (found := mean_pairwise_rouge_l(texts)) is not None:
            alike.append((found, row.row_id))
        for facet in row.facets:
            samples = [answer.text for answer in facet.answers if not answer.fault]
            if len(samples) < 2:
                continue
            for n, values in distinct.items():
                if (share := distinct_n(samples, n)) is not None:
                    values.append((share, row.row_id))
    apart = [
        (facet.scores[EMBEDDING_DISTANCE], row.row_id)
        for row in rows_of(inputs, MEASURE_PREFIX + candidate)
        for facet in row.facets
        if EMBEDDING_DISTANCE in facet.scores
    ]
    return {
        "rouge_l": _mean(alike, draws),
        "distinct_2": _mean(distinct[2], draws),
        "distinct_3": _mean(distinct[3], draws),
        "embedding_distance": _mean(apart, draws),
    }


def length_figures(words: Mapping[ItemKey, int], draws: Draws) -> dict[str, Any]:
    """Words of an answer: the mean, and the distribution."""
    keys = list(words)
    return {
        "mean": draws.mean([float(words[key]) for key in keys], [key[0] for key in keys]),
        "distribution": length_distribution(Counter(words.values())),
    }


def _mean(observed: Sequence[tuple[float, str]], draws: Draws) -> dict[str, Any] | None:
    if not observed:
        return None
    return draws.mean([value for value, _ in observed], [row for _, row in observed])
