"""What the facet matrix says of a collection: do answers follow their own wishes, and only theirs?

For training and test as a whole the figures of `shared.statistics.specificity`, and for each level of the test split what
can be told of its facets by themselves. All with intervals, instructions as clusters.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Any

import msgspec

from shared.domain.facet_matrix import FacetMatrix, rubric_keys, score_of
from shared.domain.rows import Facet, Preference, Verdict
from shared.domain.splits import Split, SplitLevel
from shared.statistics.instruction_sample import InstructionSample
from shared.statistics.intervals import clipped, cluster_mean_interval
from shared.statistics.specificity import MOST_PEOPLE, ScoredInstruction, summarise

SAMPLED_INSTRUCTIONS = 5000
"""Of more, those of lowest hash are taken: more would hardly narrow the intervals."""


_RANGES = {"followed": (0, 1), "specificity": (-1, 1), "moot": (0, 1), "words": (0, inf), "broken": (0, 1)}
"""The figures of a level, and what they can be."""


class _FacetFigures(msgspec.Struct, frozen=True):
    """What one facet adds to its level; None where it is not known."""

    split: str
    level: str
    followed: float | None
    specificity: float | None
    moot: float
    words: float
    broken: float | None


class FacetMatrixFigures:
    """Give the records of each instruction's facets with a system message, and its verdicts, to `add`."""

    def __init__(self, sampled_instructions: int = SAMPLED_INSTRUCTIONS) -> None:
        self._scored: InstructionSample[tuple[str, ScoredInstruction]] = InstructionSample(
            "matrix", sampled_instructions
        )
        self._facets: InstructionSample[_FacetFigures] = InstructionSample("matrix", sampled_instructions)
        self._verdicts: dict[str, int] = {}

    def add(self, records: Sequence[Mapping[str, Any]], verdicts: Iterable[Mapping[str, Any]]) -> None:
        """Count one instruction. `verdicts`: records of `facet_matrix/*.parquet`."""
        if not records:
            return
        known = [
            Verdict(one["answer"], one["facet"], one["preference"], one["verdict"], one["source"]) for one in verdicts
        ]
        for one in known:
            self._verdicts[one.source] = self._verdicts.get(one.source, 0) + 1
        row_id, split = records[0]["row_id"], records[0]["split"]
        facets = [_facet_of(record) for record in records]
        matrix = FacetMatrix(facets, known)
        judged = any(one.source == "judge" for one in known)
        for record, facet in zip(records, facets, strict=True):
            self._facets.add(
                row_id,
                _FacetFigures(
                    split=split,
                    level=record["split_level"],
                    followed=matrix.own_score(facet.index),
                    specificity=matrix.facet_specificity(facet.index),
                    moot=len(matrix.moot(facet.index)) / len(facet.preferences),
                    words=len(record["output"].split()),
                    broken=float(bool(record["contradictions"])) if judged else None,
                ),
            )
        if len(facets) <= MOST_PEOPLE:
            self._scored.add(row_id, (split, scored_instruction(row_id, facets, records, known, judged=judged)))

    def finish(self) -> dict[str, Any]:
        """`verdicts` by source; `splits`: a `SpecificitySummary` each; `levels`: facets and their figures."""
        scored = [one for _, one in self._scored.items()]
        facets = list(self._facets.items())
        levels = sorted({(one.split, one.level) for _, one in facets}, key=_rank)
        return {
            "instructions_sampled": self._facets.instructions,
            "all_instructions": self._facets.complete,
            "verdicts": dict(sorted(self._verdicts.items())),
            "splits": [
                {"split": split, **msgspec.to_builtins(summarise([one for of, one in scored if of == split]))}
                for split in Split
                if any(of == split for of, _ in scored)
            ],
            "levels": [
                {
                    "split": split,
                    "split_level": level,
                    "code": SplitLevel(level).code,
                    **_figures([(name, one) for name, one in facets if (one.split, one.level) == (split, level)]),
                }
                for split, level in levels
            ],
        }


def scored_instruction(
    row_id: str,
    facets: Sequence[Facet],
    records: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    *,
    judged: bool,
) -> ScoredInstruction:
    """The matrix of an instruction as rubrics and scores. A wish that several people have in their own words was judged once in
    each: its score is the mean."""
    keys = rubric_keys([facet.preferences for facet in facets])
    key_of = {
        (facet.index, position): str(key)
        for facet, of_facet in zip(facets, keys, strict=True)
        for position, key in enumerate(of_facet)
    }
    found: dict[int, dict[str, list[int]]] = {facet.index: {} for facet in facets}
    for one in verdicts:
        key = key_of.get((one.facet, one.preference))
        if key is not None and one.answer in found:
            found[one.answer].setdefault(key, []).append(score_of(one.verdict))
    return ScoredInstruction(
        instruction=row_id,
        rubrics=[[str(key) for key in of_facet] for of_facet in keys],
        scores=[{key: fmean(scores) for key, scores in found[facet.index].items()} for facet in facets],
        words=[len(record["output"].split()) for record in records],
        broken=[bool(record["contradictions"]) if judged else None for record in records],
    )


def _facet_of(record: Mapping[str, Any]) -> Facet:
    return Facet(
        index=record["facet_index"],
        preferences=[
            Preference(
                entry["dimension"],
                entry["subdimension"],
                entry["preference"],
                entry["description"],
                detail["pole"] or "",
            )
            for entry, detail in zip(record["preference_set"], record["preference_details"], strict=True)
        ],
    )


def _figures(facets: Sequence[tuple[str, _FacetFigures]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"facets": len(facets)}
    for name, (lowest, highest) in _RANGES.items():
        known = [(instruction, value) for instruction, one in facets if (value := getattr(one, name)) is not None]
        interval = cluster_mean_interval([value for _, value in known], [instruction for instruction, _ in known])
        figures[name] = msgspec.to_builtins(clipped(interval, lowest, highest))
    return figures


def _rank(level: tuple[str, str]) -> tuple[bool, str]:
    """Training first, then the test levels."""
    return level[0] != Split.TRAIN, SplitLevel(level[1]).code
