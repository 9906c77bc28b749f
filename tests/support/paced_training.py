"""The real training at a pace at which a test can hit it: in the middle of its steps, or of an upload.

PACED_STEP_SECONDS before each step and PACED_UPLOAD_SECONDS before each file of a checkpoint; both 0 where they are not set.
"""

import os
import time
from pathlib import Path
from typing import Any

from shared.domain.plan import StageKind
from shared.stages.protocol import WholeContext, WholeResult, WholeStepHandler


def run(context: WholeContext) -> WholeResult:
    from services.training import step
    from services.training.checkpoints.blocking_store import BlockingStore
    from services.training.trainers.unpadded import UnpaddedTraining

    count_items, put_file = UnpaddedTraining._get_num_items_in_batch, BlockingStore.put_file

    def paced_step(self: Any, *arguments: Any) -> int:
        time.sleep(float(os.environ.get("PACED_STEP_SECONDS", "0")))
        return count_items(self, *arguments)

    def paced_upload(self: Any, key: str, path: Path) -> Any:
        time.sleep(float(os.environ.get("PACED_UPLOAD_SECONDS", "0")))
        return put_file(self, key, path)

    UnpaddedTraining._get_num_items_in_batch = paced_step  # type: ignore[method-assign]
    BlockingStore.put_file = paced_upload  # type: ignore[method-assign]
    return step.run(context)


HANDLERS = (WholeStepHandler(StageKind.TRAIN, f"{__name__}:run", stops_itself=True),)
