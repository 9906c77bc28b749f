"""From sentences to a text in the demanded format, with the demanded first and last words."""

import orjson

from services.simulator.avoidance import Avoidance
from services.simulator.chance import Chance
from services.simulator.demands import Demands
from services.simulator.phrases import load_phrases
from services.simulator.wanted import CLOSING, load_wanted
from services.simulator.words import lower_opening
from shared.domain.prose import words

_TIGHT = 20
_END_AS_ITEM = 2
"""Every third candidate of a list has the demanded end as an item of its own."""
LISTS = frozenset({"numbered_list", "bullet_list"})


def minimum_items(demands: Demands) -> int:
    """So many pieces the format needs. (A section may be empty where only one sentence is allowed.)"""
    parted = LISTS if demands.maximum_sentences == 1 else LISTS | {"headings"}
    return 2 if demands.formats & parted else 1


def _edges(demands: Demands) -> int:
    return (1 if demands.starts_with else 0) + (1 if demands.ends_with else 0)


def sentences_of_body(demands: Demands, most: int) -> int:
    """So many sentences may the body have where the whole may have `most`: the edges take one each, unless too few would be
    left; then `render` joins the edges to the body's own sentences."""
    left = most - _edges(demands)
    return left if left >= minimum_items(demands) else max(minimum_items(demands), most)


def _joined_edges(demands: Demands) -> bool:
    most = demands.maximum_sentences
    return most is not None and most - _edges(demands) < minimum_items(demands)


def extra_words(demands: Demands) -> tuple[int, int]:
    """Words that the format adds: once, and for each sentence."""
    tight = _tight(demands)
    once = len(demands.formats & {"headings"}) * (2 if tight else 6) + len(demands.formats & {"table", "json"}) * 2
    # A list of a single sentence becomes one of two items.
    once += len(demands.formats & {"numbered_list"}) - len(demands.formats & {"table"}) * tight
    return once, len(demands.formats & ({"numbered_list"} if tight else {"numbered_list", "table"}))


def _tight(demands: Demands) -> bool:
    """Whether there are words for the shortest layout alone."""
    return demands.maximum_words is not None and demands.maximum_words < _TIGHT


def edge_words(demands: Demands) -> tuple[int, int]:
    """Words that are joined to the first and to the last sentence of the body."""
    start, end = demands.starts_with, demands.ends_with
    joined = _joined_edges(demands)
    listed = bool(demands.formats - {"plain_prose"})
    first = joined or start[-1:] not in CLOSING
    return (
        len(words(start)) if start and first and not listed else 0,
        len(words(end)) if end and joined and "table" not in demands.formats else 0,
    )


def _mark(demands: Demands, first: str, second: str) -> str:
    """The first of two marks, unless it is to be avoided."""
    return first if Avoidance(demands.avoid).allows_mark(first) else second


def at_least(body: list[str], count: int) -> list[str]:
    """At least so many items: the longest sentence is parted in the middle until there are, or none can be parted."""
    items = list(body)
    while items and len(items) < count:
        longest = max(range(len(items)), key=lambda index: len(items[index]))
        found = items[longest].rstrip(".").split()
        if len(found) < 2:
            break
        middle = len(found) // 2
        first, second = " ".join(found[:middle]), " ".join(found[middle:])
        items[longest : longest + 1] = [first, f"{second[0].upper()}{second[1:]}"]
    return items


def _listed(body: list[str], demands: Demands, variant: int) -> list[str]:
    """The items of a list, in every third candidate with the demanded end as an item of its own."""
    closes = bool(demands.ends_with) and variant % 3 == _END_AS_ITEM
    open_items = body if _tight(demands) else at_least(body, 2)
    items = [*body, demands.ends_with] if closes else open_items
    # Where no more than that may be said, the first item says nothing.
    return [*["–"] * (2 - len(items)), *items]


def _items(body: list[str], demands: Demands, language: str, first: int = 1) -> str:
    if "numbered_list" in demands.formats:
        mark = _mark(demands, ".", ")")
        return "\n".join(f"{index}{mark} {sentence}" for index, sentence in enumerate(body, first))
    if "bullet_list" in demands.formats:
        mark = _mark(demands, "-", "*")
        return "\n".join(f"{mark} {sentence}" for sentence in body)
    if "table" in demands.formats:
        rows = "\n".join(f"| {index} | {sentence.replace('|', '/')} |" for index, sentence in enumerate(body, first))
        columns = _columns(demands, language)
        rule = _mark(demands, "---", "-")
        if _tight(demands):
            rows = "\n".join(f"| {sentence.replace('|', '/')} |" for sentence in body)
            return f"| {columns[1]} |\n| {rule} |\n{rows}"
        return f"| {' | '.join(columns)} |\n| {rule} | {rule} |\n{rows}"
    return ("\n\n" if _apart(demands) else " ").join(body)


def _apart(demands: Demands) -> bool:
    """Whether each sentence needs a paragraph of its own: without full stops nothing else ends it."""
    measured = demands.maximum_sentence_words is not None or demands.maximum_grade is not None
    return measured and not Avoidance(demands.avoid).allows_mark(".")


