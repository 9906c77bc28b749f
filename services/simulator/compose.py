"""Answers of class `compose`: one system message that weaves all descriptions into the demanded form."""

import re
from typing import Any

from services.simulator.chance import Chance, generator_of
from services.simulator.phrases import Voice, fill, load_phrases
from services.simulator.requests import BadRequest
from services.simulator.words import lower_opening

KEYS = frozenset({"descriptions"})
DEFAULT_TARGET = 900


def _strings(block: dict[str, Any], name: str) -> list[str]:
    value = block.get(name) or []
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        raise BadRequest(f"`{name}` of the json block must be a list of strings", "messages")
    return [item.strip() for item in value if item.strip()]


def _woven(description: str, link: str) -> str:
    """The description behind a link. Its words stay as they are, so that nothing of the preference is lost."""
    if not link:
        return description
    return f"{link} {lower_opening(description)}"


def answer_compose(block: dict[str, Any], seed: int, digest: bytes, added: str = "") -> str:
    """The system message. Every required sentence stands in it once, verbatim; length comes as close to
    `target_characters` as the descriptions allow: they are never shortened, a preference would be lost. A `role` of the block
    stands in the opening. `added` is text that slips in among the wishes. Raises BadRequest for a block it cannot read."""
    descriptions = descriptions_of(block)
    required = _strings(block, "required_sentences")
    form = str(block.get("form") or "prose")
    role = block.get("role")
    if role is not None and not isinstance(role, str):
        raise BadRequest("`role` of the json block must be a string or null", "messages")
    target = block.get("target_characters") or DEFAULT_TARGET
    if not isinstance(target, int | float) or isinstance(target, bool) or target < 1:
        raise BadRequest("`target_characters` of the json block must be a positive number", "messages")
    chance = generator_of(seed, digest, "compose")
    pieces = []
    left = list(required)
    for description in descriptions:
        inside = [sentence for sentence in required if sentence in description]
        body = description
        for sentence in inside:
            body = body.replace(sentence, " ")
        body = re.sub(r"\s+", " ", body).strip()
        if body and body[-1] not in ".!?":
            body += "."
        kept = [sentence for sentence in inside if sentence in left]
        left = [sentence for sentence in left if sentence not in kept]
        pieces.append((body, kept))
    pieces.extend(("", [sentence]) for sentence in left)
    if added:
        # Not among the draws of the sound message, which stays the same around it.
        where = generator_of(seed, digest, "added").randrange(len(pieces) + 1)
        pieces.insert(where, (added, []))
    return _render(pieces, form.lower(), int(target), (role or "").strip(), chance)


def descriptions_of(block: dict[str, Any]) -> list[str]:
    """The descriptions of the block. Raises BadRequest where they are no list of texts."""
    return _strings(block, "descriptions")


def _opening(voice: Voice, role: str, chance: Chance) -> str:
    phrases = load_phrases()
    drawn, own = chance.choice(voice.openings), chance.choice(phrases.compose_roles)
    if not role:
        return fill(drawn, r=own)
    if "{r}" not in drawn:
        # Not every voice has an opening for a role; the last one, of the role itself, has.
        of_voice = [one for one in voice.openings if "{r}" in one]
        drawn = chance.choice(of_voice or phrases.compose_voices[-1].openings)
    article = "" if role.lower().startswith(("a ", "an ", "the ")) else "an " if role[:1].lower() in "aeiou" else "a "
    return fill(drawn, r=f"{article}{role.rstrip('.')}")


def _voice_of(form: str) -> Voice:
    voices = load_phrases().compose_voices
    return next((voice for voice in voices if any(part in form for part in voice.forms)), voices[-1])


def _render(pieces: list[tuple[str, list[str]]], form: str, target: int, role: str, chance: Chance) -> str:
    phrases = load_phrases()
    voice = _voice_of(form)
    opening = _opening(voice, role, chance)
    links, fillers = list(phrases.compose_links), list(voice.fillers)
    chance.shuffle(links)
    chance.shuffle(fillers)
    closing = chance.choice(voice.closings)
    needed = len(opening) + sum(len(body) + sum(len(s) + 1 for s in kept) + 1 for body, kept in pieces)
    numbered = any(part in form for part in ("rule", "number"))
    bulleted = any(part in form for part in ("list", "bullet", "point", "outline"))
    labelled = any(part in form for part in ("sheet", "profile"))
    use_links = target - needed > 14 * len(pieces) and not (numbered or bulleted or labelled)
    parts = []
    for index, (body, kept) in enumerate(pieces):
        link = links[index % len(links)] if use_links and body and (index or chance.random() < 0.3) else ""
        parts.append(" ".join(part for part in (_woven(body, link) if body else "", *kept) if part))
    extra: list[str] = []
    length = len(opening) + sum(len(part) + 1 for part in parts)
    for filler in fillers:
        if length + len(filler) / 2 > target:
            break
        extra.append(filler)
        length += len(filler) + 1
    if length + len(closing) > target * 1.1:
        closing = ""
    tail = " ".join([*extra, closing]).strip()
    if numbered:
        # Rules come without an introduction; what there is to add becomes rules too.
        rules = [*([opening] if role or not parts else []), *parts, *extra]
        return "\n".join(f"{index}. {part}" for index, part in enumerate(rules, 1))
    if bulleted:
        return "\n".join([opening, *(f"- {part}" for part in parts), *([tail] if tail else [])])
    if labelled:
        lines = [
            f"{label} {part}" for label, part in zip(_cycled(phrases.compose_labels, len(parts)), parts, strict=True)
        ]
        return "\n".join([opening, *lines, *([tail] if tail else [])])
    if any(part in form for part in ("letter", "paragraph", "section", "portrait", "story", "narrative")):
        middle = (len(parts) + 1) // 2
        blocks = [
            " ".join([opening, *extra[:1]]),
            " ".join(parts[:middle]),
            " ".join([*parts[middle:], *extra[1:]]),
            closing,
        ]
        return "\n\n".join(one for one in blocks if one)
    where = chance.randint(0, len(extra))
    first = [] if "brief" in form and parts and not role else [opening]
    return " ".join(part for part in [*first, *extra[:where], *parts, *extra[where:], closing] if part)


def _cycled(items: tuple[str, ...], count: int) -> list[str]:
    return [items[index % len(items)] for index in range(count)]
