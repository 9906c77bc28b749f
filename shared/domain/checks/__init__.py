"""Machine checks: the part of a preference that a program can verify.

Three-valued (pass, fail, not applicable), each kind with exactly one canonical sentence that can stand in a system
message, and `find_checks` to read the checks back from a text.
"""

from shared.domain.checks.conflicts import conflict, first_conflict
from shared.domain.checks.outcome import CheckOutcome
from shared.domain.checks.registry import (
    CHECK_KINDS,
    NECESSARY_KINDS,
    canonical_sentence,
    evaluate,
    find_checks,
    presumes_language,
    validate_check,
)
from shared.domain.rows import Check

__all__ = [
    "CHECK_KINDS",
    "NECESSARY_KINDS",
    "Check",
    "CheckOutcome",
    "canonical_sentence",
    "conflict",
    "evaluate",
    "find_checks",
    "first_conflict",
    "presumes_language",
    "validate_check",
]
