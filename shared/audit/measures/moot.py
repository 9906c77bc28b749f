"""Moot facets: preferences that do not tell the answers of one instruction apart."""

from itertools import combinations

import numpy as np

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.audit.stated import checks_of
from shared.domain.checks import evaluate
from shared.domain.similarity import rouge_l_tokens, word_tokens
from shared.statistics.intervals import SEED

MOST_INSTRUCTIONS = 1500
COMPARED_CHARACTERS = 4000
ALIKE = 0.9
"""ROUGE-L from which two answers are as good as the same."""
RECORDED = Threshold(warn=0.15, bad=0.4)
CHECKS = Threshold(warn=0.3, bad=0.6)
SYSTEMS = Threshold(warn=0.3, bad=0.6)
ANSWERS = Threshold(warn=0.02, bad=0.1)


def answers_of(data: AuditData) -> dict[str, dict[str, str]]:
    """Instruction -> system message -> the answer to it, of instructions with two system messages and more; sampled."""
    found: dict[str, dict[str, str]] = {}
    for row in data.rows:
        answer = row.output if row.output is not None else row.chosen
        if row.system and answer is not None:
            found.setdefault(row.cluster, {}).setdefault(row.system, answer)
    kept = {cluster: answers for cluster, answers in found.items() if len(answers) > 1}
    if len(kept) <= MOST_INSTRUCTIONS:
        return kept
    names = list(kept)
    chosen = np.random.default_rng(SEED).choice(len(names), MOST_INSTRUCTIONS, replace=False)
    return {names[i]: kept[names[i]] for i in np.sort(chosen)}


def measure(data: AuditData) -> list[Finding]:
    """Share of preferences that were found moot when they were judged, where the layout says so; and `_compared`."""
    return [_recorded(data), *_compared(data)]


def _recorded(data: AuditData) -> Finding:
    name, title = "moot_preferences", "Preferences found moot"
    known = [(row.cluster, entry) for row in data.rows for entry in row.entries or () if entry.moot is not None]
    if not known:
        return not_applicable(name, title, "this layout does not say which preferences are moot")
    return share_finding(
        name,
        title,
        [(cluster, bool(entry.moot)) for cluster, entry in known],
        "preferences",
        RECORDED,
        note="every answer follows them anyway, as the judge or the program saw that made the set; what neither could "
        "judge counts as not moot",
        examples=[f"{entry.preference}: {entry.description}" for _, entry in known if entry.moot],
    )


def _compared(data: AuditData) -> list[Finding]:
    """Shares of: machine checks that every sibling's answer passes too; system messages all of whose checks are so; pairs
    of answers of an instruction that are nearly the same under two system messages."""
    answers = answers_of(data)
    titles = (
        "Checks that all siblings pass",
        "System messages whose checks all siblings pass",
        "Answers nearly the same",
    )
    names = ("moot_checks", "moot_systems", "same_answers")
    if not answers:
        why = "no instruction has answers to two system messages"
        return [not_applicable(name, title, why) for name, title in zip(names, titles, strict=True)]
    checks: list[tuple[str, bool]] = []
    systems: list[tuple[str, bool]] = []
    moot: list[str] = []
    alike: list[tuple[str, bool]] = []
    same: list[str] = []
    for cluster, siblings in answers.items():
        for system in siblings:
            flags = [
                all(evaluate(check, text).outcome == "pass" for other, text in siblings.items() if other != system)
                for check in checks_of(system)
            ]
            checks += [(cluster, flag) for flag in flags]
            if flags:
                systems.append((cluster, all(flags)))
                moot += [system] * all(flags)
        tokens = [(text, word_tokens(text[:COMPARED_CHARACTERS])) for text in siblings.values()]
        for (left, left_tokens), (right, right_tokens) in combinations(tokens, 2):
            near = left == right or rouge_l_tokens(left_tokens, right_tokens) >= ALIKE
            alike.append((cluster, near))
            if near:
                same.append(f"{left[:110]} | {right[:110]}")
    note = f"{len(answers):,} instructions with several system messages"
    found = [
        share_finding(names[0], titles[0], checks, "checks", CHECKS, note=note, examples=moot),
        share_finding(names[1], titles[1], systems, "system messages with checks", SYSTEMS, note=note, examples=moot),
    ]
    if not checks:
        why = "no machine check is stated in a system message"
        found = [not_applicable(name, title, why) for name, title in zip(names[:2], titles[:2], strict=True)]
    return [*found, share_finding(names[2], titles[2], alike, "pairs of answers", ANSWERS, note=note, examples=same)]
