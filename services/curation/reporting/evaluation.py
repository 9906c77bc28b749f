"""What the job's report says of its evaluation: the headline, and where the whole of it lies."""

from collections.abc import Sequence
from typing import Any

import orjson

from services.curation.reporting.inputs import find
from shared.domain.evaluations import EVALUATE
from shared.pages.evaluations import leaderboard
from shared.stages.protocol import InputObject


def evaluation(inputs: Sequence[InputObject]) -> dict[str, Any] | None:
    """`leaderboard`, `incomplete` with its `reasons`, `flags` and `simulated` of the stage `evaluate`; None where the job has
    none."""
    found = find([item for item in inputs if item.stage == EVALUATE], "evaluation.json")
    if found is None:
        return None
    document = orjson.loads(found.path.read_bytes())
    return {
        "leaderboard": leaderboard(document),
        "items": document["items"],
        "incomplete": document["completeness"]["incomplete"],
        "reasons": document["completeness"]["reasons"],
        "flags": document["flags"],
        "simulated": document["simulated"],
    }
