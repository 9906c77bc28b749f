"""Slips of a teacher who writes texts: system messages that answer or ask, responses that ignore or contradict, or command."""

import re
from typing import Any

import orjson

from services.simulator.chance import Chance, generator_of
from services.simulator.compose import answer_compose, descriptions_of
from services.simulator.facts import facts_of
from services.simulator.faults import Fault
from services.simulator.labels import NO_SLIP, Label
from services.simulator.respond import answer_respond
from services.simulator.slips import load_slips, worded
from shared.domain.checks import evaluate, find_checks

_SENTENCE_GAP = re.compile(r"(?<=[.!?]) (?=\S)")
_PLACES = 6
"""Wordings and places that are tried for a command, so that the answer goes on passing its checks."""


def slipped_compose(block: dict[str, Any], slip: Fault, seed: int, digest: bytes) -> tuple[str, Label]:
    """The system message with an answer, a task or a command in it, and its label. Raises BadRequest as `answer_compose`."""
    chance = generator_of(seed, digest, "slip")
    slips = load_slips()
    stock = {Fault.LEAKED_ANSWER: slips.leaks, Fault.RESTATED_TASK: slips.tasks}.get(slip, slips.message_commands)
    added = worded(stock, " ".join(descriptions_of(block)), chance)
    return answer_compose(block, seed, digest, added), Label(slip.value, slip.value, detail=added)


def slipped_respond(system: str, instruction: str, slip: Fault, seed: int, digest: bytes) -> tuple[str, Label]:
    """The response with the slip in it, and its label."""
    made, detail = True, ""
    if slip is Fault.IGNORED_FACET:
        text = answer_respond("", instruction, seed, digest)
        made = bool(system.strip())
    elif slip is Fault.BROKEN_FACT:
        detail = facts_of(instruction)[0].altered(generator_of(seed, digest, "altered"))
        text = answer_respond(system, instruction, seed, digest, detail)
        made = detail.rstrip(".").casefold() in text.casefold()
    else:
        sound = answer_respond(system, instruction, seed, digest)
        text, detail = _with_command(sound, system, instruction, generator_of(seed, digest, "slip"))
    return text, Label(slip.value if made else NO_SLIP, slip.value, detail=detail if made else "")


def _with_command(text: str, system: str, instruction: str, chance: Chance) -> tuple[str, str]:
    """The text with a command to whoever grades it, and the command; placed so that no further check fails where one of a few
    wordings and places allows it."""
    checks = find_checks(system)
    before = sum(evaluate(check, text).outcome == "fail" for check in checks)
    found: list[tuple[int, str, str]] = []
    for _ in range(_PLACES):
        command = worded(load_slips().injections, instruction, chance)
        longer = _inserted(text, command, chance)
        failed = sum(evaluate(check, longer).outcome == "fail" for check in checks)
        found.append((failed, longer, command))
        if failed <= before:
            break
    _, best, command = min(found, key=lambda one: one[0])
    return best, command


def _inserted(text: str, sentence: str, chance: Chance) -> str:
    """The text with one more sentence: between two others, in a string of a JSON object, else as the last paragraph."""
    if text.startswith("{"):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("answer"), str):
            value["answer"] = f"{value['answer']} {sentence}"
            return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    gaps = [match.start() for match in _SENTENCE_GAP.finditer(text)]
    if not gaps or "|" in text:
        return f"{text}\n\n{sentence}"
    place = chance.choice(gaps)
    return f"{text[:place]} {sentence}{text[place:]}"
