"""What code can say about a response: pure functions, no calls. They run for every row, so they are kept cheap: the common case
is a few substring searches and one language detection on a part of the text."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from shared.domain.checks import NECESSARY_KINDS, Check, CheckOutcome, evaluate
from shared.domain.checks.answer_language import LANGUAGE_NAMES
from shared.domain.grader_commands import commands_grader
from shared.domain.jobs import RespondParameters
from shared.domain.language import detect_language
from shared.domain.rows import Facet, InstructionRow, Preference
from shared.domain.similarity import rouge_l_tokens, word_tokens
from shared.llm.protocol import Completion
from shared.stages.facets import Fault

MINIMUM_LANGUAGE_CONFIDENCE = 0.8
MINIMUM_INSTRUCTION_CONFIDENCE = 0.5
"""Less than for a response: instructions are short, and both must agree on what the row says."""
MINIMUM_LANGUAGE_CHARACTERS = 60
LANGUAGE_SAMPLE_CHARACTERS = 600
_ENGLISH_MARKS = frozenset(
    (
        "the",
        "and",
        "of",
        "to",
        "that",
        "with",
        "for",
        "you",
        "are",
        "this",
        "it",
        "from",
        "your",
        "which",
        "they",
        "be",
        "but",
    )
)
PLAINLY_ENGLISH_SHARE = 0.12
"""Share of the commonest English words (none of them common in another language) above which a text is English without asking
the detector, which takes about 0.2 ms: most rows are decided by this."""
COMPARED_CHARACTERS = 3000
"""Two responses are compared by their first so many characters: answers that are the same start the same."""
ECHOED_SENTENCE_CHARACTERS = 60
"""A sentence of the system message of this length that stands word for word in the response is quoted, not followed."""
_VERDICT_OF = {"pass": "followed", "fail": "violated"}

_LANGUAGE_MENTIONED = re.compile(
    r"\b(?:translat\w*|language|" + "|".join(sorted(map(re.escape, LANGUAGE_NAMES.values()))) + r")\b", re.IGNORECASE
)


class RefusalRules(BaseModel):
    """The data file of refusals: how they open, and how long a text with nothing else in it can be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    maximum_characters: int = Field(gt=0)
    parts: dict[str, str] = {}
    """Expressions that openings take up by name, in braces."""
    openings: tuple[str, ...] = Field(min_length=1)

    def pattern(self) -> re.Pattern[str]:
        expressions = "|".join(self.openings)
        for name, expression in self.parts.items():
            expressions = expressions.replace("{" + name + "}", expression)
        return re.compile(r"[\s\"“*>]*(?:" + expressions + ")", re.IGNORECASE | re.DOTALL)


class _Refusals(NamedTuple):
    maximum_characters: int
    pattern: re.Pattern[str]


@lru_cache(maxsize=1)
def _refusals() -> _Refusals:
    text = files("services.generation").joinpath("refusals.yaml").read_text(encoding="utf-8")
    rules = RefusalRules.model_validate(yaml.safe_load(text))
    return _Refusals(rules.maximum_characters, rules.pattern())


def is_refusal(text: str) -> bool:
    """Whether the text is a short, pure refusal by the rules in `refusals.yaml`."""
    rules = _refusals()
    return len(text) <= rules.maximum_characters and rules.pattern.match(text.replace("’", "'")) is not None


def judge_completion(completion: Completion, text: str, parameters: RespondParameters) -> Fault | None:
    """Faults that show in how the answer ended: `content_refused`, `output_truncated`, `empty_response`, `refusal_phrase`.
    `text` is the completion's text without surrounding space."""
    if completion.refusal is not None:
        return Fault("content_refused", "the model declined in its refusal field")
    if completion.finish_reason == "content_filter":
        return Fault("content_refused", "the provider's content filter ended the answer")
    if completion.finish_reason == "length":
        return Fault(
            "output_truncated", f"cut off at {parameters.sampling.max_tokens} tokens; raise respond.sampling.max_tokens"
        )
    if len(text) < parameters.minimum_characters:
        return Fault(
            "empty_response", f"{len(text)} characters; at least {parameters.minimum_characters} are asked for"
        )
    if is_refusal(text):
        return Fault("refusal_phrase", "a short answer that opens like a refusal")
    return None


def long_sentences(system: str) -> tuple[str, ...]:
    """The sentences of a system message, without their end marks, that are long enough to be recognised when quoted."""
    # Plain replacements: a regular expression that splits takes ten times as long, and this runs for every facet.
    for end in ("! ", "? ", ": ", "\n"):
        system = system.replace(end, ". ")
    return tuple(part for part in system.split(". ") if len(part) >= ECHOED_SENTENCE_CHARACTERS)


