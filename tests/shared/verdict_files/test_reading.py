"""Files of verdicts: what each layout's words mean, and that every line is used or counted."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from shared.domain.errors import InputRefused
from shared.statistics.pairwise import Battle, pair_outcomes
from shared.verdict_files import LAYOUTS, read_verdicts
from tests.shared.verdict_files import rows
from tests.shared.verdict_files.rows import OF_LAYOUT, Rows, write


def told(battles: list[Battle]) -> list[tuple[Any, ...]]:
    return [(one.instruction, one.first, one.second, one.outcome, one.order) for one in battles]


@pytest.mark.parametrize("layout", OF_LAYOUT)
def test_every_layout_is_told_by_its_columns(layout: str, tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, OF_LAYOUT[layout]))
    assert found.layout == layout
    assert found.lines == found.used == len(OF_LAYOUT[layout])
    assert found.left_out == {}
    assert found == read_verdicts(write(tmp_path, OF_LAYOUT[layout]), layout)


def test_all_layouts_are_tried_above() -> None:
    assert set(OF_LAYOUT) == set(LAYOUTS)


@pytest.mark.parametrize("layout", [name for name in OF_LAYOUT if name != "arena-hard"])
@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_the_same_rows_in_another_format_are_the_same_verdicts(layout: str, suffix: str, tmp_path: Path) -> None:
    plain = read_verdicts(write(tmp_path, OF_LAYOUT[layout]))
    other = read_verdicts(write(tmp_path, OF_LAYOUT[layout], suffix))
    assert told(plain.battles) == told(other.battles)
    assert [(one.item, one.annotator, one.missing) for one in plain.verdicts] == [
        (one.item, one.annotator, one.missing) for one in other.verdicts
    ] or layout == "mt-bench-pair"  # a CSV field holds the text of the list of the judge's names
    if layout == "ratings":
        assert [one.label if one.label is None else float(one.label) for one in other.verdicts] == [1, 1, 5, 4, 3, None]


def test_nested_games_are_read_from_parquet_too(tmp_path: Path) -> None:
    plain, other = (read_verdicts(write(tmp_path, rows.ARENA_HARD, suffix)) for suffix in ("jsonl", "parquet"))
    assert plain.verdicts == other.verdicts


def test_pandalm(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, rows.PANDALM), texts="lengths")
    assert [(one.item, one.annotator) for one in found.verdicts[:3]] == [("0", f"annotator{n}") for n in (1, 2, 3)]
    assert [one.outcome for one in found.battles] == [1, 1, 0, 0, 0, 0, 0.5, 1, 0, 0.5, 0.5, 1]
    assert {(one.first, one.second, one.first_words, one.second_words) for one in found.battles} == {
        ("ant-1B", "bee-2B", 3, 1)
    }
    # Items of one instruction with one input are one cluster.
    assert [one.instruction for one in found.battles[::3]] == [f"Shorten it.\n{text}" for text in "abbc"]


def test_pandalm_without_names_of_models_or_items(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, [{"annotator1": 1, "annotator2": 7}, {"annotator1": None, "annotator2": 0}]))
    assert found.layout == "pandalm"
    assert {(one.first, one.second) for one in found.battles} == {("response 1", "response 2")}
    assert [one.outcome for one in found.battles] == [1.0, None, None, 0.5]
    assert {reason: count.lines for reason, count in found.missing.items()} == {"unknown_verdict": 1, "no_verdict": 1}
    assert found.missing["unknown_verdict"].example == "line 1, annotator2"


def test_mt_bench(tmp_path: Path) -> None:
    more: Rows = [
        rows.MT_BENCH[0] | {"question_id": 83, "winner": "tie (inconsistent)"},
        rows.MT_BENCH[0] | {"question_id": 84, "winner": None},
        rows.MT_BENCH[0] | {"model_a": "bee", "model_b": "ant"},
    ]
    found = read_verdicts(write(tmp_path, [*rows.MT_BENCH, *more]), texts="lengths")
    assert told(found.battles) == [
        ("81", "ant", "bee", 1.0, 0), ("81", "ant", "bee", 0.0, 0), ("81", "ant", "bee", 0.5, 0), ("82", "ant", "bee", 1.0, 0),
        ("83", "ant", "bee", 0.5, 0), ("84", "ant", "bee", None, 0), ("81", "bee", "ant", 1.0, 0),
    ]  # fmt: skip
    assert [one.kind for one in found.battles] == ["", "", "", "", "inconsistent", "", ""]
    # The words of the turn that was judged.
    assert [(one.first_words, one.second_words) for one in found.battles[:3]] == [(4, 2), (4, 2), (6, 1)]
    assert [one.pair for one in found.battles[:3]] == ["turn 1 expert_1", "turn 1 expert_2", "turn 2 expert_1"]
    assert {reason: count.lines for reason, count in found.missing.items()} == {"no_verdict": 1}


def test_mt_bench_of_both_orders(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, rows.MT_BENCH_PAIR))
    assert [(one.outcome, one.order) for one in found.battles] == [(1, 0), (1, 1), (1, 0), (0, 1), (0.5, 0), (None, 1)]
    assert {one.annotator for one in found.verdicts} == {"gpt-4"}
    assert found.missing["no_verdict"].lines == 1


def test_arena(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, rows.ARENA), texts="style")
    assert [(one.second, one.outcome, one.kind) for one in found.battles] == [
        ("bee", 1.0, ""), ("bee", 0.5, "both_bad"), ("cat", 0.0, ""), ("cat", 0.5, ""), ("cat", 1.0, ""),
    ]  # fmt: skip
    first = found.battles[0]
    assert (first.first_words, first.second_words) == (3, 3)
    assert (first.first_style, first.second_style) == ((0, 0, 0), (0, 2, 1))


def test_arena_with_counts_instead_of_texts_and_without_names_of_questions(tmp_path: Path) -> None:
    counts = {
        "sum_assistant_a_tokens": 120, "header_count_a": {"h1": 1, "h2": 2}, "list_count_a": {"ordered": 0, "unordered": 5},
        "bold_count_a": {"**": 3, "__": 1}, "sum_assistant_b_tokens": 80, "header_count_b": {}, "list_count_b": {},
        "bold_count_b": {},
    }  # fmt: skip
    row = {"model_a": "ant", "model_b": "bee", "winner": "model_a", "conv_metadata": counts}
    found = read_verdicts(write(tmp_path, [row, row]), texts="style")
    assert (found.used, found.battles[0].instruction, found.battles[1].instruction) == (2, "line 1", "line 2")
    assert (found.battles[0].first_words, found.battles[0].second_words) == (120, 80)
    assert (found.battles[0].first_style, found.battles[0].second_style) == ((3, 5, 4), (0, 0, 0))


def test_alpaca_eval(tmp_path: Path) -> None:
    strange = [rows.ALPACA_EVAL[0] | {"instruction": f"More {value}", "preference": value} for value in (3, 0.5, "m")]
    found = read_verdicts(write(tmp_path, [*rows.ALPACA_EVAL, *strange]), texts="lengths")
    assert {(one.first, one.second, one.first_words, one.second_words) for one in found.battles} == {
        ("ours", "base", 1, 4)
    }
    assert [one.outcome for one in found.battles] == [0.0, 1.0, 0.5, 0.5, 0.75, None, None, None, None]
    assert {reason: count.lines for reason, count in found.missing.items()} == {"no_verdict": 1, "unknown_verdict": 3}


def test_arena_hard(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, rows.ARENA_HARD))
    # In the first game A is the baseline, in the second the model.
    assert [(one.outcome, one.order, one.weight) for one in found.battles] == [
        (0.0, 1, 3), (0.0, 0, 1), (1.0, 1, 1), (1.0, 0, 3), (0.5, 1, 1), (None, 0, 1), (0.0, 1, 1), (1.0, 0, 1),
    ]  # fmt: skip
    assert {(one.first, one.second) for one in found.battles} == {("ours", "gpt-4-0314")}
    named = read_verdicts(write(tmp_path, rows.ARENA_HARD), baseline="theirs")
    assert {one.second for one in named.battles} == {"theirs"}


@pytest.mark.parametrize(
    ("games", "reason", "missing"),
    [
        ([{"score": "A>B"}], "", {"no_verdict": 1}),
        ([{"score": "[[A>B]]"}, {"score": "neither"}], "", {"unknown_verdict": 1}),
        ([{"score": "A>B"}, {}], "", {"no_verdict": 1}),
        ([], "bad_games", {}),
        ("A>B", "bad_games", {}),
        ([{"score": "A>B"}] * 3, "bad_games", {}),
    ],
)
def test_arena_hard_games_that_are_not_as_they_should_be(
    games: Any, reason: str, missing: dict[str, int], tmp_path: Path
) -> None:
    found = read_verdicts(write(tmp_path, [{"question_id": "q", "model": "ours", "games": games}]))
    assert list(found.left_out) == ([reason] if reason else [])
    assert {name: count.lines for name, count in found.missing.items()} == missing
    assert len(found.battles) == (0 if reason else 2)


def test_our_own_battles(tmp_path: Path) -> None:
    more: Rows = [
        {"item": "i4", "first": "ours", "second": "theirs", "outcome": "", "order": "", "weight": 3},
        {"item": "i5", "first": "ours", "second": "theirs", "outcome": 1, "order": 2},
        {"item": "i6", "first": "ours", "second": "theirs", "outcome": 7},
        {"item": "i7", "first": "ours", "second": "ours", "outcome": 1},
        {"item": "", "first": "ours", "second": "theirs", "outcome": 1},
    ]
    found = read_verdicts(write(tmp_path, [*rows.BATTLES, *more]), texts="lengths")
    assert [(one.outcome, one.order, one.kind, one.weight) for one in found.battles] == [
        (1.0, 0, "", 1), (0.0, 1, "", 1), (0.5, 0, "both_bad", 1), (0.75, 0, "", 1), (None, 0, "", 3), (None, 0, "", 1),
    ]  # fmt: skip
    assert {reason: count.lines for reason, count in found.left_out.items()} == {
        "bad_value": 1, "same_model": 1, "missing_value": 1,
    }  # fmt: skip
    assert found.left_out["bad_value"].example == "line 6: `order` is 2; a whole number from 0 to 1 is needed"
    assert (found.lines, found.used) == (9, 6)
    assert (found.battles[0].first_words, found.battles[0].second_words) == (40, 20)


def test_exported_annotations(tmp_path: Path) -> None:
    """Columns as the api writes them; in CSV the flag is a word."""
    lines: Rows = [
        {
            "item": number, "row_id": row, "facet_index": 0, "annotator": "ada", "outcome": outcome, "first": "ours",
            "second": "base", "swapped": swapped, "first_words": 9, "second_words": 7, "seconds": 3.5, "annotated_at": None,
        }
        for number, row, outcome, swapped in [(0, "r1", "first", True), (1, "r1", "both_good", False), (2, "r2", "second", False)]
    ]  # fmt: skip
    for suffix in ("jsonl", "csv"):
        found = read_verdicts(write(tmp_path, lines, suffix))
        assert found.layout == "battles"
        assert told(found.battles) == [
            ("r1", "ours", "base", 1.0, 1), ("r1", "ours", "base", 0.5, 0), ("r2", "ours", "base", 0.0, 0),
        ]  # fmt: skip
        assert len({(one.instruction, one.pair) for one in found.battles}) == 3


def test_comparisons_of_our_own_evaluations(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, rows.COMPARISONS, "csv"), texts="lengths")
    assert [(one.outcome, one.order, one.kind, one.weight) for one in found.battles] == [
        (1.0, 0, "", 1), (0.5, 0, "both_good", 1), (0.0, 1, "", 1), (0.5, 0, "both_bad", 1), (1.0, 0, "", 3), (None, 1, "", 1),
    ]  # fmt: skip
    assert {(one.first_words, one.second_words) for one in found.battles} == {(30, 20)}
    assert found.missing["no_verdict"].lines == 1
    # Runs of one order are one opinion; the facets of a row are pairs of one instruction.
    outcomes = {(pair.instruction, pair.outcome, pair.flipped) for pair in pair_outcomes(found.battles)}
    assert outcomes == {("r1", 0.375, True), ("r1", 0.5, None), ("r2", 1.0, None)}


def test_our_own_ratings(tmp_path: Path) -> None:
    found = read_verdicts(write(tmp_path, [*rows.RATINGS, {"item": "i4", "annotator_ben": "good", "note": "…"}]))
    assert [(one.item, one.annotator, one.label) for one in found.verdicts] == [
        ("i1", "annotator_anna", 1), ("i1", "annotator_ben", 1), ("i2", "annotator_anna", 5), ("i2", "annotator_ben", 4),
        ("i3", "annotator_anna", 3), ("i3", "annotator_ben", None), ("i4", "annotator_ben", "good"),
    ]  # fmt: skip
    assert found.battles == []


def test_a_second_verdict_in_the_same_place_is_left_out(tmp_path: Path) -> None:
    for layout, lines in OF_LAYOUT.items():
        found = read_verdicts(write(tmp_path, [*lines, lines[0]]), layout)
        assert {reason: count.lines for reason, count in found.left_out.items()} == {"duplicate": 1}, layout
        assert found.used == len(lines)
        assert found.left_out["duplicate"].example.startswith(f"line {len(lines) + 1}: ")


def test_lines_that_cannot_be_read_are_counted_with_the_first_of_them(tmp_path: Path) -> None:
    path = write(tmp_path, rows.MT_BENCH)
    path.write_text(path.read_text() + "{broken\n[1]\n" + json.dumps({"question_id": 1}) + "\n", encoding="utf-8")
    found = read_verdicts(path)
    assert (found.lines, found.used) == (7, 4)
    assert {reason: count.lines for reason, count in found.left_out.items()} == {"invalid_json": 2, "missing_column": 1}
    assert found.left_out["missing_column"].example == "line 7: there is no `model_a`"


TEXTS = st.sampled_from(["", "a", "b", "model_a", "tie", "first", "A>B", "1"])
PARTS = st.dictionaries(st.sampled_from(["score", "role", "content"]), st.sampled_from(["A>B", "assistant", ""]))
VALUES = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | TEXTS | st.lists(PARTS, max_size=3)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_stands_in_the_fields_every_line_is_used_or_counted(data: DataObject, tmp_path: Path) -> None:
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    columns = sorted({*layout.needed, *layout.used, *(["annotator1", "annotator2"] if layout.begins else [])})
    lines = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, VALUES)), min_size=1, max_size=6))
    path = tmp_path / "any.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    try:
        found = read_verdicts(path, layout.name, texts=data.draw(st.sampled_from(["none", "lengths", "style"])))
    except InputRefused:
        # NaN is no JSON: a file of nothing else has no line that can be read.
        assert all(
            any(isinstance(value, float) and not math.isfinite(value) for value in line.values()) for line in lines
        )
        return
    assert found.lines == len(lines)
    assert found.lines == found.used + sum(count.lines for count in found.left_out.values())
    assert sum(bool(one.missing) for one in found.verdicts) == sum(count.lines for count in found.missing.values())
    assert all((one.outcome is None) == bool(v.missing) for v in found.verdicts if (one := v.battle) is not None)
    assert all(one.outcome is None or 0 <= one.outcome <= 1 for one in found.battles)
    assert not any(isinstance(one.label, float) and math.isnan(one.label) for one in found.verdicts)


@pytest.mark.parametrize(
    ("text", "layout", "said"),
    [
        ('{"question": 1}\n', None, "of no known layout"),
        ('{"question": 1}\n', "mt-bench", "has no column question_id, model_a, model_b, winner, judge, turn"),
        ('{"item": 1}\n', "ratings", "has no column annotator…"),
        ('{"item": 1}\n', "mtbench", "'mtbench' is no layout; choose one of arena-hard"),
        ("{broken\n", None, "holds no line that can be read"),
        ("", None, "the file is empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused(text: str, layout: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(text)
    with pytest.raises(InputRefused, match=said):
        read_verdicts(path, layout)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="is no file"):
        read_verdicts(tmp_path / "nothing.jsonl")
