"""What the curation role runs: the first stage of a job and its last two, each in a child process of its own."""

from shared.domain.plan import StageKind
from shared.stages.protocol import WholeStepHandler

HANDLERS: tuple[WholeStepHandler, ...] = (
    WholeStepHandler(StageKind.CURATE, "services.curation.curate:run"),
    WholeStepHandler(StageKind.ASSEMBLE, "services.curation.assembly.assemble:run"),
    WholeStepHandler(StageKind.REPORT, "services.curation.reporting.report:run"),
)
