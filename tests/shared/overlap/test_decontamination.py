"""Overlap with benchmarks, from any file format, found and reported."""

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.domain.errors import InputRefused
from shared.overlap.decontamination import Decontamination

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
    assert overlap.match == "runs"
    assert clean is None
    assert whole is not None
    assert whole.match == "whole"
    assert part_of_short is None


def test_the_place_of_the_match_is_told(tmp_path: Path) -> None:
    [overlap] = decontamination(write(tmp_path, "jsonl")).check([LONG])
    assert overlap is not None
    assert (overlap.text.benchmark, overlap.text.row, overlap.text.field) == ("file_1", 0, "turns.1")


def test_the_summary_adds_up(tmp_path: Path) -> None:
    [summary] = decontamination(write(tmp_path, "jsonl")).summaries
    assert (summary.texts, summary.long_texts, summary.short_texts, summary.left_out) == (4, 2, 1, 1)
    assert summary.sought_within == 1
    assert summary.grams == len(LONG.split()) + len(OTHER.split()) - 14


def test_the_size_decides(tmp_path: Path) -> None:
    path = write(tmp_path, "txt")
    sharing_nine = " ".join(LONG.split()[:9]) + " and then turns around slowly in the basin behind it"
    assert decontamination(path, 9).check([sharing_nine])[0] is not None
    assert decontamination(path, 10).check([sharing_nine]) == [None]


SHORT_TEXTS = {
    "four words": "Who wrote Moby Dick?",
    "five words": "Why is the sky blue?",
    "six words": "What is the capital of Peru?",
    "twelve words": "Name three rivers that flow through at least four countries of Europe.",
}


@pytest.fixture
def short_benchmark(tmp_path: Path) -> Decontamination:
    path = tmp_path / "bench.txt"
    path.write_text("\n".join(SHORT_TEXTS.values()))
    return decontamination(path, 13)


@pytest.mark.parametrize(
    "added", ["Hi! {}", "{} Thanks a lot!", "Hello there, dear helper. {} And please tell me why."]
)
@pytest.mark.parametrize(
    ("name", "found"), [("four words", False), ("five words", False), ("six words", True), ("twelve words", True)]
)
def test_words_around_a_short_text_do_not_hide_it(
    short_benchmark: Decontamination, added: str, name: str, found: bool
) -> None:
    [overlap] = short_benchmark.check([added.format(SHORT_TEXTS[name])])
    assert (overlap is not None) is found
    if overlap is not None:
        assert overlap.match == "contained"
        assert overlap.text.sha256 == sha256(SHORT_TEXTS[name].encode()).hexdigest()


@pytest.mark.parametrize("text", SHORT_TEXTS.values())
def test_a_short_text_as_the_whole_instruction_is_found(short_benchmark: Decontamination, text: str) -> None:
    [overlap] = short_benchmark.check([text.upper()])
    assert overlap is not None
    assert overlap.match == "whole"


def test_a_part_of_a_short_text_and_its_words_apart_are_clean(short_benchmark: Decontamination) -> None:
    apart = "What is the capital, and also the largest city, of Peru?"
    assert short_benchmark.check([apart, "Say: what is the capital of", "Is it true?"]) == [None, None, None]


def test_of_several_short_texts_within_an_instruction_the_longest_is_told(short_benchmark: Decontamination) -> None:
    [overlap, clean] = short_benchmark.check([" ".join(SHORT_TEXTS.values()), "Which is the capital of Peru, please?"])
    assert overlap is not None
    assert (overlap.text.row, overlap.match) == (3, "contained")
    assert clean is None


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
