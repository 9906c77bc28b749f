"""What one training process has seen and all of them must act on in the same step."""

import torch
from torch import distributed


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process. Every process must call it at the same place. Alone: `flag` itself."""
    if not _several():
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    seen = torch.tensor(int(flag), device=device)
    distributed.all_reduce(seen, op=distributed.ReduceOp.MAX)
    return bool(seen.item())


def wait_for_all() -> None:
    """Return when every process has come here."""
    if _several():
        distributed.barrier()


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
