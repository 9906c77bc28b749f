"""What the evaluation role runs: rubrics and benches, answers out of files, judges, local models that score, the report."""

from shared.domain.plan import StageKind
from shared.stages.protocol import RowStageHandler, WholeStepHandler

HANDLERS: tuple[RowStageHandler | WholeStepHandler, ...] = (
    WholeStepHandler(StageKind.BENCH, "services.evaluation.bench.keeping:run"),
)
