"""A training's preview in the terminal."""

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.cli.preview import print_lengths, print_preview, read_preview
from shared.domain.errors import MultifacetError
from shared.domain.training_preview import OMITTED, LengthFigures, Preview, PreviewRow, PreviewToken, visible

FIGURES = LengthFigures([16, 24, 32, 48], [0, 1, 0, 400], 30.0, 30, 40, 41, 42)
TOKENS = [
    PreviewToken("<s>", False, 1),
    PreviewToken(" [bold]read\n\x1b[2J", False, 30),
    PreviewToken(" … 9 tokens not shown … ", False, OMITTED),
    PreviewToken(" writ", True, 31),
    PreviewToken("ten", True, 32),
    PreviewToken("</s>", True, 2),
]
PREVIEW = Preview(
    method="sft",
    template="mistral",
    maximum_length=64,
    rows=[PreviewRow("row 0", 14, 3, TOKENS), PreviewRow("row 1", 14, 3, TOKENS)],
    special_ids=[1, 2],
    lengths={"whole": FIGURES},
    drawn=402,
    kept=401,
    lost={"too_long": 1},
)


def printed(*, terminal: bool, rows: int = 1) -> str:
    console = Console(force_terminal=terminal, width=100, color_system="standard" if terminal else None)
    with console.capture() as captured:
        print_preview(PREVIEW, console, rows=rows)
    return captured.get()


def test_tokens_in_the_loss_are_underlined_and_control_tokens_reversed() -> None:
    text = printed(terminal=True)
    assert "\x1b[1;4;32m written\x1b[0m" in text
    assert "\x1b[7m<s>\x1b[0m" in text
    assert "\x1b[1;4;7;32m</s>\x1b[0m" in text


def test_where_nothing_can_be_styled_the_loss_stands_in_brackets() -> None:
    text = printed(terminal=False)
    assert "tokens not shown … ⟦ written</s>⟧" in text
    assert "read only ⟦in the loss⟧\n" in text
    assert "⟦" not in printed(terminal=True)


def test_texts_neither_style_nor_control_the_terminal() -> None:
    text = printed(terminal=True)
    assert "\x1b[2J" not in text
    assert "[bold]read↵\n␛[2J" in printed(terminal=False)


def test_lengths_and_losses_follow_the_rows() -> None:
    text = printed(terminal=False)
    assert "row 1" not in text
    assert "row 1" in printed(terminal=False, rows=2)
    assert "median 30, 95% at most 40, 99% at most 41, longest 42" in text
    assert "401 of 402 rows are trained on" in text
    assert "too_long" in text


def test_a_bucket_with_rows_has_a_bar_and_an_empty_one_has_none() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        print_lengths("whole", FIGURES, console)
    bars = [line.count("█") for line in captured.get().splitlines() if " to " in line]
    assert bars == [1, 0, 40]


def test_a_preview_is_read_from_file_and_bytes_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    data = msgspec.json.encode(PREVIEW)
    (tmp_path / "preview.json").write_bytes(data)
    assert read_preview(data) == read_preview(tmp_path / "preview.json") == PREVIEW
    for wrong in (b"[]", b"{", tmp_path / "absent.json"):
        with pytest.raises(MultifacetError, match=r"preview\.json"):
            read_preview(wrong)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n\tb", "a\n\tb"),
        ("\x00\x1b\r", "␀␛␍"),
        ("\x7f\x9b", "␡<U+009B>"),
        ("a\u202eb", "a<U+202E>b"),
        ("é😀", "é😀"),
    ],
)
def test_control_characters_are_shown_as_symbols(text: str, shown: str) -> None:
    assert visible(text) == shown
