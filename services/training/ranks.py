"""Trainings in several processes: how they are started, and who is who.

One process per GPU, all of them running the same module with the same arguments; torch's launcher tells each its rank. On GPUs
weights, gradients and optimizer state are shared out (FSDP2 through accelerate), on CPUs every process has all of them (DDP over
gloo). Rank 0 writes files and talks to the outside; the others only compute. `Trainer.save_model` gathers the weights, so all of
them must call it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

_LOOK_SECONDS = 0.5


def launch_command(processes: int, module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs `python -m module arguments` in several processes on this machine, below a launcher that ends all
    when one fails."""
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
    if "OMP_NUM_THREADS" in environment:
        return environment
    return {**environment, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}


def running_processes() -> int:
    """How many processes train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes files and reports. True where there is only one."""
    return os.environ.get("RANK", "0") == "0"


def end_with_parent() -> None:
    """Kill this process soon after the one that started it is gone.

    The launcher gives each process a session of its own, so that what kills the step and its launcher does not reach them: they
    would train on, and store checkpoints, while another worker has taken the step.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
