"""A record ends where its quotes do; a quote that nobody closes costs its own line, and no line is lost or read twice."""

import csv
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sources import csv_records
from shared.sources.csv_records import CsvLine, CsvRecord, CsvRecords

LIMIT = 10_000_000


class Counting(CsvRecords):
    """Counts the lines that are given to the parser, those given again included."""

    given = 0

    def _texts(self) -> Iterator[str]:
        for text in super()._texts():
            self.given += 1
            yield text


def lines_of(text: str) -> Iterator[CsvLine]:
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        yield CsvLine(number, line, len(line))


def records_of(text: str, limit: int = LIMIT) -> list[CsvRecord]:
    return list(CsvRecords(lines_of(text), ",", limit))


def shape(text: str, limit: int = LIMIT) -> list[list[str] | str]:
    """Values of good records, lines of faulty ones."""
    return [record.lines[0].text.rstrip("\n") if record.fault else record.values for record in records_of(text, limit)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a,1\n"b\nc, d\n",2\ne,3\n', [["a", "1"], ["b\nc, d\n", "2"], ["e", "3"]]),
        ('"say ""hi""\n""there""",1\n', [['say "hi"\n"there"', "1"]]),
        ("a\n\nb", [["a"], [], ["b"]]),
        ('"open,1\nb,2\nc,3\n', ['"open,1', ["b", "2"], ["c", "3"]]),
        ('"open,1\nb,2\n"c, d",3\n', ['"open,1', ["b", "2"], ["c, d", "3"]]),
        ('a,"open\nb,2\n"c\nd",3\ne,4\n', ['a,"open', ["b", "2"], ["c\nd", "3"], ["e", "4"]]),
        ('"a" b,1\nc,2\n', ['"a" b,1', ["c", "2"]]),
        ('"open\nb\n"open too\nc\n', ['"open', ["b"], '"open too', ["c"]]),
        ('a\n"open', [["a"], '"open']),
    ],
)
def test_records_and_faults(text: str, expected: list[list[str] | str]) -> None:
    assert shape(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"a" b\n', "',' expected after '\"'"),
        ('"a\nb\n', "not closed up to the end of the file"),
        ('"a\nb\n"c"\n', "not closed properly (line 3: ',' expected"),
    ],
)
def test_a_fault_says_what_is_wrong(text: str, fault: str) -> None:
    first = records_of(text)[0]
    assert fault in (first.fault or "")
    assert first.values == []


def test_a_record_takes_no_more_bytes_than_the_limit() -> None:
    text = '"' + "x" * 40 + "\n" + "plain line\n" * 20
    assert shape(text, limit=100) == [text.splitlines()[0], *[["plain line"]] * 20]
    assert "within 100 bytes" in (records_of(text, limit=100)[0].fault or "")
    assert shape(text + '"\n', limit=10_000) == [[text[1:]]]


def test_a_record_takes_no_more_lines_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "RECORD_LINES", 5)
    assert shape('"1\n2\n3\n4\n5"\n') == [["1\n2\n3\n4\n5"]]
    assert shape('"1\n2\n3\n4\n5\n6"\n') == ['"1', ["2"], ["3"], ["4"], ["5"], ['6"']]


@pytest.mark.parametrize("line", ['"how,1\n', 'how,"1\n', 'x","y\n', '"\n', '","\n', '"""\n'])
def test_a_lone_quote_in_every_line_is_read_in_linear_time(line: str) -> None:
    count = 20_000
    records = Counting(lines_of(line * count), ",", LIMIT)
    assert sum(len(record.lines) for record in records) == count
    assert records.given <= 4 * count  # reading on to the end from every line would give count * count / 2


PIECES = st.lists(st.sampled_from(['"', '""', ",", "x", " ", "\n", "\r\n"]), max_size=40).map("".join)


@given(PIECES, st.sampled_from([12, LIMIT]))
def test_every_line_is_in_one_record(text: str, limit: int) -> None:
    read = [line for record in records_of(text, limit) for line in record.lines]
    assert read == list(lines_of(text))


@given(PIECES)
def test_a_good_record_is_what_its_lines_say_and_a_fault_is_one(text: str) -> None:
    """Whatever was learnt from the lines before, each record is judged as if the file began with it."""
    lines = text.splitlines(keepends=True)
    for record in records_of(text):
        rest = lines[record.lines[0].number - 1 :]
        reader = csv.reader(rest, strict=True)
        try:
            values: list[str] | None = next(reader)
        except csv.Error:
            values = None
        assert values == (None if record.fault else record.values)
        assert len(record.lines) == (1 if record.fault else reader.line_num)
