"""Contradictions: system messages that demand what no answer can give at once."""

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.audit.stated import checks_of
from shared.audit.words import words
from shared.domain.checks import first_conflict

LIMITS = Threshold(warn=0.005, bad=0.02)


def contradiction(system: str) -> str | None:
    """Why a system message contradicts itself: machine checks that conflict, then the opposite demands of `words.yaml`;
    None where neither is found, which proves nothing."""
    if reason := first_conflict(checks_of(system)):
        return reason
    for rule in words().opposites:
        one, other = rule.one.search(system), rule.other.search(system)
        if one and other:
            return f"{rule.name}: “{one[0]}” and “{other[0]}”"
    return None


def measure(data: AuditData) -> list[Finding]:
    """Share of different system messages with a contradiction."""
    title = "System messages that contradict themselves"
    systems = dict.fromkeys((row.cluster, row.system) for row in data.rows if row.system)
    if not systems:
        return [not_applicable("contradictions", title, "this layout has no system message of its own")]
    found = [(cluster, system, contradiction(system)) for cluster, system in systems]
    return [
        share_finding(
            "contradictions",
            title,
            [(cluster, reason is not None) for cluster, _, reason in found],
            "system messages",
            LIMITS,
            note="found by conflicting machine checks and by word rules, English only: a lower bound",
            examples=[f"{reason} — {system}" for _, system, reason in found if reason],
        )
    ]
