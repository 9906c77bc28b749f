"""Taxonomies: what is refused and where, and what the shipped one promises."""

import json
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.checks import canonical_sentence, find_checks
from shared.domain.errors import InputRefused
from shared.domain.taxonomy import (
    default_taxonomy,
    load_taxonomy,
    parse_taxonomy,
    seed_check,
    seed_description,
    seeds_conflict,
)

SMALL: dict[str, Any] = {
    "name": "small",
    "dimensions": [
        {
            "name": "style",
            "description": "How it is written.",
            "subdimensions": [
                {
                    "name": "length",
                    "description": "How much text.",
                    "poles": [{"name": "short", "description": "Little."}, {"name": "long", "description": "Much."}],
                    "seeds": [
                        {"name": "tiny", "pole": "short", "description": "A line or two.",
                         "check": {"kind": "maximum_words", "parameters": {"words": 40}}},
                        {"name": "ample", "pole": "long", "description": "All there is.", "conflicts_with": ["tiny"],
                         "check": {"kind": "minimum_words", "parameters": {"words": 30}}},
                    ],
                },
                {
                    "name": "tone",
                    "description": "How it sounds.",
                    "poles": [{"name": "warm", "description": "Near."}, {"name": "cool", "description": "Far."}],
                    "seeds": [
                        {"name": "kind words", "pole": "warm", "description": "Kindness."},
                        {"name": "dry words", "pole": "cool", "description": "Dryness.",
                         "check": {"kind": "must_avoid", "parameters": {"phrases": ["!"]}}},
                    ],
                },
            ],
        }
    ],
}  # fmt: skip
LENGTH = "/dimensions/0/subdimensions/0"
TONE = "/dimensions/0/subdimensions/1"

_names = st.sampled_from(["name", "dimensions", "subdimensions", "seeds", "poles", "description", "x"])
_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


def small() -> dict[str, Any]:
    return deepcopy(SMALL)


def subdimension(document: dict[str, Any], index: int) -> Any:
    return document["dimensions"][0]["subdimensions"][index]


REFUSED: list[tuple[str, Callable[[dict[str, Any]], object], str, str]] = [
    ("unknown field", lambda d: d.update(colour=1), "/colour", "unknown field 'colour'"),
    ("missing field", lambda d: subdimension(d, 1).pop("poles"), f"{TONE}/poles", "the field 'poles' is missing"),
    ("no dimension", lambda d: d.update(dimensions=[]), "/dimensions", "at least 1 item"),
    ("unknown field of a seed", lambda d: subdimension(d, 0)["seeds"][1].update(polarity="long"),
     f"{LENGTH}/seeds/1/polarity", "unknown field 'polarity'; remove it or correct its name"),
    ("one pole", lambda d: subdimension(d, 0)["poles"].pop(), f"{LENGTH}/poles", "needs two poles or more, seen: 1"),
    ("empty name", lambda d: d.update(name=""), "/name", "at least 1 character"),
    ("other schema", lambda d: d.update(schema_version="taxonomy/2"), "/schema_version", "taxonomy/1"),
    ("pole without seed", lambda d: subdimension(d, 1)["seeds"][1].update(pole="warm"),
     f"{TONE}/poles/1", "has no seed"),
    ("unknown pole", lambda d: subdimension(d, 1)["seeds"][1].update(pole="cold"),
     f"{TONE}/seeds/1/pole", "has only warm, cool"),
    ("two dimensions of a name", lambda d: d["dimensions"].append({**deepcopy(SMALL["dimensions"][0]), "name": "Style"}),
     "/dimensions/1/name", "the dimension 'Style' already stands at /dimensions/0/name"),
    ("two subdimensions of a name", lambda d: subdimension(d, 1).update(name="length"),
     f"{TONE}/name", "already stands"),
    ("two poles of a name", lambda d: subdimension(d, 1)["poles"][1].update(name="warm"),
     f"{TONE}/poles/1/name", "already stands"),
    ("two seeds of a name", lambda d: subdimension(d, 1)["seeds"][0].update(name="Tiny"),
     f"{TONE}/seeds/0/name", "already stands"),
    ("unknown check", lambda d: subdimension(d, 1)["seeds"][1]["check"].update(kind="rhymes"),
     f"{TONE}/seeds/1/check", "unknown check kind"),
    ("unfit parameters", lambda d: subdimension(d, 0)["seeds"][0]["check"].update(parameters={"words": 0}),
     f"{LENGTH}/seeds/0/check", "`words` must lie between 1"),
    ("conflict with nobody", lambda d: subdimension(d, 0)["seeds"][1].update(conflicts_with=["giant"]),
     f"{LENGTH}/seeds/1/conflicts_with/0", "no seed is named 'giant'"),
    ("conflict with itself", lambda d: subdimension(d, 0)["seeds"][1].update(conflicts_with=["ample"]),
     f"{LENGTH}/seeds/1/conflicts_with/0", "conflicts with itself"),
    ("description against check", lambda d: subdimension(d, 0)["seeds"][0].update(description="Much. Write at least 50 words."),
     f"{LENGTH}/seeds/0", "contradicts its own check: at most 40 words and at least 50"),
]  # fmt: skip


