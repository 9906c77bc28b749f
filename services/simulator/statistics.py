"""Counts of what the simulator was asked and how it answered."""

from collections import Counter
from typing import Any


class Statistics:
    """Calls by class and status (`hang` and `reset` where no status was sent), faults, tokens, calls in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start all counts at zero; calls in flight stay counted as such."""
        self.calls: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[tuple[str, str]] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.maximum_in_flight = self.in_flight

    def entered(self) -> None:
        self.in_flight += 1
        self.maximum_in_flight = max(self.maximum_in_flight, self.in_flight)

    def left(self, request_class: str, status: str, fault: str | None) -> None:
        self.in_flight -= 1
        self.calls[request_class, status] += 1
        if fault is not None:
            self.faults[request_class, fault] += 1

    def as_builtins(self) -> dict[str, Any]:
        """The counts as JSON, nested by class."""
        return {
            "total": self.calls.total(),
            "calls": _nested(self.calls),
            "faults": _nested(self.faults),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "in_flight": self.in_flight,
            "maximum_in_flight": self.maximum_in_flight,
        }


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    for (outer, inner), count in sorted(counts.items()):
        result.setdefault(outer, {})[inner] = count
    return result
