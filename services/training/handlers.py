"""What the service `training` runs. Nothing of torch is imported here: a worker with all roles starts without it."""

from shared.domain.plan import StageKind
from shared.stages.protocol import WholeStepHandler

HANDLERS = (WholeStepHandler(StageKind.TRAIN, "services.training.step:run", stops_itself=True),)
