"""Answers: whether they are answers at all, whether they do what their system message demands, and whether anybody looked."""

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.audit.stated import checks_of
from shared.domain.checks import evaluate

EMPTY = Threshold(warn=0.0, bad=0.001)
FAILED = Threshold(warn=0.02, bad=0.1)
UNVERIFIED = Threshold(warn=0.5, bad=0.9)
FEWEST_CHARACTERS = 2


def measure(data: AuditData) -> list[Finding]:
    """Shares of: answers of one visible character or none; demands that a program can check and the answer fails; answers
    that neither a check in the system message nor a result beside them verifies."""
    answers = list(
        dict.fromkeys(
            (row.cluster, text)
            for row in data.rows
            for text in (row.output, row.chosen, row.rejected)
            if text is not None
        )
    )
    short = [(cluster, len("".join(text.split())) < FEWEST_CHARACTERS) for cluster, text in answers]
    examples = [repr(text) for (_, text), (_, flag) in zip(answers, short, strict=True) if flag]
    found = [
        share_finding("one_character_answers", "Answers of one character or none", short, "answers", EMPTY, examples=examples)
    ]  # fmt: skip
    return [*found, *_verified(data)]


def _verified(data: AuditData) -> list[Finding]:
    titles = {
        "failed_checks": "Checkable demands that the answer fails",
        "unverified_answers": "Answers that nothing verifies",
    }
    rows = [
        (row, answer)
        for row in data.rows
        if row.system and (answer := row.output if row.output is not None else row.chosen) is not None
    ]
    if not rows:
        why = "this layout has no system message of its own"
        return [not_applicable(name, title, why) for name, title in titles.items()]
    failed: list[tuple[str, bool]] = []
    unverified: list[tuple[str, bool]] = []
    examples: list[str] = []
    for row, answer in rows:
        outcomes = [(check, evaluate(check, answer)) for check in checks_of(row.system or "")]
        judged = [(check, outcome) for check, outcome in outcomes if outcome.outcome != "not_applicable"]
        failed += [(row.cluster, outcome.outcome == "fail") for _, outcome in judged]
        examples += [
            f"{check.kind}: {outcome.detail} — {answer}" for check, outcome in judged if outcome.outcome == "fail"
        ][: max(0, 5 - len(examples))]
        unverified.append((row.cluster, not judged and not row.verified))
    first = (
        share_finding("failed_checks", titles["failed_checks"], failed, "demands", FAILED, examples=examples)
        if failed
        else not_applicable("failed_checks", titles["failed_checks"], "no machine check is stated in a system message")
    )
    return [
        first,
        share_finding(
            "unverified_answers",
            titles["unverified_answers"],
            unverified,
            "answers",
            UNVERIFIED,
            note="verified: a check in the system message that a program ran here, or a result or score in the file",
        ),
    ]
