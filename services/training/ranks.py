"""Trainings in several processes: how they are started, and who is who.

One process per GPU, all of them running the same module with the same arguments; torch's launcher tells each its rank. On GPUs
weights, gradients and optimizer state are shared out (FSDP2 through accelerate), on CPUs every process has all of them (DDP over
gloo). Rank 0 writes files and talks to the outside; the others only compute. `Trainer.save_model` gathers the weights, so all of
them must call it.
"""

import os
import sys
from collections.abc import Sequence


def launch_command(processes: int, module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs `python -m module arguments` in so many processes on this machine.

    One process is started directly. Several get a launcher above them, which ends all when one fails and passes SIGTERM on.
    """
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nnodes=1",
        f"--nproc-per-node={processes}",
        "--module",
        module,
        *arguments,
    ]


def launch_environment(processes: int, environment: dict[str, str]) -> dict[str, str]:
    """`environment` with what the processes need: cores shared out evenly, unless somebody said how many threads to take."""
    if processes == 1 or "OMP_NUM_THREADS" in environment:
        return environment
    return {**environment, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}


def running_processes() -> int:
    """How many processes train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes files and reports. True where there is only one."""
    return os.environ.get("RANK", "0") == "0"
