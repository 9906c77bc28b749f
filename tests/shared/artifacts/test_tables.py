from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.artifacts.layout import attempt_key, upload_key
from shared.artifacts.tables import iterate_records, page_of, read_rows, record_to_row, row_to_record, write_rows
from shared.domain.rows import (
    NEUTRAL_INDEX,
    Check,
    Contradiction,
    Facet,
    InstructionRow,
    Preference,
    Provenance,
    Rejection,
    Verdict,
)


def a_row(number: int) -> InstructionRow:
    preference = Preference(
        "style", "length", "very short", "Wants few words.", "short", "brief", Check("maximum_words", {"words": 50})
    )
    listed = Preference(
        "style", "terms", "uses terms", "Wants terms.", "many", "terms", Check("must_include", {"phrases": ["a", "b"]})
    )
    facets = [
        Facet(
            0,
            [preference, listed],
            redrawn=1,
            profile=12,
            system="Be brief.",
            system_form="prose",
            system_role="a ferry captain",
            response="Yes.",
            finish_reason="stop",
            check_results={"length": "pass"},
            moot=[1],
            contradictions=[Contradiction("in 1912", "in 1921")],
            scores={"own": 4.5},
            provenance=[Provenance("respond", "simulator", "small", "abc", 7, 1.0, 0.9, 100)],
        ),
        Facet(1, rejection=Rejection("augment", "output_invalid", "no JSON")),
    ]
    return InstructionRow(
        f"{number:016x}",
        f"Question {number}?",
        "set",
        "sub",
        number,
        tags=["tag"],
        split="test",
        level="seen",
        draw=number,
        facets=facets,
        neutral=Facet(NEUTRAL_INDEX, response="Yes and no.", check_results={"length": "fail"}, scores={"words": 3.0}),
        matrix=[Verdict(NEUTRAL_INDEX, 0, 1, "partly", "judge", "and no")],
    )


def test_rows_survive_parquet_unchanged(tmp_path: Path) -> None:
    rows = [a_row(number) for number in range(1203)]
    assert write_rows(tmp_path / "part.parquet", iter(rows)) == 1203
    assert read_rows(tmp_path / "part.parquet") == rows


def test_an_empty_part_can_be_read(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "part.parquet", []) == 0
    assert read_rows(tmp_path / "part.parquet") == []


@given(st.text(), st.text(), st.dictionaries(st.text(), st.floats(allow_nan=False)))
def test_any_text_survives_the_record_form(instruction: str, system: str, scores: dict[str, float]) -> None:
    row = InstructionRow("0" * 16, instruction, "m", "o", 0, facets=[Facet(0, system=system, scores=scores)])
    assert record_to_row(row_to_record(row)) == row


def test_a_page_is_cut_across_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_rows(path, (a_row(number) for number in range(1203)))
    page = page_of(path, 490, 20, ["source_row"])
    assert [record["source_row"] for record in page] == list(range(490, 510))
    assert page_of(path, 1200, 50, ["source_row"]) == [{"source_row": n} for n in (1200, 1201, 1202)]
    assert page_of(path, 5000, 10) == []
    assert sum(1 for _ in iterate_records(path, ["row_id"])) == 1203


def test_keys_carry_the_attempt_and_no_foreign_characters() -> None:
    assert attempt_key("artifacts/p/j/10-augment", "exports/dpo/train.parquet", 17) == (
        "artifacts/p/j/10-augment/exports/dpo/train-17.parquet"
    )
    assert upload_key("p", "file_1", "../../etc/päss wd.jsonl") == "uploads/p/file_1/p_ss_wd.jsonl"
    assert upload_key("p", "file_1", "///") == "uploads/p/file_1/file"
