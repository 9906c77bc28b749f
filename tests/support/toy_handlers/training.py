"""A toy training: it counts steps, leaves checkpoints in the job's folder of the store, and does what its name says."""

from shared.domain.ledger import Ledger
from shared.domain.plan import StageKind
from shared.stages.protocol import OutputObject, WholeContext, WholeResult, WholeStepHandler


def train(context: WholeContext) -> WholeResult:
    path = context.output_folder / "config.json"
    path.write_text("{}")
    return WholeResult((OutputObject("model/config.json", path, "application/json", kind="model"),), Ledger())


HANDLERS = (WholeStepHandler(StageKind.TRAIN, f"{__name__}:train"),)
