"""Retry-After and jitter. The wire itself is tested with the models."""

from datetime import UTC, datetime

import pytest

from shared.llm.transport import backoff_seconds, parse_retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 12:00:07 GMT", 7.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_backoff_spreads_over_a_growing_range_with_an_end() -> None:
    for retry in range(200):
        assert 0 <= backoff_seconds(retry) <= min(20.0, 0.25 * 2 ** min(retry, 16))
    assert len({backoff_seconds(5) for _ in range(20)}) > 10
