"""A catalogue holds what can be asked of an answer in the instruction's language."""

import pytest

from services.augmentation.catalogue import build_catalogue, catalogue_of
from services.augmentation.sampler import QuotaSampler
from shared.domain.checks import canonical_sentence, presumes_language, validate_check
from shared.domain.jobs import AugmentParameters
from shared.domain.splits import HeldOut
from shared.domain.taxonomy import Taxonomy, default_taxonomy
from tests.support.taxonomies import small_taxonomy


@pytest.mark.parametrize(
    ("kind", "parameters", "presumes"),
    [
        ("must_include", {"phrases": ["for example"]}, True),
        ("must_avoid", {"phrases": ["!"]}, False),
        ("must_avoid", {"phrases": ["?", "of course"]}, True),
        ("ends_with", {"phrase": "Hope that helps!"}, True),
        ("reading_level_at_most", {"grade": 6}, True),
        ("language", {"language": "fr"}, True),
        ("maximum_words", {"words": 80}, False),
        ("format", {"format": "table"}, False),
    ],
)
def test_words_reading_levels_and_languages_belong_to_one_language(
    kind: str, parameters: dict[str, object], presumes: bool
) -> None:
    assert presumes_language(validate_check(kind, parameters)) is presumes


def test_other_languages_get_no_check_that_presumes_the_taxonomys_own_and_keep_both_poles() -> None:
    taxonomy = default_taxonomy()
    foreign = catalogue_of(taxonomy, "de")
    assert not [seed.name for seed in foreign.seeds if seed.check and presumes_language(seed.check)]
    assert [seed.name for seed in foreign.seeds if seed.check]
    poles: dict[str, set[str]] = {}
    for seed in foreign.seeds:
        poles.setdefault(seed.subdimension, set()).add(seed.pole)
    assert {len(names) for names in poles.values()} == {2}
    assert set(foreign.dimensions) == {dimension.name for dimension in taxonomy.dimensions}
    sampler = QuotaSampler(foreign, HeldOut(), AugmentParameters(), 1)
    assert all(None not in sampler.assign(draw, "") for draw in range(64))


def test_a_taxonomy_in_another_language_keeps_its_phrases_for_that_language() -> None:
    taxonomy = default_taxonomy().model_copy(update={"language": "de"})
    assert len(catalogue_of(taxonomy, "de").seeds) == len(catalogue_of(default_taxonomy(), "en").seeds)
    assert len(catalogue_of(taxonomy, "en").seeds) < len(catalogue_of(taxonomy, "de").seeds)


def test_a_dimension_that_has_nothing_else_keeps_its_seeds() -> None:
    data = small_taxonomy().model_dump(mode="json")
    for subdimension in data["dimensions"][0]["subdimensions"]:
        for number, seed in enumerate(subdimension["seeds"]):
            seed["check"] = {"kind": "must_include", "parameters": {"phrases": [f"word{number}"]}}
    foreign = build_catalogue(Taxonomy.model_validate(data), own_language=False)
    assert all(canonical_sentence(seed.check) for seed in foreign.seeds if seed.check)
    assert foreign.cells["style"]


def test_a_catalogue_is_built_once_per_version() -> None:
    assert catalogue_of(small_taxonomy()) is catalogue_of(small_taxonomy())
    assert catalogue_of(small_taxonomy()) is catalogue_of(small_taxonomy(), "en")
    assert catalogue_of(small_taxonomy()) is not catalogue_of(small_taxonomy(), "de")
    assert catalogue_of(small_taxonomy()) is not catalogue_of(default_taxonomy())
