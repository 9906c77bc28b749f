"""Whether two evaluations asked the same."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from services.evaluation.figures.gathering import rows_of, was_asked
from shared.domain.jobs import JobSpec
from shared.domain.rows import Facet, InstructionRow
from shared.stages.protocol import InputObject

_CHARACTERS = 16


def bench_fingerprint(inputs: Sequence[InputObject], spec: JobSpec) -> str:
    """16 hex digits of the sha256 over all questions in the order of their ids: what the user says, whose preferences they are
    and how answers are graded and checked. System messages are left out: a candidate may have been asked without its own."""
    questions: dict[tuple[str, int], bytes] = {}
    for answer in spec.answer:
        for row in rows_of(inputs, answer.name):
            for facet in filter(was_asked, row.facets):
                questions.setdefault((row.row_id, facet.index), msgspec.json.encode(_question(row, facet)))
    digest = sha256()
    for key in sorted(questions):
        digest.update(questions[key] + b"\n")
    return digest.hexdigest()[:_CHARACTERS]


def _question(row: InstructionRow, facet: Facet) -> list[Any]:
    wishes = [(one.dimension, one.subdimension, one.description) for one in facet.preferences]
    return [row.row_id, facet.index, row.instruction, row.turns, wishes, facet.rubrics, facet.checks]
