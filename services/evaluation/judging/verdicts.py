"""Reading a verdict out of a judge's prose: the last tagged value counts, one out of range is no verdict, nothing raises.

A number counts where it stands in a tag (`[RESULT] 4`, `[[4]]`) or, in a text without one, behind a word with a sign between
(`Score: 4`, `the rating is 4`). What a text says on its way there (`a score of 5 would need …`, a matrix such as `[[1, 2]]`) does
not. All gaps are bounded, so that reading takes time linear in the text.
"""

import re
from collections.abc import Collection

import msgspec

NO_VERDICT, OUT_OF_RANGE = "no_verdict", "out_of_range"

_GAP = r"[\s*_:=()\[\]\"'`]{0,12}"
_VALUE = r"(-?\d{1,9}(?:[.,]\d{1,9})?)([-–—]\d)?(?:\s{0,3}(?:/|out\s{1,3}of)\s{0,3}(\d{1,9}))?"
"""A number, whether another follows as in `3-4`, and the scale that it names."""
_TAGGED = re.compile(
    rf"\[\[[\s*_]{{0,6}}{_VALUE}[\s*_]{{0,6}}\]\]|\[RESULT\]{_GAP}(?:is\s{{1,3}})?{_GAP}{_VALUE}", re.IGNORECASE
)
_NAMED = re.compile(
    r"\b(?:score|rating|result|grade|verdict)\b[*_\"'`]{0,3}(?:\s{0,3}\([^()\n]{1,30}\))?[*_\s]{0,6}"
    rf"(?:[:=]|\bis\s){_GAP}{_VALUE}",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\[\[([^\[\]]{1,40})\]\]|\[RESULT\][\s*:]{0,12}([^\n\[\]]{1,40})", re.IGNORECASE)
_LINE_OF_A_TAG = re.compile(r"\W{0,6}(?:\w{1,12}\W{1,6})?(?:\[RESULT\]|\[\[)", re.IGNORECASE)
_TURNED = re.compile(r"(\w+)(<{1,2})(\w+)")


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
    """The number in the last tag of a text: `[RESULT] 4`, `[RESULT]: (4)`, `Rating: [[4]]`; without a tag that of the last
    `Score: 4/5`. `out_of_range` also where two numbers stand there (`3-4`) or another scale is named (`4/10` of 1 to 5)."""
    found = _TAGGED.findall(text)
    if found:
        one = found[-1]
        number, second, scale = one[:3] if one[0] else one[3:]
    elif named := _NAMED.findall(text):
        number, second, scale = named[-1]
    else:
        return Verdict(None, NO_VERDICT)
    if second or (scale and int(scale) != high):
        return Verdict(None, OUT_OF_RANGE)
    return score_in(float(number.replace(",", ".")), low, high, whole=whole)


def tagged_choice(text: str, choices: Collection[str]) -> Verdict:
    """The choice in the last tag of a text (`[[a>b]]`, `[RESULT] both good`), whatever its case and spacing; `out_of_range` where
    the tag holds none of `choices`, which are written in lower case with underscores."""
    found = _CHOICE.findall(text)
    if not found:
        return Verdict(None, NO_VERDICT)
    return choice_in(next(filter(None, found[-1])), choices)


def choice_in(text: str, choices: Collection[str]) -> Verdict:
    """One of `choices`, or `out_of_range`. `a<b` is `b>a`."""
    folded = re.sub(r"\s*([<>=]+)\s*", r"\1", text.strip().strip(".*`'\"").casefold())
    folded = re.sub(r"[\s-]+", "_", folded.removeprefix("answer").strip("_ "))
    if turned := _TURNED.fullmatch(folded):
        folded = f"{turned[3]}{'>' * len(turned[2])}{turned[1]}"
    return Verdict(folded) if folded in choices else Verdict(None, OUT_OF_RANGE)


def settled_lines(text: str) -> str:
    """Of a text that the token limit cut: its whole lines that begin with a tag. A judge that went on after its verdict has
    given one; one that was still weighing has not, and the last line may lack a digit."""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return "\n".join(line for line in whole if _LINE_OF_A_TAG.match(line))
