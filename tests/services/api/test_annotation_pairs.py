"""Which answers become a pair, in what order, on which side; lengths and what cannot be stored."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.annotation_pairs import Pairs, make_pairs
from shared.artifacts.tables import write_rows
from shared.domain.rows import Answer, Facet, InstructionRow, Preference


def row(number: int, facets: list[Facet], turns: list[str] | None = None) -> InstructionRow:
    return InstructionRow(f"r{number}", f"Question {number}?", "set", "set", number, facets=facets, turns=turns or [])


def answered(index: int, *answers: Answer) -> Facet:
    return Facet(index, preferences=[Preference("a", "b", "c", f"Wish {index}.", "c")], answers=list(answers))


def said(text: str, *later: str, best: bool = True, fault: str = "") -> Answer:
    return Answer(text, "stop", 1, 3, best=best, fault=fault, later=list(later))


def pairs_of(
    folder: Path, first: list[InstructionRow], second: list[InstructionRow], limit: int | None = None, seed: int = 0
) -> Pairs:
    paths = [folder / "first.parquet", folder / "second.parquet"]
    for path, rows in zip(paths, (first, second), strict=True):
        write_rows(path, rows)
    return make_pairs(paths[:1], paths[1:], limit=limit, seed=seed)


def many(count: int, text: str) -> list[InstructionRow]:
    return [row(number, [answered(0, said(f"{text} {number}"))]) for number in range(count)]


def test_the_best_answers_of_the_same_person_are_paired_and_everything_else_is_counted(tmp_path: Path) -> None:
    first = [
        row(
            0, [answered(0, said("a", best=False), said("b")), answered(1, said("c")), answered(3, said("only first"))]
        ),
        row(1, [answered(0, said("broken", best=False, fault="length"))]),
    ]
    second = [
        row(0, [answered(0, said("x")), answered(1, said("c")), answered(2, said("only second"))]),
        row(1, [answered(0, said("y"))]),
        row(2, [answered(0, said("z"))]),
    ]
    found = pairs_of(tmp_path, first, second)
    (item,) = found.items
    assert (item["row_id"], item["facet_index"]) == ("r0", 0)
    assert item["body"] == {
        "instruction": "Question 0?", "preferences": ["Wish 0."], "first": "b", "second": "x",
        "first_words": 1, "second_words": 1,
    }  # fmt: skip
    assert found.left_out == {"no_answer": 1, "not_asked": 3, "same_text": 1}


def test_a_conversation_is_shown_with_what_the_user_said_and_measured_without(tmp_path: Path) -> None:
    first = [row(0, [answered(0, said("One two.", "Three"))], turns=["And then what?"])]
    second = [row(0, [answered(0, said("One two.", "Four five"))], turns=["And then what?"])]
    (item,) = pairs_of(tmp_path, first, second).items
    assert item["body"]["first"] == "One two.\n\n> And then what?\n\nThree"
    assert (item["body"]["first_words"], item["body"]["second_words"]) == (3, 4)


def test_characters_that_the_database_cannot_hold_are_marked(tmp_path: Path) -> None:
    (item,) = pairs_of(tmp_path, [row(0, [answered(0, said("a\0b"))])], [row(0, [answered(0, said("c"))])]).items
    assert item["body"]["first"] == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("count", [7, 8])
def test_half_of_the_pairs_are_swapped_in_an_order_that_depends_on_the_seed_alone(tmp_path: Path, count: int) -> None:
    one, again, other = (pairs_of(tmp_path, many(count, "a"), many(count, "b"), seed=seed) for seed in (1, 1, 2))
    assert one.items == again.items != other.items
    assert sum(item["swapped"] for item in one.items) == (count + 1) // 2
    assert {item["row_id"] for item in one.items} == {item["row_id"] for item in other.items}


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 2**31 - 1))
def test_every_question_is_a_pair_or_counted(
    tmp_path_factory: pytest.TempPathFactory, count: int, limit: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    found = pairs_of(folder, many(count, "a"), many(count, "b"), limit=limit, seed=seed)
    assert len(found.items) + Counter(found.left_out).total() == count
    assert len(found.items) == min(count, limit)
