"""What the curation role runs: the first stage of a job, its assembly, what is asked of it and its report, each in a child
process of its own."""

from shared.domain.plan import StageKind
from shared.stages.protocol import WholeStepHandler

HANDLERS: tuple[WholeStepHandler, ...] = (
    WholeStepHandler(StageKind.CURATE, "services.curation.curate:run"),
    WholeStepHandler(StageKind.ASSEMBLE, "services.curation.assembly.assemble:run"),
    WholeStepHandler(StageKind.SELECT, "services.curation.select:run"),
    WholeStepHandler(StageKind.REPORT, "services.curation.reporting.report:run"),
)
