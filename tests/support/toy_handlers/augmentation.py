import asyncio
import os

from shared.domain.errors import StepDeferred
from shared.domain.plan import StageKind
from shared.domain.rows import Facet, InstructionRow
from shared.stages.protocol import RowContext, RowStageHandler

_deferred: set[str] = set()


async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
    if context.spec.name.startswith("defer") and context.job_id not in _deferred:
        _deferred.add(context.job_id)
        raise StepDeferred("the toy is not ready", 0.05)
    if context.spec.name.startswith("slow"):
        await asyncio.sleep(float(os.environ.get("TOY_ROW_SECONDS", "0.05")))
    row.facets = [Facet(index) for index in range(context.spec.augment.sets_per_instruction)]
    return row


HANDLERS = (RowStageHandler(StageKind.AUGMENT, process, {"toy": "0123456789ab"}),)
