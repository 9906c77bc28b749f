"""Views of a text that several measurements share: without code, its words, its sentences, its lines by role.

Everything here is linear in the length of the text, whatever the text is.
"""

import re
import unicodedata
from enum import StrEnum

import msgspec

# A word: letters and digits, joined by an apostrophe or hyphen, or by a point or comma between digits. At most six parts
# make one word, so that a text cannot pass for short by hyphens alone.
_WORD = re.compile(r"[^\W_]+(?:(?:['’ʼ‐‑-]|(?<=\d)[.,](?=\d))[^\W_]+){0,5}")
_INLINE_CODE = re.compile(r"`[^`\n]{1,400}`")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_BULLET = re.compile(r"[ \t]{0,12}[-*+•▪◦‣–][ \t]+(?=\S)")
_NUMBER = re.compile(r"[ \t]{0,12}\(?(\d{1,3})[.)][ \t]+(?=\S)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+\S")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_TABLE_CELL = re.compile(r"[ \t]*:?-+:?[ \t]*")
# Scripts that put no space between words: counting words means nothing there.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff]"
)
# Where a sentence ends: closing marks with what closes after them, then space or the end; the full-width marks need none.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'’”)\]*_]*(?=\s|$)|[。！？]+[」』”）]*")
_ABBREVIATIONS = frozenset(("approx", "cf", "dr", "e.g", "i.e", "jr", "mr", "mrs", "ms", "prof", "sr", "vol", "vs"))
_LAST_TOKEN = re.compile(r"[\w.]+$")


class LineRole(StrEnum):
    """What a line of Markdown is."""

    BLANK = "blank"
    TEXT = "text"
    BULLET = "bullet"
    NUMBERED = "numbered"
    HEADING = "heading"
    TABLE = "table"
    CODE = "code"


class Line(msgspec.Struct, frozen=True):
    """One line: its role, its text without the list mark, and the number of a numbered item (else 0)."""

    role: LineRole
    text: str
    number: int = 0
    indented: bool = False


def _table_row(line: str) -> bool:
    return line.count("|") >= 1 and bool(line.strip(" \t|"))


def _delimiter_row(line: str) -> bool:
    cells = line.strip().strip("|").split("|")
    return "|" in line and all(_TABLE_CELL.fullmatch(cell) for cell in cells)


def read_lines(text: str) -> list[Line]:
    """The lines of a Markdown text with their roles. A fence that never closes is code to the end, as CommonMark says."""
    raw = text.splitlines()
    lines: list[Line] = []
    fence = ""
    in_table = False
    for position, line in enumerate(raw):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            lines.append(Line(LineRole.CODE, line))
            continue
        if mark:
            fence = mark[1]
            in_table = False
            lines.append(Line(LineRole.CODE, line))
            continue
        stripped = line.strip()
        following = raw[position + 1] if position + 1 < len(raw) else ""
        if not stripped:
            in_table = False
            lines.append(Line(LineRole.BLANK, ""))
        elif in_table and _table_row(line):
            lines.append(Line(LineRole.TABLE, stripped))
        elif _table_row(line) and _delimiter_row(following):
            in_table = True
            lines.append(Line(LineRole.TABLE, stripped))
        elif in_table and _delimiter_row(line):
            lines.append(Line(LineRole.TABLE, stripped))
        elif _HEADING.match(line):
            lines.append(Line(LineRole.HEADING, stripped.lstrip("#").strip()))
        elif lines and lines[-1].role is LineRole.TEXT and _SETEXT.fullmatch(line):
            lines[-1] = Line(LineRole.HEADING, lines[-1].text)
            lines.append(Line(LineRole.BLANK, ""))
        elif bullet := _BULLET.match(line):
            lines.append(Line(LineRole.BULLET, line[bullet.end() :].strip()))
        elif number := _NUMBER.match(line):
            lines.append(Line(LineRole.NUMBERED, line[number.end() :].strip(), number=int(number[1])))
        else:
            lines.append(Line(LineRole.TEXT, stripped, indented=line[:2].isspace()))
    return lines


def without_code(text: str) -> str:
    """The text without fenced code blocks and inline code."""
    if "`" not in text and "~~~" not in text:
        return text
    kept = [
        raw for raw, line in zip(text.splitlines(), read_lines(text), strict=True) if line.role is not LineRole.CODE
    ]
    return _INLINE_CODE.sub(" ", "\n".join(kept))


def without_code_blocks(text: str) -> str:
    """The text without fenced code blocks; inline code stays, because a reader reads it as words."""
    if "```" not in text and "~~~" not in text:
        return text
    return "\n".join(
        raw for raw, line in zip(text.splitlines(), read_lines(text), strict=True) if line.role is not LineRole.CODE
    )


def words(text: str) -> list[str]:
    """The words of a text, as written. A hyphenated compound, a contraction and a decimal number are one word each."""
    return _WORD.findall(text)


def is_unspaced(text: str) -> bool:
    """True where over 30% of the letters belong to scripts without spaces between words (Chinese, Japanese, Thai, …)."""
    if text.isascii():
        return False
    letters = sum(map(str.isalpha, text))
    return letters > 0 and len(_UNSPACED.findall(text)) > 0.3 * letters


def sentences(text: str) -> list[str]:
    """The sentences of a text's prose: paragraphs and list items. Code, headings and tables count none.

    A list item is at least one sentence. Abbreviations, initials and decimal points end none.
    """
    blocks: list[list[str]] = [[]]
    for line in read_lines(text):
        if line.role is LineRole.TEXT:
            blocks[-1].append(line.text)
        elif line.role in (LineRole.BULLET, LineRole.NUMBERED):
            blocks.append([line.text])
        else:
            blocks.append([])
    found: list[str] = []
    for block in blocks:
        found.extend(_split_sentences(" ".join(block)))
    return found


def _split_sentences(block: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(block):
        if end[0] == ".":
            # The window keeps this linear: no abbreviation is longer.
            before = _LAST_TOKEN.search(block[max(start, end.start() - 12) : end.start()])
            token = before[0].lower() if before else ""
            if token in _ABBREVIATIONS or (len(token) == 1 and token.isalpha() and token != "i"):  # noqa: S105
                continue
        parts.append(block[start : end.end()])
        start = end.end()
    parts.append(block[start:])
    return [part.strip() for part in parts if any(character.isalnum() for character in part)]


_SIGNS = re.compile(r"[^\w\s]+|_+")
_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "\u00ad": None})


def fold(text: str) -> str:
    """The form in which phrases are compared, and nothing else: NFKC (a full-width mark is the mark), caseless, straight
    quotes and hyphens, single spaces."""
    if text.isascii():
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def fold_name(name: str) -> str:
    """The form in which names are compared: folded, and without signs. `Tone-of-voice!` and `tone of voice` are one."""
    return " ".join(_SIGNS.sub(" ", fold(name)).split())
