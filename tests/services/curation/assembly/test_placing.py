"""What falls out of training says why, and a test facet has the level of what it really shows."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.curation.assembly.placing import (
    TrainingFacts,
    TrainingGate,
    hardest,
    held_out_preferences,
    held_out_texts,
    without_check_sentence,
)
from shared.domain.checks import canonical_sentence
from shared.domain.containment import HeldOutTexts
from shared.domain.rows import Check, Facet, InstructionRow, Preference
from shared.domain.splits import HeldOut, SplitLevel
from tests.services.curation.assembly.synthetic import small_taxonomy

HELD_DESCRIPTION = "Wants every claim to name the source that it was taken from."
CHECK = Check("maximum_words", {"words": 80})


def preference(subdimension: str, pole: str, number: int = 0, **more: object) -> Preference:
    fields: dict[str, object] = {
        "dimension": "style",
        "subdimension": subdimension,
        "preference": "a few keywords",
        "description": f"Something about {subdimension} that leans to {pole}.",
        "pole": pole,
        "seed_name": f"{pole} {subdimension} {number}",
    }
    return Preference(**fields | more)  # type: ignore[arg-type]


BRIEF, FORMAL, NOVICE, OVERVIEW = (
    preference("conciseness", "brief"),
    preference("tone", "formal"),
    preference("expertise", "novice"),
    preference("depth", "overview"),
)


def facet_of(
    *preferences: Preference, form: str | None = "terse_rules", role: str | None = None, system: str = "Do."
) -> Facet:
    return Facet(0, list(preferences), system=system, system_form=form, system_role=role, response="Done.")


def cell(entry: Preference) -> tuple[str, str]:
    return entry.subdimension, entry.pole


def seed_with_combination(*preferences: Preference, held: bool) -> int:
    """A seed with which the combination is held out, or is not."""
    cells = [cell(entry) for entry in preferences]
    return next(seed for seed in range(10_000) if HeldOut(seed=seed).holds_combination(cells) is held)


def called(keywords: str, subdimension: str = "own matter", seed_name: str = "") -> Preference:
    return Preference("style", subdimension, keywords, "Something that nobody has said before.", "", seed_name)


# ---- the gate ------------------------------------------------------------------------------------------------------

NOT_COMBINED = seed_with_combination(BRIEF, FORMAL, NOVICE, held=False)
HELD_OUT = HeldOut(
    subdimensions=frozenset({"privacy"}),
    seeds=frozenset({"brief conciseness 2"}),
    pairs=frozenset({frozenset((cell(FORMAL), cell(OVERVIEW)))}),
    forms=frozenset({"user_letter"}),
    roles=frozenset({"a locksmith"}),
    seed=NOT_COMBINED,
)
GATE = TrainingGate(HELD_OUT, HeldOutTexts([HELD_DESCRIPTION], 0.6))
PARAPHRASE = "It is the source that every claim was taken from that it wants to name."


@pytest.mark.parametrize(
    ("facet", "reason", "detail"),
    [
        (facet_of(preference("conciseness", "brief", 2), FORMAL), "held_out_preference", "brief conciseness 2"),
        (facet_of(preference("privacy", "open", 1), FORMAL), "held_out_preference", "open privacy 1"),
        (
            facet_of(preference("privacy", "", seed_name="", preference="coined keywords")),
            "held_out_preference",
            "coined keywords",
        ),
        (facet_of(BRIEF, called("brief conciseness 2")), "held_out_preference", "brief conciseness 2"),
        (facet_of(BRIEF, called(" Brief-Conciseness  2.")), "held_out_preference", "Brief-Conciseness"),
        (facet_of(BRIEF, called("k", "Brief conciseness 2")), "held_out_preference", "Brief conciseness 2"),
        (facet_of(called("brief conciseness 2", "tone", "formal tone 0")), "held_out_preference", "brief conciseness 2"),
        (facet_of(OVERVIEW, BRIEF, FORMAL), "held_out_pair", "pair"),
        (facet_of(FORMAL, preference("depth", "overview", seed_name="")), "held_out_pair", "pair"),
        (facet_of(BRIEF, FORMAL, form="user_letter"), "held_out_wording", "user_letter"),
        (facet_of(BRIEF, FORMAL, form="role_first_prose", role="a locksmith"), "held_out_wording", "a locksmith"),
        (facet_of(BRIEF, preference("tone", "formal", description=HELD_DESCRIPTION)), "near_held_out", "100%"),
        (facet_of(BRIEF, preference("tone", "formal", description=PARAPHRASE)), "near_held_out", "Wants every"),
        (facet_of(BRIEF, system=f"You help people. {HELD_DESCRIPTION.upper()} You are kind."), "near_held_out", "100%"),
    ],
)  # fmt: skip
def test_the_gate_says_why_a_facet_may_not_train(facet: Facet, reason: str, detail: str) -> None:
    fault = GATE.fault(facet)
    assert fault is not None
    assert fault.reason == reason
    assert detail in fault.detail


@pytest.mark.parametrize(
    "facet",
    [
        facet_of(BRIEF, FORMAL, NOVICE),
        facet_of(),
        facet_of(OVERVIEW, preference("tone", "casual"), role="a village librarian"),
        facet_of(BRIEF, FORMAL, form=None, system=""),
        facet_of(BRIEF, called("brief conciseness 22")),
    ],
)
def test_the_gate_lets_through_what_holds_nothing_of_it(facet: Facet) -> None:
    assert GATE.fault(facet) is None


def test_a_seed_may_bear_its_own_name_where_a_held_out_one_differs_from_it_in_signs_alone() -> None:
    held_out = HeldOut(seeds=frozenset({"brief-conciseness 2"}))
    assert held_out.name_of(called("brief conciseness 2", "conciseness", "brief conciseness 2")) is None
    assert held_out.name_of(called("brief conciseness 2", "conciseness", "brief conciseness 1")) is not None


def test_a_held_out_combination_is_one_of_assigned_poles() -> None:
    coined = preference("a coined matter", "", seed_name="")
    gate = TrainingGate(HeldOut(seed=seed_with_combination(BRIEF, FORMAL, NOVICE, held=True)), HeldOutTexts([], 0.6))
    for facet in (facet_of(BRIEF, FORMAL, NOVICE), facet_of(NOVICE, coined, FORMAL, BRIEF)):
        fault = gate.fault(facet)
        assert fault is not None
        assert fault.reason == "held_out_combination"
    assert gate.fault(facet_of(BRIEF, FORMAL, coined)) is None


def test_the_sentence_of_a_machine_check_is_no_wording() -> None:
    sentence = canonical_sentence(CHECK)
    checked = preference("conciseness", "brief", description=f"Wants it short. {sentence}", check=CHECK)
    assert sentence not in without_check_sentence(checked)
    gate = TrainingGate(HeldOut(combinations=False), HeldOutTexts([sentence], 0.6))
    assert gate.fault(facet_of(checked)) is None
    unmarked = gate.fault(facet_of(preference("conciseness", "brief", description=sentence)))
    assert unmarked is not None


def test_held_out_texts_are_descriptions_of_seeds_their_wordings_and_unseen_system_messages() -> None:
    taxonomy = small_taxonomy()
    held_out = HeldOut(seeds=frozenset({"brief conciseness 2"}))
    told = "What a teacher made of the held-out preference for this one instruction."
    beside = "What a teacher made of another preference of the very same set."
    rows = []
    for level in SplitLevel:
        held = preference("conciseness", "brief", 2, description=told)
        other = preference("tone", "formal", description=beside)
        system = f"The whole system message of a test row with the level {level.value}."
        rows.append(InstructionRow("r", "i", "s", "s", 0, level=level, facets=[facet_of(held, other, system=system)]))
    texts = set(held_out_texts(taxonomy, held_out, rows, 0.6).texts)
    described = {seed.description for _, _, seed in taxonomy.seeds() if seed.name in held_out.seeds}
    unseen = {
        f"The whole system message of a test row with the level {level}."
        for level in ("unseen_wording", "unseen_preference", "unseen_subdimension")
    }
    assert texts == described | {told} | unseen


def test_held_out_preferences_are_named_by_seed_or_by_keywords() -> None:
    facet = facet_of(preference("conciseness", "brief", 2), FORMAL, preference("privacy", "", seed_name=""))
    assert held_out_preferences(facet, HELD_OUT) == ["brief conciseness 2", "a few keywords"]


# ---- levels --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def facts() -> TrainingFacts:
    """Training with three preferences at most, every pair of the first four poles, and two of their combinations."""
    facts = TrainingFacts()
    facts.add(facet_of(BRIEF, FORMAL, NOVICE))
    facts.add(facet_of(BRIEF, FORMAL, OVERVIEW, form="short_brief"))
    facts.add(facet_of(NOVICE, OVERVIEW, form="role_first_prose", role="a village librarian"))
    facts.add(facet_of(preference("tone", "casual")))
    return facts


@pytest.mark.parametrize(
    ("facet", "level"),
    [
        (facet_of(NOVICE, FORMAL, BRIEF), "seen"),
        (facet_of(OVERVIEW, NOVICE, form="role_first_prose", role="a village librarian"), "seen"),
        (facet_of(BRIEF, NOVICE, OVERVIEW), "unseen_combination"),
        (facet_of(BRIEF, FORMAL), "unseen_combination"),
        (facet_of(BRIEF, preference("tone", "casual")), "unseen_pair"),
        (facet_of(BRIEF, FORMAL, NOVICE, form="user_letter"), "unseen_wording"),
        (facet_of(BRIEF, FORMAL, NOVICE, form="role_first_prose", role="a locksmith"), "unseen_wording"),
        (facet_of(BRIEF, FORMAL, NOVICE, OVERVIEW), "more_preferences"),
        (facet_of(BRIEF, FORMAL, preference("expertise", "novice", 1)), "unseen_preference"),
        (facet_of(BRIEF, FORMAL, preference("privacy", "open")), "unseen_subdimension"),
    ],
)
def test_every_level_is_known_by_what_training_has_not(facts: TrainingFacts, facet: Facet, level: str) -> None:
    assert facts.level_of(facet) == level


FROM_EASIEST = [
    SplitLevel.SEEN,
    SplitLevel.UNSEEN_COMBINATION,
    SplitLevel.UNSEEN_PAIR,
    SplitLevel.UNSEEN_WORDING,
    SplitLevel.MORE_PREFERENCES,
    SplitLevel.UNSEEN_PREFERENCE,
    SplitLevel.UNSEEN_SUBDIMENSION,
]


@pytest.mark.parametrize("step", range(7))
def test_of_several_things_a_facet_has_the_level_of_the_hardest(facts: TrainingFacts, step: int) -> None:
    """Whatever is hard is added to what is easier."""
    entries = [BRIEF, FORMAL, NOVICE]
    form = "terse_rules"
    if step >= 1:
        entries = [BRIEF, NOVICE, OVERVIEW]
    if step >= 2:
        entries = [BRIEF, preference("tone", "casual"), NOVICE]
    if step >= 3:
        form = "user_letter"
    if step >= 4:
        entries = [*entries, OVERVIEW]
    if step >= 5:
        entries = [preference("conciseness", "brief", 1), *entries[1:]]
    if step >= 6:
        entries = [*entries, preference("privacy", "open")]
    assert facts.level_of(facet_of(*entries, form=form)) is FROM_EASIEST[step]


@given(st.lists(st.sampled_from(list(SplitLevel)), min_size=1))
def test_the_hardest_is_one_of_them_and_none_is_harder(levels: list[SplitLevel]) -> None:
    found = hardest(levels)
    assert found in levels
    assert all(FROM_EASIEST.index(level) <= FROM_EASIEST.index(found) for level in levels)


def test_the_order_of_preferences_makes_no_difference(facts: TrainingFacts) -> None:
    entries = [BRIEF, NOVICE, OVERVIEW]
    assert {facts.level_of(facet_of(*order)) for order in permutations(entries)} == {SplitLevel.UNSEEN_COMBINATION}


def test_without_training_everything_is_unseen() -> None:
    assert TrainingFacts().level_of(facet_of(BRIEF)) is SplitLevel.UNSEEN_SUBDIMENSION
