"""One spelling for every text: so that equal instructions are equal strings, and no invisible character goes along."""

import re
import unicodedata

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters but tab and line feed
    "\u00ad\u200b\u2060-\u2064\ufeff\ufff9-\ufffb"  # soft hyphen, zero-width space, word joiner, byte order mark
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they can hide what a text says
    "\ud800-\udfff"  # lone surrogates
    "]"
)
_JOINER_IN_ASCII = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
"""Zero-width joiners are spelling in Persian, Indic scripts and emoji, but noise beside ASCII."""
_SPACES = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_SPACE_BEFORE_LINE_END = re.compile(r"[ \t]+(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_PAGER = re.compile(r"\A\d{1,3} / \d{1,3}(?=[^\W\d_])")
"""`2 / 2Write …`: the page counter of chat exports that ran into the text."""


def normalise(text: str) -> str:
    """The text in NFC, with line feeds only, plain spaces, no invisible characters and no space at any end.

    At most one blank line stands between paragraphs. Idempotent.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _JOINER_IN_ASCII.sub("", text)
    text = unicodedata.normalize("NFC", _SPACES.sub(" ", text))
    text = _SPACE_BEFORE_LINE_END.sub("", text)
    text = _BLANK_LINES.sub("\n\n", text).strip()
    return _PAGER.sub("", text)
