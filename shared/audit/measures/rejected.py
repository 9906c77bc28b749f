"""Rejected answers: whether anything checks that they violate the system message that they were rejected under."""

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.audit.stated import checks_of
from shared.domain.checks import evaluate

PASSING = Threshold(warn=0.3, bad=0.6)


def measure(data: AuditData) -> list[Finding]:
    """Share of rejected answers that pass every machine check of the system message that was shown, of those under a system
    message with a check that applies to them. Such an answer may still miss a wish that no program can check."""
    name, title = "rejected_passes", "Rejected answers that pass all checks"
    pairs = [row for row in data.rows if row.rejected is not None]
    if not pairs:
        return [not_applicable(name, title, "this layout has no pairs")]
    if all(row.system is None for row in pairs):
        return [not_applicable(name, title, "this layout has no system message of its own")]
    observed: list[tuple[str, bool]] = []
    examples: list[str] = []
    for row in pairs:
        outcomes = [(check, evaluate(check, row.rejected or "").outcome) for check in checks_of(row.system or "")]
        judged = [(check, outcome) for check, outcome in outcomes if outcome != "not_applicable"]
        if not judged:
            continue
        passes = all(outcome == "pass" for _, outcome in judged)
        observed.append((row.cluster, passes))
        if passes:
            examples.append(f"passes {', '.join(check.kind for check, _ in judged)} — {row.rejected}")
    if not observed:
        return [not_applicable(name, title, "no machine check is stated in a system message")]
    note = f"{len(pairs) - len(observed):,} of {len(pairs):,} pairs state no check that could tell and are left out"
    return [share_finding(name, title, observed, "rejected answers", PASSING, note=note, examples=examples)]
