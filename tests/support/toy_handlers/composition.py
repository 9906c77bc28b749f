from shared.domain.plan import StageKind
from shared.domain.rows import InstructionRow, Rejection
from shared.stages.protocol import RowContext, RowStageHandler


async def process(row: InstructionRow, context: RowContext) -> InstructionRow:
    if context.spec.name.startswith("bug") and row.source_row % 2:
        raise ValueError(f"a text that must not be kept: {row.instruction}")
    for facet in row.facets:
        facet.system = f"system {row.row_id} {facet.index}"
        if context.spec.name.startswith("reject"):
            facet.rejection = Rejection(context.stage, "toy_reason", "")
    return row


HANDLERS = (RowStageHandler(StageKind.COMPOSE, process, {}),)
