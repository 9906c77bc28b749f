"""What calls of language models are counted under that belong to no job: somebody waits for their answer."""

from datetime import UTC, datetime

LIVE_PREFIX = "live:"
"""Begins what stands in place of a job's id."""
DAY_CHARACTERS = len("2026-11-24")


def live_account_of(project_id: str, moment: datetime) -> str:
    """`live:<UTC day>:<project>`. `moment` carries its time zone."""
    return f"{LIVE_PREFIX}{moment.astimezone(UTC):%Y-%m-%d}:{project_id}"