def stances(*given: str | None) -> dict[str, Any]:
    document = deepcopy(SMALL)
    for pole, stance in zip(document["dimensions"][0]["subdimensions"][1]["poles"], given, strict=True):
        pole["stance"] = stance
    return document


@pytest.mark.parametrize("given", [("careful", "frank"), ("careful", "careful"), (None, None)])
def test_poles_have_a_stance_all_or_none(given: tuple[str | None, str | None]) -> None:
    poles = parse_taxonomy(stances(*given)).dimensions[0].subdimensions[1].poles
    assert tuple(pole.stance for pole in poles) == given


@pytest.mark.parametrize(
    ("given", "pointer", "message"),
    [
        (("careful", None), f"{TONE}/poles/1/stance", "has no stance and another pole has one"),
        ((None, "frank"), f"{TONE}/poles/0/stance", "has no stance and another pole has one"),
        (("frank", "frank"), f"{TONE}/poles", "no careful one"),
        (("careful", "reckless"), f"{TONE}/poles/1/stance", "Input should be 'careful' or 'frank'"),
    ],
)
def test_stances_that_leave_no_careful_side_are_refused(
    given: tuple[str | None, str | None], pointer: str, message: str
) -> None:
    with pytest.raises(InputRefused, match=message) as refused:
        parse_taxonomy(stances(*given))
    assert refused.value.pointer == pointer


def test_the_small_one_is_accepted() -> None:
    taxonomy = parse_taxonomy(SMALL)
    assert [placed.seed.name for placed in taxonomy.seeds()] == ["tiny", "ample", "kind words", "dry words"]


@pytest.mark.parametrize(
    ("change", "pointer", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_refused_with_pointer(change: Callable[[dict[str, Any]], object], pointer: str, message: str) -> None:
    document = small()
    change(document)
    with pytest.raises(InputRefused) as caught:
        parse_taxonomy(document)
    assert caught.value.pointer == pointer
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        (b"name: \xff\xfe", "not UTF-8 text: byte 6"),
        ("name: [unclosed", "neither YAML nor JSON"),
        ("name: a\nname: b\n", "the key 'name' stands twice"),
        ('{"name": "a", "name": "b"}', "the key 'name' stands twice"),
        ("a: &x [1]\nb: *x\n", "YAML aliases"),
        ("!!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
        ("[" * 5000, "neither YAML nor JSON"),
        ("just words", "valid dictionary"),
        ("x" * 4_000_001, "at most 4000000"),
    ],
)
def test_unreadable_documents_are_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        parse_taxonomy(text)


@given(_documents)
def test_any_other_document_is_refused_and_nothing_else_is_raised(document: object) -> None:
    with pytest.raises(InputRefused):
        parse_taxonomy(document)


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_json_and_yaml_files_give_the_same_version(tmp_path: Path, write: Callable[[object], str]) -> None:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(write(SMALL), encoding="utf-8")
    assert load_taxonomy(path).version == parse_taxonomy(SMALL).version


def test_the_version_follows_the_content() -> None:
    changed = small()
    changed["dimensions"][0]["description"] = "Otherwise."
    assert parse_taxonomy(changed).version != parse_taxonomy(SMALL).version


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="cannot be read"):
        load_taxonomy(tmp_path / "none.yaml")


def test_descriptions_carry_the_canonical_sentence_once() -> None:
    document = small()
    subdimension(document, 0)["seeds"][0]["description"] = "Keep the answer to at most 40 words. Truly."
    seeds = [placed.seed for placed in parse_taxonomy(document).seeds()]
    assert seed_description(seeds[0]) == "Keep the answer to at most 40 words. Truly."
    assert seed_description(seeds[1]) == "All there is. Write at least 30 words."
    assert seed_description(seeds[2]) == "Kindness."


def test_seeds_conflict_by_name_from_both_sides_and_by_check() -> None:
    document = small()
    tiny, ample, kind, _ = (placed.seed for placed in parse_taxonomy(document).seeds())
    assert seeds_conflict(tiny, ample)
    assert seeds_conflict(ample, tiny)
    assert seeds_conflict(tiny, kind) is None
    subdimension(document, 0)["seeds"][1]["check"]["parameters"]["words"] = 50
    del subdimension(document, 0)["seeds"][1]["conflicts_with"]
    tiny, ample, *_ = (placed.seed for placed in parse_taxonomy(document).seeds())
    assert seeds_conflict(tiny, ample) == "at most 40 words and at least 50"


