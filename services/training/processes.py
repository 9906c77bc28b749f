"""Runs the processes of a training: this one alone, or several beside it whose first one reports to this one."""

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import torch

from services.training.rank import FIRST_PID_FILE, LINES_FILE, train
from services.training.ranks import launch_command, launch_environment
from services.training.request import (
    REQUEST_FILE,
    RankAnswer,
    RankFault,
    TrainingOutcome,
    TrainingRequest,
    read_answer,
    write_json,
)
from services.training.telling import Tell, hand_on
from services.training.watching.stopping import StopRequest
from shared.domain.errors import InputRefused, StepFailed, StepInterrupted

_POLL_SECONDS = 0.2


def run_training(request: TrainingRequest, folder: Path, stop: StopRequest, tell: Tell) -> TrainingOutcome:
    """Train in as many processes as the parameters ask for, and return how it ended.

    `folder` is for what the processes tell each other. Raises InputRefused, StepFailed and StepInterrupted as a process raised
    them, and RuntimeError where the processes ended without an answer.
    """
    processes = request.training().processes
    if processes == 1:
        return train(request, stop, tell)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / REQUEST_FILE, request)
    (folder / LINES_FILE).touch()
    process = subprocess.Popen(
        launch_command(processes, "services.training.rank", [str(folder)]),
        env=launch_environment(processes, dict(os.environ)),
        stdout=2,
    )
    relay = threading.Event()
    follower = threading.Thread(target=_follow, args=(folder / LINES_FILE, relay, tell), daemon=True)
    follower.start()
    asked = False
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
            if stop.asked and not asked:
                asked = _ask_first(folder / FIRST_PID_FILE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        relay.set()
        follower.join()
    return _outcome(folder, process.returncode)


def check_devices(processes: int) -> None:
    """Raise InputRefused where this machine has GPUs, but fewer than processes; on CPUs any number runs."""
    count = torch.cuda.device_count()
    if torch.cuda.is_available() and count < processes:
        raise InputRefused(
            f"processes is {processes}, one per GPU, but this worker has {count}; set processes to {count} or less",
            "/processes",
        )


def _ask_first(pid_file: Path) -> bool:
    """Tell the first process to stop; the others hear of it from it. Not the launcher: it would end them at once."""
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        return True
    return False


def _follow(path: Path, ended: threading.Event, tell: Tell) -> None:
    """Hand on what the first process says, line by line, until `ended` is set and all is read."""
    with path.open("rb") as lines:
        rest = b""
        while True:
            last_round = ended.is_set()
            rest += lines.read()
            *whole, rest = rest.split(b"\n")
            for line in whole:
                hand_on(line, tell)
            if last_round:
                return
            ended.wait(_POLL_SECONDS)


def _outcome(folder: Path, status: int) -> TrainingOutcome:
    try:
        answer: RankAnswer = read_answer(folder)
    except FileNotFoundError:
        raise RuntimeError(f"the training's processes ended with status {status} and without an answer") from None
    if answer.outcome is not None:
        return answer.outcome
    fault = answer.fault or RankFault("failed", "step_error", "no reason was given")
    match fault.kind:
        case "refused":
            raise InputRefused(fault.message, fault.pointer)
        case "failed_step":
            raise StepFailed(fault.code, fault.message)
        case "stopped":
            raise StepInterrupted(fault.message)
        case _:
            raise RuntimeError(fault.message)
