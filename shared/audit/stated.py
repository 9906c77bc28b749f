"""The machine checks that a system message states, read once."""

from functools import lru_cache

from shared.audit.data import MOST_ROWS
from shared.domain.checks import find_checks
from shared.domain.rows import Check


@lru_cache(maxsize=2 * MOST_ROWS)
def checks_of(system: str) -> tuple[Check, ...]:
    """`find_checks` of a text; several measures ask for the same, and the patterns take most of an audit's time."""
    return tuple(find_checks(system))
