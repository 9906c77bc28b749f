"""What the inference role runs: a model put on a server, in a child process that waits for it, and answers of candidates."""

from services.inference.answer.answering import answer
from shared.domain.plan import StageKind
from shared.stages.protocol import RowStageHandler, WholeStepHandler

HANDLERS: tuple[RowStageHandler | WholeStepHandler, ...] = (
    WholeStepHandler(StageKind.DEPLOY, "services.inference.deploying:run"),
    RowStageHandler(StageKind.ANSWER, answer, {}),
)
