"""Orders of pairs: whether a pair of answers is used under both system messages, or in one order only."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from shared.audit.data import AuditData
from shared.audit.findings import Finding, Threshold, not_applicable, share_finding

BOTH_ORDERS = "both_orders"
"""Method of a figure that is exact since every pair is there in both orders: what one order adds the other takes back."""
MIRRORED = Threshold(warn=0.9, bad=0.5, worse="below")


def measure(data: AuditData) -> list[Finding]:
    """Share of pairs whose mirror, the same two answers with chosen and rejected swapped, is in the set too."""
    title = "Pairs that are there in both orders"
    pairs = [
        (row.cluster, _short(row.chosen), _short(row.rejected))
        for row in data.rows
        if row.chosen is not None and row.rejected is not None
    ]
    if not pairs:
        return [not_applicable("mirrored_pairs", title, "this layout has no pairs")]
    known = set(pairs)
    observed = [(cluster, (cluster, rejected, chosen) in known) for cluster, chosen, rejected in pairs]
    orders = len(known) / len({cluster for cluster, _, _ in pairs})
    note = f"{orders:.1f} ordered pairs an instruction; three answers give 6"
    return [share_finding("mirrored_pairs", title, observed, "pairs", MIRRORED, note=note)]


def all_mirrored(pairs: Sequence[tuple[str, str, str]]) -> bool:
    """Whether every pair (instruction, chosen, rejected) has its mirror, as often as it is there itself."""
    counts = Counter((cluster, _short(chosen), _short(rejected)) for cluster, chosen, rejected in pairs)
    return all(counts[cluster, rejected, chosen] == number for (cluster, chosen, rejected), number in counts.items())


def _short(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
