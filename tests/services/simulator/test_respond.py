"""Responses really satisfy the machine checks that stand in their system message, alone and together."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.simulator.phrases import load_phrases
from services.simulator.respond import answer_off_language, answer_respond
from shared.domain.checks import (
    CHECK_KINDS,
    Check,
    canonical_sentence,
    conflict,
    evaluate,
    first_conflict,
    validate_check,
)
from shared.domain.checks.answer_language import LANGUAGE_NAMES
from shared.domain.language import detect_language
from shared.domain.similarity import rouge_l
from shared.domain.taxonomy import default_taxonomy, seed_check, seed_description
from tests.services.simulator.support import INSTRUCTION

PARAMETERS: dict[str, list[dict[str, object]]] = {
    "maximum_words": [{"words": number} for number in (12, 40, 150)],
    "minimum_words": [{"words": number} for number in (20, 80, 300)],
    "sentence_count_at_most": [{"sentences": number} for number in (1, 2, 6)],
    "maximum_sentence_words": [{"words": number} for number in (8, 12, 20)],
    "format": [
        {"format": name} for name in ("numbered_list", "bullet_list", "plain_prose", "json", "table", "headings")
    ],
    "reading_level_at_most": [{"grade": grade} for grade in (3, 6, 12)],
    "reading_level_at_least": [{"grade": grade} for grade in (8, 12, 16)],
    "must_include": [{"phrases": ["for example"]}, {"phrases": ["in short", "Good luck!"]}],
    "must_include_one": [{"phrases": ["for example", "in short"]}, {"phrases": ["the one thing", "Good luck!"]}],
    "must_avoid": [
        {"phrases": ["very", "really", "just"]},
        {"phrases": ["!", ";"]},
        {"phrases": ["the", "a", "of", "to", "it", "is", "and"]},
    ],
    "starts_with": [{"phrase": "In short"}, {"phrase": "Dear reader,"}, {"phrase": "Sure!"}],
    "ends_with": [{"phrase": "What do you think?"}, {"phrase": "Good luck"}],
    "language": [{"language": code} for code in ("en", "de", "fr", "ja", "ru", "vi")],
}
CHECKS = [validate_check(kind, parameters) for kind, several in PARAMETERS.items() for parameters in several]


def system_of(*checks: Check) -> str:
    return " ".join(["You are a calm mentor who loves frank anecdotes.", *map(canonical_sentence, checks)])


def failures(checks: tuple[Check, ...], instruction: str = INSTRUCTION, digest: bytes = b"0") -> list[str]:
    answer = answer_respond(system_of(*checks), instruction, 0, digest)
    outcomes = [(check, evaluate(check, answer)) for check in checks]
    return [f"{check.kind}: {outcome.detail} in {answer!r}" for check, outcome in outcomes if outcome.outcome == "fail"]


def test_every_kind_of_check_is_tried_here() -> None:
    assert PARAMETERS.keys() == CHECK_KINDS.keys()


@pytest.mark.parametrize("check", CHECKS, ids=canonical_sentence)
def test_single_check_passes(check: Check) -> None:
    for digest in (b"1", b"2", b"3"):
        answer = answer_respond(system_of(check), INSTRUCTION, 0, digest)
        assert evaluate(check, answer).outcome == "pass", answer


@pytest.mark.parametrize("first", CHECKS, ids=canonical_sentence)
def test_no_pair_of_checks_without_conflict_fails(first: Check) -> None:
    for second in CHECKS:
        if second != first and conflict(first, second) is None:
            assert failures((first, second)) == []


@pytest.mark.parametrize("code", sorted(LANGUAGE_NAMES))
def test_every_language_that_can_be_demanded_is_written(code: str) -> None:
    check = validate_check("language", {"language": code})
    answer = answer_respond(system_of(check), INSTRUCTION, 0, b"0")
    assert evaluate(check, answer).outcome == "pass", answer


SEEDS = [
    (seed.name, check)
    for dimension in default_taxonomy().dimensions
    for subdimension in dimension.subdimensions
    for seed in subdimension.seeds
    if (check := seed_check(seed)) is not None
]


@pytest.mark.parametrize(("name", "check"), SEEDS, ids=[name for name, _ in SEEDS])
def test_every_seed_of_the_default_taxonomy_is_satisfied(name: str, check: Check) -> None:
    for digest in (b"1", b"2", b"3"):
        assert failures((check,), digest=digest) == []


def test_no_pair_of_seeds_of_the_default_taxonomy_fails() -> None:
    for (_, first), (_, second) in combinations(SEEDS, 2):
        if conflict(first, second) is None:
            assert failures((first, second)) == []


@settings(deadline=None, max_examples=150)
@given(st.sets(st.integers(0, len(SEEDS) - 1), min_size=1, max_size=4), st.binary(max_size=4))
def test_sets_of_seeds_rarely_fail_and_always_get_an_answer(numbers: set[int], digest: bytes) -> None:
    checks = tuple(SEEDS[number][1] for number in sorted(numbers))
    if first_conflict(checks) is None:
        # Conflicts are known for pairs alone: three checks can contradict each other where no two do.
        assert len(failures(checks, digest=digest)) <= max(0, len(checks) - 2)
    assert answer_respond(system_of(*checks), INSTRUCTION, 0, digest)


INSTRUCTIONS = {
    "de": "Wie halte ich Tomaten auf einem windigen Balkon durch einen trockenen Sommer am Leben?",
    "fr": "Comment garder des tomates en vie sur un balcon venteux pendant un été sec ?",
    "es": "¿Cómo mantengo vivos los tomates en un balcón con mucho viento durante un verano seco?",
    "it": "Come faccio a tenere in vita i pomodori su un balcone ventoso durante un'estate secca?",
    "pt": "Como mantenho os tomates vivos em uma varanda com muito vento durante um verão seco?",
    "nl": "Hoe houd ik tomaten in leven op een winderig balkon tijdens een droge zomer?",
    "zh": "在多风的阳台上，怎样让番茄在干燥的夏天活下来？",
    "ja": "風の強いベランダで、乾いた夏のあいだトマトを枯らさないにはどうすればいいですか。",
    "id": "Bagaimana cara menjaga tomat tetap hidup di balkon yang berangin selama musim panas yang kering?",
    "en": INSTRUCTION,
}


@pytest.mark.parametrize("code", sorted(INSTRUCTIONS))
def test_answer_is_in_the_language_of_the_instruction(code: str) -> None:
    for digest in (b"1", b"2"):
        answer = answer_respond("You are a calm mentor who loves frank anecdotes.", INSTRUCTIONS[code], 0, digest)
        found = detect_language(answer)
        assert found is not None
        assert found[0] == code


@pytest.mark.parametrize("code", ["en", "de", "fr"])
def test_off_language_answer_is_in_another_language(code: str) -> None:
    found = detect_language(answer_off_language(INSTRUCTIONS[code], 0, b"0"))
    assert found is not None
    assert found[0] not in (code, "en")


def test_stock_of_every_language_is_in_that_language() -> None:
    for code, sentences in load_phrases().languages.items():
        found = detect_language(" ".join(sentences).replace("{t}", "Kyoto"))
        assert found is not None
        assert found[0] == code


SYSTEMS = (
    "You are a patient guide. The reader enjoys historical anecdotes and vivid metaphors.",
    "You are a brisk coach. The person wants numbers, measurable targets and frank warnings.",
    "You are an editor. Readers value gentle reassurance, household vocabulary and humour.",
)


def test_siblings_differ_and_take_up_their_own_system_message() -> None:
    instructions = [INSTRUCTION, *(f"Explain topic {n} of marine biology to my cousin" for n in range(40))]
    similarities = []
    for instruction in instructions:
        answers = [answer_respond(system, instruction, 0, system.encode()) for system in SYSTEMS]
        similarities.extend(rouge_l(a, b) for a, b in combinations(answers, 2))
        wishes = (
            "historical anecdotes vivid metaphors",
            "numbers measurable targets frank warnings",
            "gentle reassurance",
        )
        assert all(any(word in answer for word in wish.split()) for wish, answer in zip(wishes, answers, strict=True))
    assert max(similarities) < 0.8


def test_answer_depends_on_instruction_seed_and_body() -> None:
    base = answer_respond(SYSTEMS[0], INSTRUCTION, 0, b"0")
    assert answer_respond(SYSTEMS[0], INSTRUCTION, 0, b"0") == base
    assert answer_respond(SYSTEMS[0], INSTRUCTION, 1, b"0") != base
    assert answer_respond(SYSTEMS[0], INSTRUCTION, 0, b"1") != base
    other = answer_respond(SYSTEMS[0], "Explain how volcanoes erupt under glaciers", 0, b"0")
    assert "volcanoes" in other or "glaciers" in other


def test_answer_says_that_it_is_simulated() -> None:
    answers = [answer_respond(SYSTEMS[0], INSTRUCTION, 0, bytes([n])) for n in range(20)]
    assert all("simulated" in answer.lower() or "mock" in answer.lower() for answer in answers)


def test_seed_descriptions_demand_nothing_but_their_own_check() -> None:
    for dimension in default_taxonomy().dimensions:
        for subdimension in dimension.subdimensions:
            for seed in subdimension.seeds:
                check = seed_check(seed)
                system = f"You are a guide. {seed_description(seed)} {canonical_sentence(check) if check else ''}"
                answer = answer_respond(system, INSTRUCTION, 0, seed.name.encode())
                assert check is None or evaluate(check, answer).outcome != "fail", (seed.name, answer)
