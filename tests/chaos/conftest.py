"""Grounds for the worlds of a test module."""

from collections.abc import Iterator

import pytest

from tests.chaos.servers import Grounds


@pytest.fixture(scope="module")
def grounds() -> Iterator[Grounds]:
    with Grounds() as made:
        yield made
