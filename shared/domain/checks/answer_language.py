"""The check of language: the whole answer in one named language."""

import re
from collections.abc import Mapping

from shared.domain.checks.kind import CheckKind, Parameters, only
from shared.domain.checks.outcome import CheckOutcome, not_applicable, passed_if
from shared.domain.language import detect_language

# Languages that the detector tells apart reliably; close pairs (Danish and Norwegian, Malay and Indonesian) are left out.
LANGUAGE_NAMES: dict[str, str] = {
    "ar": "Arabic",
    "bn": "Bengali",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
LATIN_SCRIPT = frozenset(("cs", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "sv", "tr", "vi"))
_CODES = {name: code for code, name in LANGUAGE_NAMES.items()}


def _validate(parameters: Mapping[str, object]) -> Parameters:
    value = only(parameters, "language")
    if not isinstance(value, str) or value not in LANGUAGE_NAMES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGE_NAMES)}, seen: {value!r}")
    return {"language": value}


def _evaluate(parameters: Parameters, text: str) -> CheckOutcome:
    found = detect_language(text)
    if found is None:
        return not_applicable("too short or undecidable: no language found")
    return passed_if(found[0] == parameters["language"], f"{found[0]} with confidence {found[1]:.2f}")


LANGUAGE = CheckKind(
    name="language",
    description="The whole answer, code aside, is in this language (ISO 639-1).",
    validate=_validate,
    sentence=lambda parameters: f"Write the whole answer in {LANGUAGE_NAMES[str(parameters['language'])]}.",
    pattern=re.compile(rf"Write the whole answer in ({'|'.join(LANGUAGE_NAMES.values())})\."),
    read=lambda match: {"language": _CODES[match[1]]},
    evaluate=_evaluate,
)
