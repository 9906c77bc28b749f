"""Terminals of one width, whatever the machine's is: how a table is folded is no subject of these tests."""

import pytest

from services.cli import annotations, main


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    # The consoles are made when their modules are imported, and know the terminal of that moment.
    for console in (main.console, annotations._console):
        monkeypatch.setattr(console, "_width", 160)
