"""What people write in their own words, made fit to stand inside a message: one line of plain text that nothing in it can end."""

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Format characters that spelling needs (Persian, Indic scripts, emoji); all others can hide text or turn its direction."""
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_FENCE = re.compile(r"`{2,}|~{3,}")
OPENING, CLOSING = "“", "”"
_INNER_QUOTES = str.maketrans({OPENING: '"', CLOSING: '"', "„": '"', "‟": '"'})


def plain_line(text: str) -> str:
    """The text on one line: line breaks and runs of spaces become one space; control characters, unassigned and private ones,
    and invisible format characters are dropped. Otherwise as it was written."""
    spaced = "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or character in _JOINERS or unicodedata.category(character) not in _DROPPED
    )
    return " ".join(spaced.split())


def quotable(text: str) -> str:
    """`plain_line` without what could end a quotation between “ and ” or open a block of code."""
    return _FENCE.sub("'", plain_line(text).translate(_INNER_QUOTES))


def quoted(text: str) -> str:
    """A text that `quotable` returned, as a quotation."""
    return f"{OPENING}{text}{CLOSING}"
