"""What a measure says, in one shape for all of them."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from shared.statistics.intervals import Interval, cluster_mean_interval

Verdict = Literal["ok", "warn", "bad", "not_applicable"]

VERDICT_WORDS: dict[Verdict, str] = {"ok": "ok", "warn": "doubtful", "bad": "bad", "not_applicable": "not applicable"}
"""Verdicts as people read them."""

FEWEST_CLUSTERS = 20
"""Instructions from which on a bootstrap or quantile figure can be called bad. A bootstrap draws from what was seen, so with a
handful of instructions it hardly shows what others would have given, and the ends of a quantile's interval are the sample's own
extremes: simulated, with 20 instructions they hold the truth in 90% of samples at best instead of 95%, for entropy over many
categories in 12% (docs/statistics.md). What all of a few instructions have alike has no interval at all. Shares and means keep
their level with few instructions, since Wilson's and Student's intervals widen, and can be bad."""
_UNSURE_WHEN_FEW = ("bootstrap_", "woodruff_", "no_variation")

NOMINAL_FROM = {
    "coverage_entropy": 150,
    "system_length_variation": 400,
    "similar_descriptions": 150,
    "similar_systems": 150,
}
"""Instructions from which on the interval of a measure holds the truth about as often as it says, by the simulation in
docs/statistics.md; below that it is too short, and says so."""

EXAMPLES = 5
EXAMPLE_CHARACTERS = 240


class Threshold(msgspec.Struct, frozen=True):
    """Where a figure becomes doubtful (`warn`) and where bad; `bad` None: at most doubtful. `worse`: above them, below them, or
    `apart` (further from `centre` than them, on either side)."""

    warn: float
    bad: float | None
    worse: Literal["above", "below", "apart"] = "above"
    centre: float = 0.0

    def verdict(self, interval: Interval) -> Verdict:
        """`bad` where the estimate is past `bad` and the whole interval past `warn`; `warn` where the estimate is past
        `warn`. Without an interval (one instruction alone) nothing is called bad; where all values are equal the estimate
        decides. Below FEWEST_CLUSTERS a figure whose interval is a bootstrap's or a quantile's is at most doubtful."""
        if interval.estimate is None:
            return "not_applicable"
        if not self._past(interval.estimate, self.warn):
            return "ok"
        if self.bad is None or not self._past(interval.estimate, self.bad):
            return "warn"
        if interval.clusters < FEWEST_CLUSTERS and interval.method.startswith(_UNSURE_WHEN_FEW):
            return "warn"
        if interval.low is None or interval.high is None:
            return "bad" if interval.method == "no_variation" else "warn"
        return "bad" if self._all_past(interval.low, interval.high) else "warn"

    def __str__(self) -> str:
        limits = f"{self.warn:g} / {'never' if self.bad is None else format(self.bad, 'g')}"
        return f"further from {self.centre:g} than {limits}" if self.worse == "apart" else f"{self.worse} {limits}"

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

    `note` says what was sampled or why the measure does not apply, `interval_note` what keeps the interval from its 95%;
    `examples` are cut texts of the data.
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
    interval_note: str = ""


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
    interval_note: str = "",
) -> Finding:
    """A finding judged by its threshold; long examples are cut and five kept."""
    kept = []
    for example in examples:
        kept.append(shortened(example))
        if len(kept) == EXAMPLES:
            break
    verdict = threshold.verdict(interval)
    if verdict == "not_applicable" and not note:
        note = why_no_interval(interval.method)
    return Finding(
        name, title, interval.estimate, interval, n, unit, verdict, str(threshold), note, tuple(kept),
        interval_note or _too_short(name, interval),
    )  # fmt: skip


def why_no_interval(method: str) -> str:
    """The `method` of an interval that has no ends, in words for a reader."""
    return _WITHOUT_ENDS.get(method, method.replace("_", " "))


_WITHOUT_ENDS = {
    "nothing": "nothing to count",
    "one_cluster": "none: only one",
    "no_variation": "none: the same in every instruction",
    "too_few_instructions": "too few instructions to learn and test a rule",
    "rarely_drawn": "none: too few instructions have it",
    "length_confounded": "none: lengths always differ by the same",
    "length_separated": "none: length and model tell every verdict",
}


def _too_short(name: str, interval: Interval) -> str:
    least = NOMINAL_FROM.get(name, 0)
    if interval.low is None or interval.clusters >= least:
        return ""
    return f"interval too short below {least} instructions: nominal"


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
