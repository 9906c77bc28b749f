"""Two evaluations of one bench: differences item by item, and what is said where they cannot be paired."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.evaluation.reporting.report import run
from shared.domain.errors import MultifacetError
from shared.evaluations import compare_evaluations, read_evaluation
from tests.services.evaluation.evaluated import context_of, judged, row_of, spec_of


def written(
    folder: Path, score: Callable[[int, int, int], float | None], *, count: int = 12, names: Any = None, **evaluate: Any
) -> Path:
    """An evaluation of two candidates on the first `count` instructions, whose answers all get `score`."""
    folder.mkdir(parents=True)

    def rows() -> list[Any]:
        return [row_of(number, lambda number, person: f"answer {number} for {person}") for number in range(count)]

    answers = [{"name": name, "candidate": {"deployment": name}} for name in names or ("base", "tuned")]
    stages = {answer["name"]: rows() for answer in answers}
    stages |= {f"judge-{answer['name']}": judged(rows(), score) for answer in answers}
    context = context_of(folder, spec_of({"absolute": {}, **evaluate}, answer=answers), stages)
    run(context)
    return context.output_folder


def test_candidates_of_one_name_are_compared_item_by_item_in_every_dimension(tmp_path: Path) -> None:
    first = read_evaluation(written(tmp_path / "a", lambda number, *_: 3.0 + number % 2))
    second = read_evaluation(written(tmp_path / "b", lambda number, *_: 2.0 + number % 2))
    found = compare_evaluations(first, second)
    assert found.same_bench
    assert found.items == (36, 36, 36)
    scores = {(one.first, one.second, one.figure): one for one in found.differences}
    assert {pair[:2] for pair in scores} == {("base", "base"), ("tuned", "tuned")}
    for figure in ("score", "score.style", "score.informativeness", "score.background_knowledge"):
        one = scores["base", "base", figure]
        assert (one.first_value, one.second_value, one.items) == (3.5, 2.5, 36)
        # The items differ among each other and never between the two: paired, nothing is left to vary.
        assert (one.difference.estimate, one.difference.method) == (1.0, "no_variation")
    assert scores["tuned", "tuned", "words"].difference.estimate == 0.0
    assert scores["tuned", "tuned", "specificity"].items is None


def test_without_the_table_of_items_intervals_come_from_those_of_the_figures(tmp_path: Path) -> None:
    folders = [written(tmp_path / str(shift), lambda number, *_, shift=shift: shift + number % 2) for shift in (3, 2)]  # type: ignore[misc]
    paired = compare_evaluations(*map(read_evaluation, folders))
    (folders[1] / "items.csv").unlink()
    found = compare_evaluations(*map(read_evaluation, folders))
    one = next(one for one in found.differences if one.figure == "score")
    assert (one.items, one.difference.estimate, one.difference.method) == (None, 1.0, "recovered_variances")
    assert one.difference.low is not None
    assert one.difference.low < 1.0
    assert next(one for one in paired.differences if one.figure == "score").difference.low is None
    assert any("cannot be paired" in note for note in found.notes)


def test_candidates_without_a_name_in_common_are_all_held_against_each_other(tmp_path: Path) -> None:
    first = read_evaluation(written(tmp_path / "a", lambda *_: 3.0))
    second = read_evaluation(written(tmp_path / "b", lambda *_: 2.0, names=("other",)))
    pairs = {(one.first, one.second) for one in compare_evaluations(first, second).differences}
    assert pairs == {("base", "other"), ("tuned", "other")}


def test_another_bench_another_judge_and_other_settings_are_told(tmp_path: Path) -> None:
    first = read_evaluation(written(tmp_path / "a", lambda *_: 3.0))
    second = read_evaluation(written(tmp_path / "b", lambda *_: 2.0, count=10, absolute={"runs": 2}))
    found = compare_evaluations(first, second)
    assert not found.same_bench
    assert found.items == (36, 30, 30)
    assert "evaluate.absolute.runs is 3 and 2" in found.notes
    assert next(one for one in found.differences if one.figure == "score").items == 30


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": "evaluation/9"}'])
def test_what_is_no_evaluation_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(MultifacetError, match="is no evaluation"):
        read_evaluation(path)


def test_a_folder_without_one_and_a_broken_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MultifacetError, match="multifacet pull"):
        read_evaluation(tmp_path)
    folder = written(tmp_path / "a", lambda *_: 3.0)
    (folder / "items.csv").write_text("row_id,facet,score:base\nx,one,3\n")
    with pytest.raises(MultifacetError, match="no table of items"):
        read_evaluation(folder)
