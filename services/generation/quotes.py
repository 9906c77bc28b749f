"""Whether a judge's quote stands in a text."""

import re

from shared.domain.prose import fold
from shared.domain.rows import Contradiction

_MARKS = str.maketrans("", "", "\"'`´‘’“”„‚«»‹›「」『』*_#>|")
"""Quotation marks, which a quote has around it or lacks inside, and marks of layout, which a reader does not see."""
_CUT = re.compile(r"\s*(?:\.{3,}|…|\[(?:\.{3,}|…)\])\s*")
"""Where a quote leaves something out."""


def normalised(text: str) -> str:
    """The form in which quotes are compared: case, spacing, quotation marks and marks of layout make no difference."""
    return fold(fold(text).translate(_MARKS))


def stands_in(quote: str, text: str) -> bool:
    """Whether the quote's words stand in the text, in order. A quote may leave parts out with an ellipsis; one without a letter
    or digit stands nowhere."""
    # Folding turns "…" into three points, so parts are cut before.
    parts = [part for part in map(normalised, _CUT.split(quote)) if any(map(str.isalnum, part))]
    if not parts:
        return False
    within, position = normalised(text), 0
    for part in parts:
        found = within.find(part.strip(" .,;:!?"), position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def contradiction_of(answer_quote: str, reference_quote: str, text: str, reference: str | None) -> Contradiction | None:
    """The two quotes as a contradiction of an answer and its reference; None where one does not stand where it should, or both
    say the same."""
    if reference is None or not stands_in(answer_quote, text) or not stands_in(reference_quote, reference):
        return None
    if normalised(answer_quote) == normalised(reference_quote):
        return None
    return Contradiction(answer_quote, reference_quote)