def judge_text(
    text: str, row: InstructionRow, sentences: Sequence[str], preferences: Sequence[Preference]
) -> Fault | None:
    """`echoes_system_message`, `injected_answer` (it tells a grader what to conclude) and `off_language`. `sentences` are those
    of `long_sentences(facet.system)`."""
    for sentence in sentences:
        if sentence in text and sentence not in row.instruction:
            return Fault(
                "echoes_system_message", f"a sentence of {len(sentence)} characters is quoted from the system message"
            )
    if commands_grader(text):
        return Fault("injected_answer", "the response tells whoever grades it what to conclude")
    if any(preference.check is not None and preference.check.kind == "language" for preference in preferences):
        return None  # the machine check says which language it must be
    return _language_fault(text, row)


def _language_fault(text: str, row: InstructionRow) -> Fault | None:
    if len(text) < MINIMUM_LANGUAGE_CHARACTERS:
        return None
    sample = text[:LANGUAGE_SAMPLE_CHARACTERS]
    if row.language == "en" and _plainly_english(sample):
        return None
    found = detect_language(sample)
    if found is None or found[0] == row.language or found[1] < MINIMUM_LANGUAGE_CONFIDENCE:
        return None
    # The rare case, so it may cost more: a request for a translation, or an instruction whose own language is in doubt.
    if _LANGUAGE_MENTIONED.search(row.instruction):
        return None
    asked = detect_language(row.instruction[:LANGUAGE_SAMPLE_CHARACTERS])
    if asked is None or asked[0] != row.language or asked[1] < MINIMUM_INSTRUCTION_CONFIDENCE:
        return None
    return Fault("off_language", f"the answer is in {found[0]!r} ({found[1]:.2f}), the instruction in {row.language!r}")


def _plainly_english(text: str) -> bool:
    words = text.lower().split()
    return sum(word in _ENGLISH_MARKS for word in words) > PLAINLY_ENGLISH_SHARE * len(words)


class CheckedText:
    """The machine checks of one text, each evaluated once however many people have it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._outcomes: list[tuple[Check, CheckOutcome]] = []

    def outcome(self, check: Check) -> CheckOutcome:
        for known, outcome in self._outcomes:
            if known == check:
                return outcome
        outcome = evaluate(check, self._text)
        self._outcomes.append((check, outcome))
        return outcome


def run_checks(text: CheckedText, preferences: Sequence[Preference]) -> tuple[Mapping[str, str], Fault | None]:
    """Outcome of every machine check by subdimension, and `check_failed` for the first that failed."""
    results: dict[str, str] = {}
    fault: Fault | None = None
    for preference in preferences:
        if preference.check is None:
            continue
        outcome = text.outcome(preference.check)
        results[preference.subdimension] = outcome.outcome
        if outcome.outcome == "fail" and fault is None:
            fault = Fault("check_failed", f"{preference.check.kind}: {outcome.detail}")
    return results, fault


def program_verdicts(text: CheckedText, facets: Sequence[Facet], *, judged: bool) -> dict[tuple[int, int], str]:
    """What machine checks say of the text about everybody's preferences: (facet index, position) -> `followed` where the check
    passed, `violated` where it failed. Preferences without a check, and those whose check cannot be measured on the text, are
    left out; where a judge is asked (`judged`) also those that pass a check of NECESSARY_KINDS, which it has to decide."""
    verdicts: dict[tuple[int, int], str] = {}
    for facet in facets:
        for position, preference in enumerate(facet.preferences):
            if preference.check is not None:
                verdict = _VERDICT_OF.get(text.outcome(preference.check).outcome)
                left_open = judged and verdict == "followed" and preference.check.kind in NECESSARY_KINDS
                if verdict is not None and not left_open:
                    verdicts[facet.index, position] = verdict
    return verdicts


def tokens_to_compare(text: str) -> list[str]:
    return word_tokens(text[:COMPARED_CHARACTERS])


def compare_responses(tokens: list[str], accepted: Sequence[list[str]], maximum_similarity: float) -> Fault | None:
    """`similar_response` where ROUGE-L with a sibling is above `maximum_similarity`."""
    for other in accepted:
        # The common subsequence is at most the shorter text: most pairs of unlike length need no comparison.
        total = len(tokens) + len(other)
        if total and 2 * min(len(tokens), len(other)) / total <= maximum_similarity:
            continue
        similarity = rouge_l_tokens(tokens, other) if total else 1.0
        if similarity > maximum_similarity:
            return Fault(
                "similar_response",
                f"ROUGE-L {similarity:.2f} with a sibling; at most {maximum_similarity:.2f} is allowed",
            )
    return None
