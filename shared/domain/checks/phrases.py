"""Checks of wording: phrases that must or must not stand in the answer, how it begins and how it ends."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from shared.domain.checks.kind import (
    MAXIMUM_PHRASE_CHARACTERS,
    MAXIMUM_PHRASES,
    CheckKind,
    Parameters,
    only,
    phrase,
    phrases,
)
from shared.domain.checks.outcome import CheckOutcome, not_applicable, passed_if
from shared.domain.prose import fold, without_code

_QUOTED = rf'"[^"\n]{{1,{MAXIMUM_PHRASE_CHARACTERS}}}"'
_SERIES = rf"phrases? ({_QUOTED}(?:, {_QUOTED}){{0,{MAXIMUM_PHRASES - 2}}}(?: and {_QUOTED})?)"
_ALTERNATIVES = rf"phrases ({_QUOTED}(?:, {_QUOTED}){{0,{MAXIMUM_PHRASES - 2}}} or {_QUOTED})"
_BETWEEN_QUOTES = re.compile(r'"([^"\n]+)"')
_EDGE = "[^\\W_\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
_EDGE_PATTERN = re.compile(_EDGE)
# Marks around a beginning or an end that are layout, not words.
_DECORATION = " \t\n*_#>~\"'()[]"


@lru_cache(maxsize=1024)
def phrase_pattern(wanted: str) -> re.Pattern[str]:
    """Finds a phrase in a folded text: as whole words where its edges are letters or digits of a spaced script."""
    folded = fold(wanted)
    before = f"(?<!{_EDGE})" if _EDGE_PATTERN.match(folded[:1]) else ""
    after = f"(?!{_EDGE})" if _EDGE_PATTERN.match(folded[-1:]) else ""
    return re.compile(before + re.escape(folded) + after)


def contains_phrase(text: str, wanted: str) -> bool:
    """Whether a phrase stands in a text, whatever the case, typographic quotes and line breaks."""
    return bool(phrase_pattern(wanted).search(fold(text)))


def phrases_of(parameters: Parameters) -> list[str]:
    """The phrases of a `must_include`, `must_include_one` or `must_avoid` check."""
    return phrases("phrases", parameters["phrases"])


def _validate_list(parameters: Mapping[str, object]) -> Parameters:
    return {"phrases": phrases("phrases", only(parameters, "phrases"))}


def _validate_alternatives(parameters: Mapping[str, object]) -> Parameters:
    found = phrases("phrases", only(parameters, "phrases"))
    if len(found) < 2:
        raise ValueError(f"`phrases` must hold 2 alternatives at least, seen: {found}; one phrase is `must_include`")
    return {"phrases": found}


def _validate_one(parameters: Mapping[str, object]) -> Parameters:
    return {"phrase": phrase("phrase", only(parameters, "phrase"))}


def _series(found: list[str]) -> str:
    quoted = [f'"{item}"' for item in found]
    if len(quoted) == 1:
        return f"phrase {quoted[0]}"
    return f"phrases {', '.join(quoted[:-1])} and {quoted[-1]}"


def _alternatives(found: list[str]) -> str:
    quoted = [f'"{item}"' for item in found]
    return f"phrases {', '.join(quoted[:-1])} or {quoted[-1]}"


def _read_series(match: re.Match[str]) -> Parameters:
    return {"phrases": _BETWEEN_QUOTES.findall(match[1])}


def _must_include(parameters: Parameters, text: str) -> CheckOutcome:
    folded = fold(text)
    missing = [wanted for wanted in phrases_of(parameters) if not phrase_pattern(wanted).search(folded)]
    return passed_if(not missing, f"missing: {', '.join(missing)}" if missing else "all phrases found")


def _must_include_one(parameters: Parameters, text: str) -> CheckOutcome:
    folded = fold(text)
    found = [wanted for wanted in phrases_of(parameters) if phrase_pattern(wanted).search(folded)]
    return passed_if(bool(found), f"found: {', '.join(found)}" if found else "none of the phrases found")


def _must_avoid(parameters: Parameters, text: str) -> CheckOutcome:
    # Code is left out: an exclamation mark in a program is not a tone.
    prose = fold(without_code(text))
    if not prose:
        return not_applicable("nothing but code, whose wording is not judged")
    found = [wanted for wanted in phrases_of(parameters) if phrase_pattern(wanted).search(prose)]
    return passed_if(not found, f"found: {', '.join(found)}" if found else "none of the phrases found")


def _edge_variants(value: str) -> tuple[str, str]:
    folded = fold(value)
    return folded, folded.strip(_DECORATION)


def begins_with(text: str, wanted: str) -> bool:
    """Whether a text begins with a phrase; marks of layout before it (emphasis, quotes, a heading's #) do not matter."""
    return any(phrase_pattern(wanted).match(variant) for variant in _edge_variants(text))


def finishes_with(text: str, wanted: str) -> bool:
    """Whether a text ends with a phrase; closing marks of layout and, for a phrase ending in a word, one closing full stop,
    question or exclamation mark do not matter."""
    pattern = phrase_pattern(wanted)
    folded = fold(wanted)
    for variant in _edge_variants(text):
        for candidate in (variant, variant[:-1] if variant[-1:] in ".!?。" else variant):
            if candidate.endswith(folded) and pattern.match(candidate, len(candidate) - len(folded)):
                return True
    return False


def _edge_check(test: Callable[[str, str], bool], verb: str) -> Callable[[Parameters, str], CheckOutcome]:
    def evaluate(parameters: Parameters, text: str) -> CheckOutcome:
        good = test(text, str(parameters["phrase"]))
        return passed_if(
            good, f"{verb} with the phrase" if good else f"does not {verb.removesuffix('s')} with the phrase"
        )

    return evaluate


MUST_INCLUDE = CheckKind(
    name="must_include",
    description="Every one of these phrases stands in the answer, code included.",
    validate=_validate_list,
    sentence=lambda parameters: f"Include the {_series(phrases_of(parameters))} in the answer.",
    pattern=re.compile(rf"Include the {_SERIES} in the answer\."),
    read=_read_series,
    evaluate=_must_include,
)
MUST_INCLUDE_ONE = CheckKind(
    name="must_include_one",
    description="At least one of these phrases, ways to say the same, stands in the answer, code included.",
    validate=_validate_alternatives,
    sentence=lambda parameters: f"Include one of the {_alternatives(phrases_of(parameters))} in the answer.",
    pattern=re.compile(rf"Include one of the {_ALTERNATIVES} in the answer\."),
    read=_read_series,
    evaluate=_must_include_one,
)
MUST_AVOID = CheckKind(
    name="must_avoid",
    description="None of these phrases stands in the answer outside code.",
    validate=_validate_list,
    sentence=lambda parameters: f"Leave the {_series(phrases_of(parameters))} out of the answer.",
    pattern=re.compile(rf"Leave the {_SERIES} out of the answer\."),
    read=_read_series,
    evaluate=_must_avoid,
)
STARTS_WITH = CheckKind(
    name="starts_with",
    description="The answer begins with this phrase.",
    validate=_validate_one,
    sentence=lambda parameters: f'Begin the answer with "{parameters["phrase"]}".',
    pattern=re.compile(rf"Begin the answer with ({_QUOTED})\."),
    read=lambda match: {"phrase": match[1][1:-1]},
    evaluate=_edge_check(begins_with, "begins"),
)
ENDS_WITH = CheckKind(
    name="ends_with",
    description="The answer ends with this phrase; a closing mark after it may follow.",
    validate=_validate_one,
    sentence=lambda parameters: f'End the answer with "{parameters["phrase"]}".',
    pattern=re.compile(rf"End the answer with ({_QUOTED})\."),
    read=lambda match: {"phrase": match[1][1:-1]},
    evaluate=_edge_check(finishes_with, "ends"),
)
