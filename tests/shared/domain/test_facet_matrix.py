"""The figures of the facet matrix: what is known to hold of every matrix, and small ones worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.facet_matrix import FacetMatrix, rubric_keys, score_of, utility_of
from shared.domain.rows import NEUTRAL_INDEX, Facet, Preference, Verdict

VERDICTS = ("followed", "partly", "violated")


def preference(subdimension: str, pole: str = "more", description: str | None = None) -> Preference:
    return Preference("d", subdimension, "k", description or f"Wants {pole} {subdimension}.", pole)


def facet(index: int, *preferences: Preference) -> Facet:
    return Facet(index, list(preferences))


def entries(answer: int, of: int, *verdicts: str) -> list[Verdict]:
    """`f`, `p` and `v` by position; `-` is unknown."""
    names = {"f": "followed", "p": "partly", "v": "violated"}
    return [Verdict(answer, of, n, names[one], "judge") for n, one in enumerate("".join(verdicts)) if one != "-"]


facet_lists = st.lists(
    st.lists(
        st.builds(preference, st.sampled_from("abcdef"), st.sampled_from(("more", "less"))), min_size=1, max_size=5
    ),
    min_size=2,
    max_size=4,
).map(lambda sets: [Facet(index, list(one)) for index, one in enumerate(sets)])


@st.composite
def matrices(draw: st.DrawFn, *, alike: bool = False) -> tuple[list[Facet], list[Verdict]]:
    facets = draw(facet_lists)
    chosen = st.sampled_from((*VERDICTS, None))
    verdicts = []
    for one in facets:
        for position in range(len(one.preferences)):
            same = draw(chosen)
            for answer in (*range(len(facets)), NEUTRAL_INDEX):
                verdict = same if alike else draw(chosen)
                if verdict is not None:
                    verdicts.append(Verdict(answer, one.index, position, verdict, "judge"))
    return facets, verdicts


def test_scores_and_utilities() -> None:
    assert [score_of(one) for one in VERDICTS] == [5, 3, 1]
    assert [utility_of(one) for one in VERDICTS] == [1.0, 0.5, 0.0]
    with pytest.raises(KeyError):
        score_of("perhaps")


def test_the_same_pole_or_the_same_words_are_one_wish() -> None:
    brief = preference("length", "less")
    coined = preference("anything", "", "Names  every SOURCE.")
    assert rubric_keys([[brief], [preference("tone"), preference("length", "less", "Short, please.")]]) == [[0], [1, 0]]
    assert rubric_keys([[brief], [preference("length", "more", "Long, please.")]]) == [[0], [1]]
    assert rubric_keys([[coined], [preference("else", "more", "Names every source.")]]) == [[0], [0]]
    assert rubric_keys([[coined], [preference("anything", "", "Names no source.")]]) == [[0], [1]]
    assert rubric_keys([[brief], []]) == [[0], []]


def test_wishes_that_hang_together_by_a_third_are_one() -> None:
    by_pole, by_words = preference("length", "less", "Short."), preference("else", "", "Few words.")
    both = preference("length", "less", "Few words.")
    assert rubric_keys([[by_pole], [by_words], [both]]) == [[0], [0], [0]]
    assert rubric_keys([[by_pole], [by_words]]) == [[0], [1]]


@given(matrices(alike=True))
def test_one_answer_for_everybody_is_exactly_unspecific(drawn: tuple[list[Facet], list[Verdict]]) -> None:
    matrix = FacetMatrix(*drawn)
    for one in drawn[0]:
        assert matrix.facet_specificity(one.index) in (None, 0.0)


@given(matrices(), st.data())
def test_exchanging_two_answers_changes_the_sign_of_a_margin(
    drawn: tuple[list[Facet], list[Verdict]], data: st.DataObject
) -> None:
    facets, verdicts = drawn
    own, other = data.draw(st.permutations(range(len(facets))))[:2]
    swap = {own: other, other: own}
    exchanged = [
        Verdict(swap.get(one.answer, one.answer), one.facet, one.preference, one.verdict, one.source)
        for one in verdicts
    ]
    margin, after = FacetMatrix(facets, verdicts).margin(own, other), FacetMatrix(facets, exchanged).margin(own, other)
    assert (margin is None) == (after is None)
    if margin is not None and after is not None:
        assert margin == -after


@given(matrices())
def test_bounds_and_what_a_better_own_answer_does(drawn: tuple[list[Facet], list[Verdict]]) -> None:
    facets, verdicts = drawn
    matrix = FacetMatrix(facets, verdicts)
    better = FacetMatrix(
        facets,
        [
            Verdict(one.answer, one.facet, one.preference, "followed", one.source) if one.answer == one.facet else one
            for one in verdicts
        ],
    )
    for own in facets:
        assert set(matrix.moot(own.index)) <= set(range(len(own.preferences)))
        assert matrix.is_moot(own.index) == (len(matrix.moot(own.index)) == len(own.preferences))
        assert not set(matrix.moot(own.index)) & set(matrix.ignored(own.index))
        score = matrix.own_score(own.index)
        assert score is None or 0 <= score <= 1
        for other in facets:
            if own is other:
                continue
            margin, now = matrix.margin(own.index, other.index), better.margin(own.index, other.index)
            assert margin is None or -1 <= margin <= 1
            assert (margin is None) == (now is None)
            if margin is not None and now is not None:
                assert now >= margin
        specificity = matrix.facet_specificity(own.index)
        assert specificity is None or -1 <= specificity <= 1


def test_a_margin_leaves_out_what_both_want() -> None:
    facets = [
        facet(0, preference("length"), preference("tone")),
        facet(1, preference("tone"), preference("length", "less")),
    ]
    matrix = FacetMatrix(
        facets,
        [*entries(0, 0, "ff"), *entries(1, 0, "vf"), *entries(0, 1, "fp"), *entries(1, 1, "ff")],
    )
    assert matrix.difference(0, 1) == [0]
    assert matrix.difference(1, 0) == [1]
    assert matrix.margin(0, 1) == 1.0
    assert matrix.margin(1, 0) == 0.5
    assert matrix.facet_specificity(0) == 1.0
    assert matrix.facet_specificity(1) == 0.5


def test_what_is_not_known_is_left_out() -> None:
    facets = [facet(0, preference("a"), preference("b")), facet(1, preference("c"))]
    matrix = FacetMatrix(facets, [*entries(0, 0, "ff"), *entries(1, 0, "-v")])
    assert matrix.margin(0, 1) == 1.0
    assert matrix.margin(1, 0) is None
    assert matrix.own_score(1) is None
    assert matrix.facet_specificity(0) == 1.0
    assert FacetMatrix(facets, []).facet_specificity(0) is None
    assert FacetMatrix(facets[:1], entries(0, 0, "fp")).facet_specificity(0) is None
    assert FacetMatrix(facets[:1], [*entries(0, 0, "f"), *entries(0, 1, "v")]).own_score(0) == 1.0


def test_same_wishes_have_no_margin() -> None:
    facets = [facet(0, preference("a")), facet(1, preference("a"), preference("b"))]
    matrix = FacetMatrix(facets, [*entries(0, 0, "f"), *entries(1, 0, "v"), *entries(0, 1, "vv"), *entries(1, 1, "ff")])
    assert matrix.margin(0, 1) is None
    assert matrix.margin(1, 0) == 1.0


def test_moot_is_what_every_answer_follows_unasked() -> None:
    facets = [facet(0, preference("a"), preference("b")), facet(1, preference("a"), preference("c"))]
    followed = [*entries(0, 0, "ff"), *entries(1, 0, "ff")]
    # The sibling shares `a`: that it follows it, too, tells nothing; nobody asked it for `b`.
    assert FacetMatrix(facets, followed).moot(0) == [1]
    assert not FacetMatrix(facets, followed).is_moot(0)
    neutral = [*followed, *entries(NEUTRAL_INDEX, 0, "ff")]
    assert FacetMatrix(facets, neutral).moot(0) == [0, 1]
    assert FacetMatrix(facets, neutral).is_moot(0)
    assert FacetMatrix(facets, neutral).own_score(0) is None
    for changed in ([*followed, *entries(NEUTRAL_INDEX, 0, "fp")], [*entries(0, 0, "fv"), *neutral[2:]]):
        assert FacetMatrix(facets, changed).moot(0) == [0]
    assert FacetMatrix(facets, entries(0, 0, "ff")).moot(0) == []


def test_moot_preferences_do_not_count_in_the_own_score() -> None:
    facets = [facet(0, preference("a"), preference("b"), preference("c")), facet(1, preference("d"))]
    verdicts = [*entries(0, 0, "ffv"), *entries(1, 0, "fvv"), *entries(NEUTRAL_INDEX, 0, "fvv")]
    assert FacetMatrix(facets, verdicts).moot(0) == [0]
    assert FacetMatrix(facets, verdicts).own_score(0) == 0.5


def test_ignored_is_what_others_follow_unasked() -> None:
    facets = [facet(0, preference("a"), preference("b"), preference("c")), facet(1, preference("b"))]
    own = entries(0, 0, "vvp")
    assert FacetMatrix(facets, own).ignored(0) == []
    assert FacetMatrix(facets, [*own, *entries(NEUTRAL_INDEX, 0, "fpf")]).ignored(0) == [0]
    # The sibling was asked for `b`, so that it follows `b` says nothing about what is easy.
    assert FacetMatrix(facets, [*own, *entries(1, 0, "ffv")]).ignored(0) == [0]
