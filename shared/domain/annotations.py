"""Pairs of answers that people compare without knowing whose they are."""

from enum import StrEnum

from shared.domain.errors import MultifacetError


class Outcome(StrEnum):
    """What somebody says of a pair, told by whose answer it is: the paper's four outcomes."""

    FIRST = "first"
    BOTH_GOOD = "both_good"
    BOTH_BAD = "both_bad"
    SECOND = "second"


class Choice(StrEnum):
    """The same as it is seen: by where an answer was shown."""

    LEFT = "left"
    BOTH_GOOD = "both_good"
    BOTH_BAD = "both_bad"
    RIGHT = "right"


def outcome_of(choice: Choice, *, swapped: bool) -> Outcome:
    """Whose answer was chosen; `swapped`: the second answer was shown on the left."""
    if choice is Choice.LEFT:
        return Outcome.SECOND if swapped else Outcome.FIRST
    if choice is Choice.RIGHT:
        return Outcome.FIRST if swapped else Outcome.SECOND
    return Outcome(choice.value)


class AnnotationTaskNotFound(MultifacetError):
    """No such task in this project (404)."""

    code = "annotation_task_not_found"
