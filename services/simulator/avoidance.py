"""Phrases that an answer must not hold: texts with an avoided word are passed over, avoided marks are taken out of a text."""

import re
from functools import lru_cache

from shared.domain.checks.phrases import phrase_pattern
from shared.domain.prose import fold


@lru_cache(maxsize=1024)
def _pattern(entries: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds any of the phrases in folded text, as the checks do; None without phrases."""
    if not entries:
        return None
    return re.compile("|".join(phrase_pattern(entry).pattern for entry in sorted(entries, key=len, reverse=True)))


class Avoidance:
    """Keeps texts without the avoided words."""

    def __init__(self, avoid: tuple[str, ...]) -> None:
        entries = tuple(fold(entry) for entry in avoid)
        self.marks = frozenset(entry for entry in entries if not any(sign.isalnum() for sign in entry))
        self._pattern = _pattern(tuple(entry for entry in entries if entry not in self.marks))

    def cleaned(self, text: str) -> str:
        """The text without the avoided marks."""
        if not self.marks:
            return text
        for mark in self.marks:
            text = text.replace(mark, "")
        if not text.isascii():
            text = "".join(sign for sign in text if sign.isalnum() or fold(sign) not in self.marks)
        return " ".join(text.split()) if "  " in text else text

    def allows(self, text: str) -> bool:
        """Whether the text holds none of the avoided words (marks may be there: they can be taken out)."""
        return self._pattern is None or self._pattern.search(fold(text)) is None

    def allows_mark(self, mark: str) -> bool:
        """Whether none of the avoided marks stands in these."""
        return not any(entry in fold(mark) for entry in self.marks)
