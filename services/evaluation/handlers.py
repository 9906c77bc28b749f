"""What the evaluation role runs: rubrics and benches, answers out of files, judges, local models that score, the report."""

from shared.stages.protocol import RowStageHandler, WholeStepHandler

HANDLERS: tuple[RowStageHandler | WholeStepHandler, ...] = ()
