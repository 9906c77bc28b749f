"""What every system message must be, whoever writes it: it answers nothing, and takes up the wishes it is made from."""

import re

from shared.domain.checks import Check, canonical_sentence
from shared.domain.stems import content_stems

MINIMUM_COVERAGE = 0.25
"""Share of a preference's content words (by their first five letters) that the system message must take up. Paraphrase keeps the
subject words of a wish and little else; a message that ignored a wish shares next to none of them."""

_CODE = re.compile(r"```|^\s{0,3}(?:def |class |import |#include|SELECT )", re.MULTILINE)
_ANSWER_OPENING = re.compile(
    r"^\W*(?:sure\b|certainly\b|of course\b|absolutely[,!]|here(?:'s| is| are)\b|as an ai\b|the answer is\b|system message\s*:|"
    r"i(?:'m| am) sorry\b)",
    re.IGNORECASE,
)
_ANSWER_MARK = re.compile(r"^\W*(?:final answer|answer|solution|result)\W*:", re.IGNORECASE | re.MULTILINE)


def answer_mark(text: str) -> str | None:
    """What in a system message reads like a piece of an answer (code, the opening or the mark of one), at most 40 characters of
    it; None where nothing does."""
    for pattern in (_CODE, _ANSWER_OPENING, _ANSWER_MARK):
        if found := pattern.search(text):
            return found.group().strip()[:40]
    return None


def coverage(description: str, check: Check | None, stems: frozenset[str]) -> float:
    """Share (0..1) of a wish's content words that are among `stems`; 1 for a wish without content words.

    The machine check's sentence is left out: it is looked for verbatim.
    """
    if check is not None:
        description = description.replace(canonical_sentence(check), " ")
    wanted = content_stems(description)
    return len(wanted & stems) / len(wanted) if wanted else 1.0