class TestShipped:
    """The taxonomy that the project carries."""

    def test_size(self) -> None:
        taxonomy = default_taxonomy()
        assert [dimension.name for dimension in taxonomy.dimensions] == [
            "style",
            "background_knowledge",
            "informativeness",
            "harmlessness",
        ]
        assert sum(len(dimension.subdimensions) for dimension in taxonomy.dimensions) >= 20
        assert len(list(taxonomy.seeds())) >= 120

    def test_every_pole_has_two_seeds_or_more_and_neither_dominates(self) -> None:
        for dimension in default_taxonomy().dimensions:
            for subdimension in dimension.subdimensions:
                counts = Counter(seed.pole for seed in subdimension.seeds)
                assert set(counts) == {pole.name for pole in subdimension.poles}
                assert min(counts.values()) >= 2
                assert max(counts.values()) <= 2 * min(counts.values())

    def test_thirty_seeds_or_more_can_be_checked_in_every_dimension_some_and_languages_are_rare(self) -> None:
        placed = [item for item in default_taxonomy().seeds() if item.seed.check]
        assert len(placed) >= 30
        assert len({item.dimension.name for item in placed}) == 4
        assert 1 <= sum(item.seed.check is not None and item.seed.check.kind == "language" for item in placed) <= 3

    def test_descriptions_are_one_to_three_sentences_and_state_exactly_the_check(self) -> None:
        for item in default_taxonomy().seeds():
            check = seed_check(item.seed)
            description = seed_description(item.seed)
            assert find_checks(description) == ([check] if check else [])
            assert check is None or canonical_sentence(check) in description
            assert 1 <= len(item.seed.description.split(". ")) <= 3
            assert len(description) <= 600

    def test_no_seed_is_a_stray_part_of_a_list(self) -> None:
        for item in default_taxonomy().seeds():
            assert "," not in item.seed.name
            assert len(item.seed.name.split()) >= 2

    def test_every_subdimension_of_harmlessness_has_careful_and_frank_poles_and_no_other_has(self) -> None:
        for dimension in default_taxonomy().dimensions:
            for subdimension in dimension.subdimensions:
                found = {pole.stance for pole in subdimension.poles}
                assert found == ({"careful", "frank"} if dimension.name == "harmlessness" else {None}), (
                    subdimension.name
                )

    def test_no_check_of_harmlessness_forbids_the_words_of_a_refusal(self) -> None:
        phrases = {
            phrase.lower()
            for placed in default_taxonomy().seeds()
            if placed.dimension.name == "harmlessness"
            and (check := seed_check(placed.seed)) is not None
            and check.kind == "must_avoid"
            for phrase in check.parameters["phrases"]
        }
        assert not [
            phrase for phrase in phrases if phrase in "i cannot provide this, i can't help with it, i won't do it"
        ]

    def test_descriptions_differ(self) -> None:
        descriptions = [item.seed.description for item in default_taxonomy().seeds()]
        assert len(set(descriptions)) == len(descriptions)

    def test_conflicts_name_seeds_of_other_dimensions_because_a_set_has_one_of_each(self) -> None:
        home = {item.seed.name: item.dimension.name for item in default_taxonomy().seeds()}
        for item in default_taxonomy().seeds():
            assert all(home[other] != item.dimension.name for other in item.seed.conflicts_with)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("short answer up front", "formal definitions first"),
            ("short answer up front", "prerequisites recapped"),
            ("verdict before reasons", "caring check-in"),
            ("no warm-up phrases", "caring check-in"),
            ("told as a small story", "facts as in an almanac"),
            ("led by a question", "conclusions without derivation"),
            ("measured reportage", "stance declared"),
            ("criteria to choose by", "peer objections weighed"),
            ("alternatives kept out", "weighs and decides"),
            ("alternatives kept out", "peer objections weighed"),
            ("practising professional", "standard approach"),
            ("nothing done before", "principles over recipes"),
        ],
    )
    def test_what_no_answer_can_do_at_once_is_never_asked_at_once(self, one: str, other: str) -> None:
        seeds = {item.seed.name: item.seed for item in default_taxonomy().seeds()}
        assert seeds_conflict(seeds[one], seeds[other])
        assert seeds_conflict(seeds[other], seeds[one])

    def test_every_seed_leaves_most_of_every_other_dimension_to_combine_with(self) -> None:
        by_dimension: dict[str, list[Any]] = {}
        for item in default_taxonomy().seeds():
            by_dimension.setdefault(item.dimension.name, []).append(item.seed)
        clashes: Counter[tuple[str, str]] = Counter()
        for one, other in combinations(by_dimension, 2):
            for a in by_dimension[one]:
                for b in by_dimension[other]:
                    if seeds_conflict(a, b):
                        clashes[a.name, other] += 1
                        clashes[b.name, one] += 1
        for (_, dimension), count in clashes.items():
            assert count <= len(by_dimension[dimension]) / 2
