"""Whether a judge's quote stands in a text."""

import re

from shared.domain.prose import fold

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
