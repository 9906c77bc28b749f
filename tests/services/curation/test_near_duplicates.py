"""Near duplicates: what is removed is verified, what is planted is found, and the first stays."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.curation.near_duplicates import MISS_PROBABILITY, PERMUTATIONS, Match, NearDuplicates, band_layout
from shared.overlap.shingles import words_and_signs_of


def jaccard(first: str, second: str) -> float:
    sets = []
    for text in (first, second):
        words = words_and_signs_of(text)
        sets.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set())
    union = sets[0] | sets[1]
    return len(sets[0] & sets[1]) / len(union) if union else 0.0


def find(texts: list[str], threshold: float = 0.8, portions: int = 1) -> dict[int, Match]:
    near = NearDuplicates(threshold)
    size = -(-len(texts) // portions) or 1
    for start in range(0, len(texts), size):
        near.add(texts[start : start + size])
    return near.find()


def planted(count: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    chance = random.Random(seed)
    texts = [" ".join(f"w{chance.randrange(3000)}" for _ in range(chance.randrange(12, 80))) for _ in range(count)]
    pairs = []
    for original in range(0, count, 4):
        words = texts[original].split()
        for _ in range(chance.choice([1, 1, 2, 6])):
            words[chance.randrange(len(words))] = "changed"
        pairs.append((original, len(texts)))
        texts.append(" ".join(words))
    return texts, pairs


def test_recall_and_precision_on_planted_pairs() -> None:
    texts, pairs = planted(2000, seed=3)
    removed = find(texts)
    true_pairs = [(original, copy) for original, copy in pairs if jaccard(texts[original], texts[copy]) >= 0.8]
    assert len(true_pairs) > 100
    assert sum(copy in removed for _, copy in true_pairs) / len(true_pairs) >= 0.99
    assert all(jaccard(texts[copy], texts[match.kept]) >= 0.8 for copy, match in removed.items())


def test_the_first_stays_and_the_similarity_is_exact() -> None:
    base = "one two three four five six seven eight nine ten eleven twelve"
    texts = ["something else altogether in this text", base, base + " thirteen", base]
    removed = find(texts)
    assert set(removed) == {2, 3}
    assert removed[2] == Match(1, 10 / 11)
    assert removed[3] == Match(1, 1.0)


def test_a_row_is_never_removed_for_a_row_that_is_removed() -> None:
    words = [f"w{n}" for n in range(60)]
    chain = [" ".join([*words[:50], *(f"x{step}-{n}" for n in range(step * 4))]) for step in range(5)]
    removed = find(chain)
    assert all(match.kept not in removed for match in removed.values())


def test_portions_do_not_matter() -> None:
    texts, _ = planted(300, seed=5)
    assert find(texts, portions=1) == find(texts, portions=7)


def test_a_mass_of_equal_texts_leaves_one() -> None:
    removed = find(["the same text over and over again"] * 3000)
    assert len(removed) == 2999
    assert {match.kept for match in removed.values()} == {0}


def test_texts_without_words_are_no_duplicates_of_each_other() -> None:
    assert find(["!!!", "???", ""]) == {}
    assert find([]) == {}


def test_short_and_unspaced_texts() -> None:
    assert set(find(["Hello there", "hello THERE!", "Hello you"])) == {1}
    assert set(
        find(
            [
                "今日の天気はどうですか教えてください",
                "今日の天気はどうですか教えてくださいね",
                "東京の歴史を説明してください",
            ]
        )
    ) == {1}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Solve x^2 + 5x - 6 = 0.", "Solve x^2 - 5x + 6 = 0."),
        ("12 - 3 + 4 * 5", "12 + 3 * 4 - 5"),
        ("Explain C++ to a C team", "Explain C to a C# team"),
        ("Is 1.5 > 1.25? Explain it", "Is 1.5 < 1.25? Explain it"),
        ("What is 6 × 7 + 1?", "What is 6 ÷ 7 + 1?"),
        ("Compute 5! + 3", "Compute 5 + 3"),
    ],
)
def test_other_signs_make_another_exercise(first: str, second: str) -> None:
    assert find([first, second]) == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Name a well-known e-mail provider", "name a well known e mail provider!"),
        ("Solve 5x − 6=0 for x", "Solve 5x-6 = 0 for x"),
        ("- milk and/or cream\n- eggs", "milk and or cream\neggs"),
    ],
)
def test_other_punctuation_makes_no_other_exercise(first: str, second: str) -> None:
    assert find([first, second]) == {1: Match(0, 1.0)}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_the_layout_keeps_its_promise_at_every_threshold(threshold: float) -> None:
    bands, rows = band_layout(threshold)
    assert bands * rows <= PERMUTATIONS
    assert (1 - threshold**rows) ** bands <= MISS_PROBABILITY


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=12),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_every_removal_is_verified(texts: list[str], threshold: float) -> None:
    removed = find(texts, threshold)
    for text, match in removed.items():
        assert match.kept < text
        assert match.kept not in removed
        assert match.similarity == pytest.approx(jaccard(texts[text], texts[match.kept]))
        assert match.similarity >= threshold
