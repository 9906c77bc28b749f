"""What a measure says, in one shape for all of them."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from shared.statistics.intervals import Interval, cluster_mean_interval

Verdict = Literal["ok", "warn", "bad", "not_applicable"]

EXAMPLES = 5
EXAMPLE_CHARACTERS = 240


class Threshold(msgspec.Struct, frozen=True):
    """Where a figure becomes doubtful (`warn`) and where bad. `worse`: above them, below them, or `apart` (further from
    `centre` than them, on either side)."""

    warn: float
    bad: float
    worse: Literal["above", "below", "apart"] = "above"
    centre: float = 0.0

    def verdict(self, interval: Interval) -> Verdict:
        """`bad` where the estimate is past `bad` and the whole interval past `warn`; `warn` where the estimate is past
        `warn`. Without an interval (one instruction alone) nothing is called bad; where all values are equal the estimate
        decides."""
        if interval.estimate is None:
            return "not_applicable"
        if not self._past(interval.estimate, self.warn):
            return "ok"
        if not self._past(interval.estimate, self.bad):
            return "warn"
        if interval.low is None or interval.high is None:
            return "bad" if interval.method == "no_variation" else "warn"
        return "bad" if self._all_past(interval.low, interval.high) else "warn"

    def __str__(self) -> str:
        if self.worse == "apart":
            return f"further from {self.centre:g} than {self.warn:g} / {self.bad:g}"
        return f"{self.worse} {self.warn:g} / {self.bad:g}"

    def _past(self, value: float, limit: float) -> bool:
        match self.worse:
            case "above":
                return value > limit
            case "below":
                return value < limit
            case "apart":
                return abs(value - self.centre) > limit

    def _all_past(self, low: float, high: float) -> bool:
        if self.worse == "apart" and low <= self.centre <= high:
            return False
        return self._past(low, self.warn) and self._past(high, self.warn)


class Finding(msgspec.Struct, frozen=True):
    """One figure of an audit. `n` counts what was looked at, `unit` says what that is; `estimate` repeats the interval's.

    `note` says what was sampled or why the measure does not apply; `examples` are cut texts of the data.
    """

    name: str
    title: str
    estimate: float | None
    interval: Interval | None
    n: int
    unit: str
    verdict: Verdict
    threshold: str
    note: str = ""
    examples: tuple[str, ...] = ()


def finding(
    name: str,
    title: str,
    interval: Interval,
    n: int,
    unit: str,
    threshold: Threshold,
    *,
    note: str = "",
    examples: Iterable[str] = (),
) -> Finding:
    """A finding judged by its threshold; long examples are cut and five kept."""
    kept = []
    for example in examples:
        kept.append(shortened(example))
        if len(kept) == EXAMPLES:
            break
    verdict = threshold.verdict(interval)
    if verdict == "not_applicable" and not note:
        note = interval.method.replace("_", " ")
    return Finding(name, title, interval.estimate, interval, n, unit, verdict, str(threshold), note, tuple(kept))


def share_finding(
    name: str,
    title: str,
    observed: Sequence[tuple[str, bool]],
    unit: str,
    threshold: Threshold,
    *,
    note: str = "",
    examples: Iterable[str] = (),
) -> Finding:
    """The share of observations that are true; `observed`: (instruction, whether it is so)."""
    interval = cluster_mean_interval([float(flag) for _, flag in observed], [cluster for cluster, _ in observed])
    return finding(name, title, interval, len(observed), unit, threshold, note=note, examples=examples)


def not_applicable(name: str, title: str, why: str) -> Finding:
    """The measure does not apply to this data, and `why`."""
    return Finding(name, title, None, None, 0, "", "not_applicable", "", why)


def shortened(text: str) -> str:
    """One line of a text, cut."""
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[: EXAMPLE_CHARACTERS - 1].rstrip()}…"
