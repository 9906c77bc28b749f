"""What is read of a file of verdicts, whatever its layout."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from shared.statistics.pairwise import Battle

Texts = Literal["none", "lengths", "style"]
"""What is wanted of the answers' texts: nothing, how long they are, or also how they are laid out."""

NO_VERDICT, UNKNOWN_VERDICT = "no_verdict", "unknown_verdict"


class Line(msgspec.Struct, frozen=True):
    """One row of a file, and what its layout needs to know beside it."""

    row: int
    fields: Mapping[str, Any]
    baseline: str
    texts: Texts


class Verdict(msgspec.Struct, frozen=True):
    """What one annotator said of one item. `battle`: where two models' answers were compared; else `label` is a category or a
    number. `missing` says why there is no verdict."""

    item: str
    annotator: str
    battle: Battle | None = None
    label: str | float | None = None
    missing: str = ""


class LineRefused(Exception):
    """A line that cannot be used as a whole."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LeftOut(msgspec.Struct, frozen=True):
    """`lines` that were left out, or verdicts that are missing, for one reason; `example` is the first, with its place."""

    lines: int
    example: str


class VerdictFile(msgspec.Struct, frozen=True):
    """`lines` = `used` + those left out. Each used line holds one verdict or more; `missing` counts those that are not there."""

    name: str
    layout: str
    lines: int
    used: int
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, LeftOut]
    missing: dict[str, LeftOut]

    @property
    def battles(self) -> list[Battle]:
        return [verdict.battle for verdict in self.verdicts if verdict.battle is not None]