def _columns(demands: Demands, language: str) -> tuple[str, str]:
    """What stands over the number and over the text of a row: words, as signs may have to be avoided."""
    stock = load_wanted()
    allowed = Avoidance(demands.avoid)
    foreign = stock.foreign.get(language)
    pairs = stock.columns if language == "en" else () if foreign is None else (foreign.columns,)
    return next((pair for pair in pairs if all(map(allowed.allows, pair))), ("1", "2"))


def _headings(demands: Demands, language: str, variant: int) -> list[str]:
    if language == "en":
        allowed = Avoidance(demands.avoid)
        names = [name for name in load_phrases().headings if allowed.allows(name)]
        return [*names[variant % 3 :], *names[: variant % 3], "1", "2", "3"]
    foreign = load_wanted().foreign.get(language)
    return ["1", "2", "3"] if foreign is None else list(foreign.headings)


def _sections(body: list[str], demands: Demands, language: str, variant: int) -> str:
    """Two or three sections under headings; lists count on through them."""
    names = _headings(demands, language, variant)
    # Headings are no sentences: where only one is allowed, the second section is
    # empty.
    pieces = body if demands.maximum_sentences == 1 or _tight(demands) else at_least(body, 2)
    size = max(1, -(-len(pieces) // (2 if len(pieces) < 6 else 3)))
    starts = range(0, len(pieces), size)
    # A title without text comes first, so that the text stays at the end.
    parts = [f"## {name}" for name in names[: 2 - min(2, len(starts))]]
    for name, start in zip(names[len(parts) :], starts, strict=False):
        parts.append(f"## {name}\n\n{_items(pieces[start : start + size], demands, language, start + 1)}")
    return "\n\n".join(parts)


def _json(body: list[str], demands: Demands, variant: int) -> str:
    # Measured as prose, sentences of one string end at its spaces; those of separate strings would run together.
    single = variant % 2 or demands.maximum_sentence_words is not None or demands.maximum_grade is not None
    value = {"answer": " ".join(body)} if single or len(body) < 2 else {"answer": body[0], "points": body[1:]}
    # At the edges of a JSON object only its own marks can be demanded, such as `{"`: those of the compact form.
    edges = demands.starts_with or demands.ends_with
    return orjson.dumps(value, option=0 if edges else orjson.OPT_INDENT_2).decode()


def render(body: list[str], demands: Demands, language: str, variant: int, chance: Chance) -> str:
    """The text. `variant` counts candidates: ways to join the edges alternate. The body may be empty where the answer has to
    begin or to end with something."""
    formats = demands.formats
    if "json" in formats:
        return _json(body, demands, variant)
    if "headings" in formats:
        text = _sections(body, demands, language, variant)
    elif formats & (LISTS | {"table"}):
        text = _items(_listed(body, demands, variant) if formats & LISTS else body, demands, language)
    else:
        text = _prose(body, demands, language, chance)
    return _edged(text, demands, bool(formats - {"plain_prose"}), variant)


def _prose(body: list[str], demands: Demands, language: str, chance: Chance) -> str:
    free = not demands.formats and language == "en" and not demands.starts_with and not demands.ends_with
    if free and len(body) > 4 and demands.maximum_sentences is None and chance.random() < 0.2:
        mark = _mark(demands, "-", "*")
        return "\n".join([body[0], "", *(f"{mark} {sentence}" for sentence in body[1:-1]), "", body[-1]])
    if _apart(demands):
        return "\n\n".join(body)
    glue = "" if language in ("zh", "ja", "th") else " "
    size = max(1, len(body)) if len(body) < 6 else chance.randint(3, 5)
    return "\n\n".join(glue.join(body[i : i + size]) for i in range(0, len(body), size))


def _edged(text: str, demands: Demands, listed: bool, variant: int) -> str:
    start, end = demands.starts_with, demands.ends_with
    joined = _joined_edges(demands)
    if start and not text:
        text = start
    if start and not text.startswith(start):
        if listed:
            # A heading is no sentence, and its marks are layout, not the beginning of the words.
            start, glue = (f"## {start}", "\n\n") if joined else (start, "\n\n")
        elif joined and start[-1] in CLOSING:
            # Without a space behind it a full stop ends no sentence.
            glue = "—"
        elif start[-1] in ",:;" + CLOSING:
            glue = " "
        else:
            glue = ", " if joined else (", ", ". ", ": ")[variant % 3]
        text = f"{start}{glue}{lower_opening(text) if f'{start}{glue}'[-2] == ',' else text}"
    if end and not text.endswith(end):
        if not text:
            text = end
        elif joined and "table" not in demands.formats:
            # A mark that must stand in the answer stays, and so does the full stop at the very end.
            wanted = "".join(demands.include)
            text = f"{text.rstrip(''.join(mark for mark in '.!?' if mark not in wanted))}, {end}"
            text = text if "." not in wanted or end[-1] in CLOSING else f"{text.replace('., ', ', ')}."
        elif listed:
            # Without a blank line it belongs to the last item.
            text = f"{text}\n{end}" if variant % 2 and "table" not in demands.formats else f"{text}\n\n{end}"
        elif text[-1] in CLOSING:
            text = f"{text} {end}"
        else:
            text = f"{text}\n\n{end}"
    return text
