"""Overlap with benchmarks, from any file format, found and reported."""

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.curation.decontamination import Decontamination
from shared.domain.errors import InputRefused

LONG = "Explain in three steps how a canal lock lifts a ship from the lower to the upper water level"
SHORT = "Why do leaves turn red in autumn?"
OTHER = "Describe how a windmill turns wind into flour and why its sails are twisted along their length"


def write(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"bench.{kind}"
    rows = [{"turns": [OTHER, LONG], "id": 1}, {"turns": [SHORT, "Yes."], "id": 2}]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        path.write_text(f'turn_1,turn_2\n"{OTHER}","{LONG}"\n"{SHORT}",Yes.\n')
    else:
        path.write_text(f"{OTHER}\n\n{LONG}\n{SHORT}\nYes.\n")
    return path


def decontamination(path: Path, size: int = 8) -> Decontamination:
    return Decontamination([("file_1", path.name, path)], size)


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv", "txt"])
def test_overlap_is_found_in_every_format(tmp_path: Path, kind: str) -> None:
    benchmarks = decontamination(write(tmp_path, kind))
    embedded = "Hello. " + LONG.upper().replace(" ", "  ") + "! And then?"
    overlap, clean, whole, part_of_short = benchmarks.check(
        [
            embedded,
            "Explain in three steps how a canal boat is steered",
            "why do leaves turn RED in autumn",
            "Why do leaves turn red?",
        ]
    )
    assert overlap is not None
    assert overlap.text.sha256 == sha256(LONG.encode()).hexdigest()
    assert overlap.grams == len(LONG.split()) - 8 + 1
    assert not overlap.whole
    assert clean is None
    assert whole is not None
    assert whole.whole
    assert part_of_short is None


def test_the_place_of_the_match_is_told(tmp_path: Path) -> None:
    [overlap] = decontamination(write(tmp_path, "jsonl")).check([LONG])
    assert overlap is not None
    assert (overlap.text.benchmark, overlap.text.row, overlap.text.field) == ("file_1", 0, "turns.1")


def test_the_summary_adds_up(tmp_path: Path) -> None:
    [summary] = decontamination(write(tmp_path, "jsonl")).summaries
    assert (summary.texts, summary.long_texts, summary.short_texts, summary.left_out) == (4, 2, 1, 1)
    assert summary.grams == len(LONG.split()) + len(OTHER.split()) - 14


def test_the_size_decides(tmp_path: Path) -> None:
    path = write(tmp_path, "txt")
    sharing_nine = " ".join(LONG.split()[:9]) + " and then turns around slowly in the basin behind it"
    assert decontamination(path, 9).check([sharing_nine])[0] is not None
    assert decontamination(path, 10).check([sharing_nine]) == [None]


def test_nothing_but_short_texts(tmp_path: Path) -> None:
    path = tmp_path / "bench.txt"
    path.write_text(SHORT)
    assert decontamination(path, 13).check([LONG, "", "!"]) == [None, None, None]


def test_benchmarks_without_text_are_refused(tmp_path: Path) -> None:
    for name, data in [("empty.txt", b""), ("numbers.jsonl", b'{"a": 1}\n'), ("latin.txt", "größe".encode("latin-1"))]:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputRefused) as caught:
            decontamination(path)
        assert caught.value.pointer == "/curate/decontaminate_against/0"
