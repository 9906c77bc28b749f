import asyncio
import os

from shared.domain.plan import StageKind
from shared.domain.rows import InstructionRow
from shared.stages.protocol import RowContext, RowStageHandler


async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
    if context.spec.name.startswith("slow"):
        await asyncio.sleep(float(os.environ.get("TOY_ROW_SECONDS", "0.05")))
    for facet in row.facets:
        if facet.alive:
            facet.response = f"response {row.row_id} {facet.index}"
    return row


HANDLERS = (RowStageHandler(StageKind.RESPOND, process, {}),)
