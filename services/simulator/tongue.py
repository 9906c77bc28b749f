"""The language that an instruction is to be answered in."""

from services.simulator.words import words_of
from shared.domain.language import detect_language

CONFIDENT = 0.6
_ENGLISH_MARKS = frozenset(
    ("the", "to", "and", "what", "how", "that", "you", "with", "for", "are", "does", "from", "this")
)
"""Words that are English and, two together, no other language in ASCII."""


def answer_language(instruction: str) -> str:
    """ISO 639-1 code of the language to answer in: the instruction's where it is plain, else English."""
    if instruction.isascii() and len(_ENGLISH_MARKS.intersection(words_of(instruction[:400]))) >= 2:
        return "en"
    found = detect_language(instruction)
    return found[0] if found is not None and found[1] >= CONFIDENT else "en"
