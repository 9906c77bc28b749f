"""Openings: how many texts begin with the same words."""

from collections import Counter

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding
from shared.domain.similarity import word_tokens

WORDS = (3, 4, 5)
"""The finding is about the commonest first four words; those of three and five stand among its examples."""
JUDGED_WORDS = 4
SYSTEMS = Threshold(warn=0.25, bad=0.5)
OUTPUTS = Threshold(warn=0.1, bad=0.3)


def measure(data: AuditData) -> list[Finding]:
    """Share of texts with the commonest first four words."""
    systems = [(row.cluster, row.system) for row in data.rows if row.system is not None]
    outputs = [(row.cluster, text) for row in data.rows for text in (row.output, row.chosen) if text is not None]
    return [
        _openings("system_openings", "System messages with the commonest opening", systems, SYSTEMS),
        _openings("output_openings", "Answers with the commonest opening", outputs, OUTPUTS),
    ]


def _openings(name: str, title: str, texts: list[tuple[str, str]], threshold: Threshold) -> Finding:
    # The beginning of a text holds its first words; the rest need not be read.
    begun = [(cluster, word_tokens(text[:400])[: max(WORDS)]) for cluster, text in dict.fromkeys(texts)]
    begun = [(cluster, words) for cluster, words in begun if len(words) >= JUDGED_WORDS]
    if not begun:
        return not_applicable(name, title, f"no such text with {JUDGED_WORDS} words")
    examples = []
    for number in WORDS:
        counts = Counter(" ".join(words[:number]) for _, words in begun if len(words) >= number)
        examples += [f"{opening} …: {count / len(begun):.0%}" for opening, count in counts.most_common(2)]
    firsts = Counter(tuple(words[:JUDGED_WORDS]) for _, words in begun)
    commonest, _ = min(firsts.items(), key=lambda item: (-item[1], item[0]))
    observed = [(cluster, tuple(words[:JUDGED_WORDS]) == commonest) for cluster, words in begun]
    return share_finding(name, title, observed, "texts", threshold, examples=examples[1:])
