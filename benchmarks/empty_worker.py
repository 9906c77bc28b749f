"""A worker whose steps of row stages do nothing: they are claimed and committed by the product's own code, and read and store no
part. What a benchmark of the control plane measures then is the control plane.

`python -m benchmarks.empty_worker` takes the arguments of `python -m shared.stages.worker`.
"""

from shared.domain.ledger import Ledger
from shared.domain.plan import ROW_STAGES, StageKind
from shared.queue.lease import Lease
from shared.stages import worker
from shared.stages.capacity import StepLoad
from shared.stages.row_runner import StepProduct
from shared.stages.step_runner import StepRunner


class EmptyStepRunner(StepRunner):
    """Commits steps of row stages at once; whole steps run as ever."""

    async def _produce(self, lease: Lease, load: StepLoad) -> None:
        if StageKind(lease.claim.kind) not in ROW_STAGES:
            return await super()._produce(lease, load)
        return await self._commit(lease, StepProduct(Ledger(), []))


if __name__ == "__main__":
    worker.StepRunner = EmptyStepRunner  # type: ignore[misc]
    worker.main()
