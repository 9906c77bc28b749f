"""Tables are written into a file between two marks, and nothing else of the file changes."""

from pathlib import Path

import pytest

from gates.tables import BEGIN, END, Written, provenance, share_text, write_markdown
from shared.statistics.intervals import Interval, proportion_interval

TABLE = Written("Gates", ("planted", "recall"), [("wrong_pole", "100.0%"), ("broken_fact", "97.0%")])


def test_a_table_is_written_as_markdown() -> None:
    assert TABLE.markdown() == (
        "Gates:\n\n| planted | recall |\n| --- | --- |\n| wrong_pole | 100.0% |\n| broken_fact | 97.0% |"
    )


def test_a_share_is_told_with_its_interval_and_what_it_is_a_share_of() -> None:
    assert share_text(proportion_interval(19, 20)) == "95.0% (76.4% to 99.1%, n=20)"
    assert share_text(Interval(None, None, None, 0.95, 0, "wilson")) == "nothing to count"


def test_what_stands_between_the_marks_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "gates.md"
    file.write_text(f"# Gates\n\n{BEGIN}\nold\n{END}\n\nWhat follows.\n")
    write_markdown(file, "new")
    write_markdown(file, "newer")
    assert file.read_text() == f"# Gates\n\n{BEGIN}\nnewer\n{END}\n\nWhat follows.\n"


@pytest.mark.parametrize("old", [None, "", "# Gates\n"])
def test_a_file_without_marks_gets_them_at_its_end(tmp_path: Path, old: str | None) -> None:
    file = tmp_path / "gates.md"
    if old is not None:
        file.write_text(old)
    write_markdown(file, "new")
    assert file.read_text() == (f"{old}\n" if old else "") + f"{BEGIN}\nnew\n{END}\n"


@pytest.mark.parametrize("old", [BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_file_with_marks_that_enclose_nothing_is_refused(tmp_path: Path, old: str) -> None:
    file = tmp_path / "gates.md"
    file.write_text(old)
    with pytest.raises(ValueError, match="set both"):
        write_markdown(file, "new")
    assert file.read_text() == old


def test_figures_say_where_they_come_from() -> None:
    assert provenance("python -m gates --rows 12").startswith("`python -m gates --rows 12`, 20")
