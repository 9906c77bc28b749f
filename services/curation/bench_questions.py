"""What is asked of a bench: its items, but for those that its review dropped."""

from collections.abc import Iterable

from shared.artifacts.tables import read_rows
from shared.bench_layout.files import BenchContents, read_bench_file
from shared.domain.benches import item_id
from shared.domain.evaluations import BENCH
from shared.domain.rows import InstructionRow
from shared.stages.answer_inputs import DROPPED
from shared.stages.protocol import InputObject

_POINTER = "/questions/bench"


def bench_contents(held: InputObject) -> BenchContents:
    """All items of a bench in memory: the rows that a job kept, or those of an uploaded file with the lines that are no items.
    Raises InputRefused for an upload that cannot be read."""
    if held.stage == BENCH:
        return BenchContents(read_rows(held.path), [])
    return read_bench_file(held.path, str(held.metadata.get("name") or held.name), _POINTER)


def without_dropped(rows: Iterable[InstructionRow], held: InputObject) -> list[InstructionRow]:
    """The rows with the items that the review did not drop; rows without any are left out."""
    dropped = frozenset(held.metadata.get(DROPPED, ()))
    kept = []
    for row in rows:
        facets = [facet for facet in row.facets if item_id(row.row_id, facet.index) not in dropped]
        if facets:
            row.facets = facets
            kept.append(row)
    return kept
