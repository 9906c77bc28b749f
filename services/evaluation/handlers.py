"""What the evaluation role runs: rubrics and benches, answers out of files, judges, local models that score, the report."""

from services.evaluation.comparing.comparing import PROTOCOLS, compare
from services.evaluation.judging import grading, rating
from services.evaluation.measuring.measuring import measure
from services.evaluation.rubrics import writing
from shared.domain.plan import StageKind
from shared.stages.protocol import RowStageHandler, WholeStepHandler

HANDLERS: tuple[RowStageHandler | WholeStepHandler, ...] = (
    WholeStepHandler(StageKind.BENCH, "services.evaluation.bench.keeping:run"),
    RowStageHandler(StageKind.RUBRIC, writing.write_rubrics, {writing.SCHEMA_NAME: writing.PROMPT.version}),
    WholeStepHandler(StageKind.TAKE, "services.evaluation.taking.taking:run"),
    RowStageHandler(StageKind.MEASURE, measure, {}),
    RowStageHandler(StageKind.JUDGE, grading.judge, {grading.SCHEMA_NAME: grading.PROMPT.version}, takes_rejected=True),
    RowStageHandler(StageKind.RATE, rating.rate, {rating.SCHEMA_NAME: rating.PROMPT.version}, takes_rejected=True),
    RowStageHandler(
        StageKind.COMPARE,
        compare,
        {protocol.schema_name: protocol.prompt.version for protocol in PROTOCOLS.values()},
        joins=True,
        takes_rejected=True,
    ),
    WholeStepHandler(StageKind.EVALUATE, "services.evaluation.reporting.report:run"),
)
