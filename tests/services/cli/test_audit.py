"""`multifacet audit` on files of our own export layout, and what it says of files that it cannot use."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from services.cli import main
from services.cli.main import app
from services.curation.assembly.assemble import run as assemble
from shared.audit import load_data
from shared.audit.data import layout_of_columns
from shared.domain.errors import InputRefused
from tests.services.curation.assembly.synthetic import make_context, make_rows, make_spec, respond_parts
from tests.shared.audit.planted import clean_rows, write_lines
from tests.support.browser import browser_page


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an assembly of 60 instructions with 3 facets each."""
    folder = tmp_path_factory.mktemp("assembled")
    spec = make_spec()
    context = make_context(folder, respond_parts(folder / "respond", make_rows(60)), spec=spec)
    assemble(context)
    return context.output_folder


@pytest.mark.parametrize(
    ("place", "layout"),
    [
        ("collection", "collection"),
        ("exports/sft", "sft"),
        ("exports/sft/train.jsonl", "sft"),
        ("exports/dpo", "pairs"),
        ("exports/orpo/train.parquet", "pairs"),
        ("exports/rm", "reward"),
    ],
)
def test_what_assembly_writes_is_known(exported: Path, place: str, layout: str) -> None:
    data = load_data(exported / place)
    assert (data.layout, data.unreadable) == (layout, 0)
    assert data.available == len(data.rows) > 0
    if layout != "reward":
        assert all(row.prompt.startswith("Question") for row in data.rows)
    if layout == "collection":
        assert all(row.provenance and row.verified and row.entries for row in data.rows)
        # What the teacher coined can stand on no pole.
        assert all(any(entry.pole for entry in row.entries or ()) for row in data.rows)


def test_the_table_the_page_and_the_json(exported: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "audit.html"
    shown = CliRunner().invoke(app, ["audit", str(exported / "exports" / "dpo"), "--out", str(page)])
    assert shown.exit_code == 0, shown.output
    assert "Chosen answer told" in shown.output
    text = page.read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text
    printed = CliRunner().invoke(app, ["audit", str(exported / "collection"), "--json"])
    audit = json.loads(printed.stdout)
    found = {item["name"]: item for section in audit["sections"] for item in section["findings"]}
    assert len(found) == 31
    assert found["moot_preferences"]["n"] > 0
    assert {level["split"] for level in audit["levels"]} == {"train", "test"}
    assert sum(level["facets"] for level in audit["levels"]) == audit["rows"]
    assert sum(level["demands"] for level in audit["levels"]) == found["failed_checks"]["n"]
    assert all(level["words"]["estimate"] > 0 for level in audit["levels"])
    assert found["train_test_overlap"]["estimate"] == 0.0
    assert found["missing_provenance"]["verdict"] == "ok"
    assert found["position_dimension"]["interval"]["clusters"] == 60


def test_levels_and_marked_intervals_stand_in_the_table_and_on_the_page(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The console takes its width where it is made, so the variable COLUMNS would come too late.
    monkeypatch.setattr(main, "console", Console(soft_wrap=True, width=160))
    page = tmp_path / "collection.html"
    shown = CliRunner().invoke(app, ["audit", str(exported / "collection"), "--out", str(page)]).output
    text = page.read_text()
    for said in (
        "failed demands",
        "U1 unseen combination",
        "* interval too short below 400 instructions: nominal: Variation",
    ):
        assert said in shown, said
    assert '<section id="levels"' in text
    assert "U1 unseen combination" in text
    assert '<span class="short">interval too short below 400 instructions: nominal</span>' in text
    pairs = CliRunner().invoke(app, ["audit", str(exported / "exports" / "dpo"), "--out", str(page)]).output
    assert "failed demands" not in pairs
    assert 'id="levels"' not in page.read_text()


def test_two_sets_side_by_side(exported: Path, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", clean_rows(30))
    page = tmp_path / "both.html"
    arguments = ["audit", str(exported / "exports" / "sft"), str(other), "--json", "--out", str(page)]
    compared = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (compared["first"]["name"], compared["second"]["name"]) == ("sft", "other.jsonl")
    difference = compared["differences"]["system_shape"]
    estimates = [
        next(
            item["estimate"]
            for section in compared[side]["sections"]
            for item in section["findings"]
            if item["name"] == "system_shape"
        )
        for side in ("first", "second")
    ]
    assert difference["estimate"] == pytest.approx(estimates[0] - estimates[1])
    assert difference["low"] < difference["estimate"] < difference["high"]
    assert '<th scope="col">difference</th>' in page.read_text()


def test_an_unknown_layout_names_what_was_seen_and_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(InputRefused, match="columns question, answer; known layouts need collection: preference_set"):
        load_data(path)
    assert layout_of_columns(["prompt", "chosen", "rejected", "system", "score"]) == "pairs"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "does not exist"),
        ("table.csv", "prompt,output\na,b\n", "no JSONL and no Parquet"),
        ("broken.jsonl", "{not json\n", "has the columns none"),
        ("empty.jsonl", "", "empty"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputRefused, match=message):
        load_data(tmp_path / name)


def test_folders_that_cannot_be_used(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="seen: dpo, orpo, rm, sft"):
        load_data(exported / "exports")
    rows = clean_rows(2)
    write_lines(tmp_path / "train.jsonl", rows)
    write_lines(tmp_path / "test.jsonl", [{"input": "a\nb", "chosen": "c", "rejected": "d"}])
    with pytest.raises(InputRefused, match="one layout at a time"):
        load_data(tmp_path)


def test_rows_that_lack_a_text_are_counted(tmp_path: Path) -> None:
    rows = clean_rows(2)
    rows[1]["output"] = None
    path = write_lines(tmp_path / "train.jsonl", rows)
    path.write_bytes(path.read_bytes() + b"{broken\n")
    data = load_data(path)
    assert (data.available, data.unreadable) == (5, 2)


@pytest.mark.browser
def test_the_page_in_a_browser(exported: Path, tmp_path: Path) -> None:
    rows = clean_rows(20)
    rows[0]["output"] = "<img src=x onerror=alert(1)>"
    hostile = write_lines(tmp_path / "<b>set.jsonl", rows)
    page = tmp_path / "audit.html"
    CliRunner().invoke(app, ["audit", str(exported / "exports" / "sft"), str(hostile), "--out", str(page)])
    with browser_page(page.as_uri()) as opened:
        opened.goto(page.as_uri())
        assert opened.locator("h1").inner_text() == "Audit of sft and <b>set.jsonl"
        assert opened.locator("tbody tr").count() == 31
        assert opened.locator("section").count() == 7
        opened.set_viewport_size({"width": 390, "height": 800})
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
