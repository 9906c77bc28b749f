"""Checks of format: which shape the answer has on the page."""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise

import orjson

from shared.domain.checks.kind import CheckKind, Parameters, only
from shared.domain.checks.outcome import CheckOutcome, passed_if
from shared.domain.prose import Line, LineRole, read_lines, words

SENTENCES: dict[str, str] = {
    "numbered_list": "Present the answer as a numbered list.",
    "bullet_list": "Present the answer as a bulleted list.",
    "plain_prose": "Write plain paragraphs without lists, headings or tables.",
    "json": "Give the whole answer as a single JSON object.",
    "table": "Present the main content in a Markdown table.",
    "headings": "Divide the answer into sections with Markdown headings.",
}
_FORMATS = {sentence: name for name, sentence in SENTENCES.items()}
_JSON_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*)\n```", re.DOTALL)
# A line of nothing but bold text is a heading in all but name.
_BOLD_LINE = re.compile(r"(\*\*|__)[^*_\n]{1,120}\1:?")


def _is_list(lines: list[Line], role: LineRole) -> tuple[bool, str]:
    """At least two items that hold at least half of the words; what follows an item without a blank line, or indented, is
    part of it."""
    items = 0
    inside = outside = 0
    open_item = after_blank = False
    for line in lines:
        count = len(words(line.text)) or bool(line.text)
        if line.role is role:
            items += 1
            open_item = True
            inside += count
        elif line.role is LineRole.BLANK:
            after_blank = True
            continue
        elif line.role in (LineRole.BULLET, LineRole.NUMBERED, LineRole.TEXT, LineRole.CODE):
            part_of_item = open_item and (line.role is not LineRole.TEXT or line.indented or not after_blank)
            open_item = part_of_item
            if part_of_item:
                inside += count
            elif line.role is not LineRole.CODE:
                outside += count
        after_blank = False
    share = inside / (inside + outside) if inside else 0.0
    return items >= 2 and share >= 0.5, f"{items} items with {share:.0%} of the words"


def _numbered(text: str) -> tuple[bool, str]:
    lines = read_lines(text)
    numbers = [line.number for line in lines if line.role is LineRole.NUMBERED]
    ascends = numbers[:1] in ([0], [1]) and (
        len(set(numbers)) == 1 or any(after == before + 1 for before, after in pairwise(numbers))
    )
    good, detail = _is_list(lines, LineRole.NUMBERED)
    return good and ascends, detail if ascends or not numbers else f"{detail}, not counted upwards from 1"


def _bulleted(text: str) -> tuple[bool, str]:
    return _is_list(read_lines(text), LineRole.BULLET)


def _plain(text: str) -> tuple[bool, str]:
    lines = read_lines(text)
    listed = sum(line.role in (LineRole.BULLET, LineRole.NUMBERED) for line in lines)
    headings = sum(
        line.role is LineRole.HEADING or (line.role is LineRole.TEXT and bool(_BOLD_LINE.fullmatch(line.text)))
        for line in lines
    )
    rows = sum(line.role is LineRole.TABLE for line in lines)
    # One line that begins with a dash may be speech; two are a list.
    good = listed < 2 and not headings and not rows and any(line.role is LineRole.TEXT for line in lines)
    return good, f"{listed} list items, {headings} headings, {rows} table rows"


def _json(text: str) -> tuple[bool, str]:
    stripped = text.strip()
    fenced = _JSON_FENCE.fullmatch(stripped)
    try:
        value = orjson.loads(fenced[1] if fenced else stripped)
    except orjson.JSONDecodeError:
        return False, "not valid JSON"
    return isinstance(value, dict), f"JSON {type(value).__name__}"


def _table(text: str) -> tuple[bool, str]:
    rows = sum(line.role is LineRole.TABLE for line in read_lines(text))
    # A head, the rule under it, and at least one row.
    return rows >= 3, f"{max(0, rows - 2)} table rows"


def _headings(text: str) -> tuple[bool, str]:
    lines = read_lines(text)
    headings = sum(line.role is LineRole.HEADING for line in lines)
    body = any(line.role not in (LineRole.HEADING, LineRole.BLANK) for line in lines)
    return headings >= 2 and body, f"{headings} headings{'' if body else ' and nothing under them'}"


_PROGRAMS: dict[str, Callable[[str], tuple[bool, str]]] = {
    "numbered_list": _numbered,
    "bullet_list": _bulleted,
    "plain_prose": _plain,
    "json": _json,
    "table": _table,
    "headings": _headings,
}


def _validate(parameters: Mapping[str, object]) -> Parameters:
    value = only(parameters, "format")
    if not isinstance(value, str) or value not in SENTENCES:
        raise ValueError(f"`format` must be one of {', '.join(SENTENCES)}, seen: {value!r}")
    return {"format": value}


def _evaluate(parameters: Parameters, text: str) -> CheckOutcome:
    return passed_if(*_PROGRAMS[str(parameters["format"])](text))


FORMAT = CheckKind(
    name="format",
    description="The shape of the answer: numbered or bulleted list, plain prose, JSON object, table, headings.",
    validate=_validate,
    sentence=lambda parameters: SENTENCES[str(parameters["format"])],
    pattern=re.compile("|".join(re.escape(sentence) for sentence in SENTENCES.values())),
    read=lambda match: {"format": _FORMATS[match[0]]},
    evaluate=_evaluate,
)
