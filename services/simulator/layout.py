"""From sentences to a text in the demanded format, with the demanded first and last words."""

import orjson

from services.simulator.chance import Chance
from services.simulator.demands import Demands
from services.simulator.phrases import load_phrases

LISTS = frozenset({"numbered_list", "bullet_list"})


def minimum_items(demands: Demands) -> int:
    """So many pieces the format needs."""
    return 2 if demands.formats & (LISTS | {"headings"}) else 1


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
    once = len(demands.formats & {"headings"}) * 6 + len(demands.formats & {"table", "json"}) * 2
    return once, len(demands.formats & {"numbered_list", "table"})


def _mark(demands: Demands, first: str, second: str) -> str:
    """The first of two marks, unless it is to be avoided."""
    return second if any(entry and entry in first for entry in demands.avoid) else first


def at_least(body: list[str], count: int) -> list[str]:
    """At least so many items: the longest sentence is parted in the middle until there are, or none can be parted."""
    items = list(body)
    while len(items) < count:
        longest = max(range(len(items)), key=lambda index: len(items[index]))
        words = items[longest].rstrip(".").split()
        if len(words) < 2:
            break
        middle = len(words) // 2
        first, second = " ".join(words[:middle]), " ".join(words[middle:])
        items[longest : longest + 1] = [first, f"{second[0].upper()}{second[1:]}"]
    return items


def _items(body: list[str], demands: Demands, first: int = 1) -> str:
    if "numbered_list" in demands.formats:
        mark = _mark(demands, ".", ")")
        return "\n".join(f"{index}{mark} {sentence}" for index, sentence in enumerate(body, first))
    if "bullet_list" in demands.formats:
        mark = _mark(demands, "-", "*")
        return "\n".join(f"{mark} {sentence}" for sentence in body)
    if "table" in demands.formats:
        rows = "\n".join(f"| {index} | {sentence.replace('|', '/')} |" for index, sentence in enumerate(body, first))
        return f"| # | + |\n| --- | --- |\n{rows}"
    return " ".join(body)


def _sections(body: list[str], demands: Demands, language: str, variant: int) -> str:
    """Two or three sections under headings; lists count on through them."""
    if language == "en":
        names = [name for name in load_phrases().headings if name.lower() not in {a.lower() for a in demands.avoid}]
        names = names[variant % 3 :] + names[: variant % 3]
    else:
        names = ["1", "2", "3"]
    # Headings are no sentences: where only one is allowed, the second section stays empty.
    pieces = body if demands.maximum_sentences == 1 else at_least(body, 2)
    size = -(-len(pieces) // (2 if len(pieces) < 6 else 3))
    parts = []
    for name, start in zip(names, range(0, len(pieces), size), strict=False):
        parts.append(f"## {name}\n\n{_items(pieces[start : start + size], demands, start + 1)}")
    return "\n\n".join(parts) if len(parts) > 1 else f"{parts[0]}\n\n## {names[1]}\n"


def _json(body: list[str], demands: Demands, variant: int) -> str:
    # Measured as prose, sentences of one string end at its spaces; those of separate strings would run together.
    single = variant % 2 or demands.maximum_sentence_words is not None or demands.maximum_grade is not None
    value = {"answer": " ".join(body)} if single or len(body) < 2 else {"answer": body[0], "points": body[1:]}
    # At the edges of a JSON object only its own marks can be demanded, such as `{"`: those of the compact form.
    edges = demands.starts_with or demands.ends_with
    return orjson.dumps(value, option=0 if edges else orjson.OPT_INDENT_2).decode()


def render(body: list[str], demands: Demands, language: str, variant: int, chance: Chance) -> str:
    """The text. `variant` counts candidates: ways to join the edges alternate."""
    formats = demands.formats
    if "json" in formats:
        return _json(body, demands, variant)
    if "headings" in formats:
        text = _sections(body, demands, language, variant)
    elif formats & (LISTS | {"table"}):
        text = _items(at_least(body, 2) if formats & LISTS else body, demands)
    else:
        free = not formats and language == "en" and not demands.starts_with and not demands.ends_with
        if free and len(body) > 4 and demands.maximum_sentences is None and chance.random() < 0.2:
            mark = _mark(demands, "-", "*")
            text = "\n".join([body[0], "", *(f"{mark} {sentence}" for sentence in body[1:-1]), "", body[-1]])
        else:
            glue = "" if language in ("zh", "ja", "th") else " "
            size = len(body) if len(body) < 6 else chance.randint(3, 5)
            text = "\n\n".join(glue.join(body[i : i + size]) for i in range(0, len(body), size))
    return _edged(text, demands, bool(formats - {"plain_prose"}), variant)


def _edged(text: str, demands: Demands, listed: bool, variant: int) -> str:
    start, end = demands.starts_with, demands.ends_with
    joined = _joined_edges(demands)
    if start and not text.startswith(start):
        if listed:
            # A heading is no sentence, and its marks are layout, not the beginning of the words.
            start, glue = (f"## {start}", "\n\n") if joined else (start, "\n\n")
        elif joined:
            # Without a space behind it a full stop ends no sentence.
            glue = "—" if start[-1] in ".!?…" else ", "
        elif start[-1] in ".!?,:;…":
            glue = " "
        else:
            glue = (". ", ": ", ", ", " ")[variant % 4]
        text = f"{start}{glue}{text}"
    if end and not text.endswith(end):
        if joined and "table" not in demands.formats:
            text = f"{text.rstrip('.!?')}, {end}"
        elif listed:
            # Without a blank line it belongs to the last item.
            text = f"{text}\n{end}" if variant % 2 and "table" not in demands.formats else f"{text}\n\n{end}"
        else:
            text = f"{text} {end}"
    return text
