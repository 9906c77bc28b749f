"""Reading a verdict out of a judge's prose: the last tagged value counts, one out of range is no verdict, nothing raises."""

import re
from collections.abc import Collection

import msgspec

NO_VERDICT, OUT_OF_RANGE = "no_verdict", "out_of_range"

_GAP = r"[\s*_:=()\[\]]*"
_SCORE = re.compile(
    rf"(?:\[RESULT\]|\[\[|\b(?:score|rating|result|grade|verdict)\b){_GAP}(?:is\s+)?{_GAP}(-?\d{{1,9}}(?:\.\d{{1,9}})?)",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\[\[([^\[\]]{1,40})\]\]|\[RESULT\][\s*:]*([^\n\[\]]{1,40})", re.IGNORECASE)


class Verdict(msgspec.Struct, frozen=True):
    """`value` is a score or a choice; None with a `fault` where there is none to be read."""

    value: float | str | None
    fault: str = ""


def score_in(value: float, low: int, high: int, *, whole: bool) -> Verdict:
    """A score that was read, or `out_of_range` where it lies outside low to high, or must be whole and is not."""
    if not low <= value <= high or (whole and value != int(value)):
        return Verdict(None, OUT_OF_RANGE)
    return Verdict(float(value))


def tagged_score(text: str, low: int, high: int, *, whole: bool) -> Verdict:
    """The number behind the last tag of a text: `[RESULT] 4`, `[[4]]`, `Rating: [[4]]`, `Score: 4/5`."""
    found = _SCORE.findall(text)
    return score_in(float(found[-1]), low, high, whole=whole) if found else Verdict(None, NO_VERDICT)


def tagged_choice(text: str, choices: Collection[str]) -> Verdict:
    """The choice in the last tag of a text (`[[a>b]]`, `[RESULT] both good`), whatever its case and spacing; `out_of_range` where
    the tag holds none of `choices`, which are written in lower case with underscores."""
    found = _CHOICE.findall(text)
    if not found:
        return Verdict(None, NO_VERDICT)
    return choice_in(next(filter(None, found[-1])), choices)


def choice_in(text: str, choices: Collection[str]) -> Verdict:
    """One of `choices`, or `out_of_range`."""
    folded = re.sub(r"\s*([<>=]+)\s*", r"\1", text.strip().strip(".*`'\"").casefold())
    folded = re.sub(r"[\s-]+", "_", folded.removeprefix("answer").removeprefix("answer_").strip("_ "))
    return Verdict(folded) if folded in choices else Verdict(None, OUT_OF_RANGE)
