"""A training in two processes, from its rows to its model: as one process trains, stopped in the middle and gone on with."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from shared.domain.errors import StepInterrupted
from tests.services.training.step_support import Trainings, running_trainings, training

# The processes start and import everything twice; on a busy machine that takes a while.
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
STEPS = 12


def spec(processes: int) -> list[dict[str, Any]]:
    values = {"maximum_steps": STEPS, "learning_rate": 1e-4, "global_batch": 16, "packing": False}
    return [training("two", processes=processes, **values)]


@contextmanager
def sigterm_after_the_first_step(trainings: Trainings) -> Iterator[None]:
    """This process, in which the step runs, is told to stop as soon as the step shows a row."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            if any(note.startswith("loss") for _, _, note in trainings.told.progress):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_two_processes_stop_go_on_and_end_where_one_does(tmp_path: Path) -> None:
    # Every start imports everything anew: compiled once, also where the environment keeps no bytecode.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    with running_trainings(tmp_path / "two", PYTHONPATH=str(ROOT), **bytecode) as trainings:

        def run(processes: int) -> dict[str, Any]:
            result, output = trainings.run(spec(processes), "two", trainings.exports("sft", 48))
            return {"weights": load_file(output / "model" / "model.safetensors"), "summary": result.summary}

        with sigterm_after_the_first_step(trainings), pytest.raises(StepInterrupted, match="checkpoint is stored"):
            run(2)
        (manifest,) = [key for key in trainings.keys("checkpoints/tests/job_1/two") if key.endswith("manifest.json")]
        stopped = int(manifest.split("-")[1])
        assert 0 < stopped < STEPS
        assert f"{manifest.partition('/')[0]}/rng_state_1.pth" in trainings.keys("checkpoints/tests/job_1/two")

        alone = run(1)
        assert trainings.told.points == ["step 0"]
        assert [note for note in trainings.told.notes if "number of processes" in note]

        together = run(2)
        assert trainings.told.points == [f"step {stopped}"]
        assert together["summary"]["resumed_from"] == [stopped]
        assert (together["summary"]["world_size"], together["summary"]["steps"]) == (2, STEPS)
        assert together["summary"]["tokens"] == alone["summary"]["tokens"]
        assert together["summary"]["evaluation"] == pytest.approx(alone["summary"]["evaluation"], rel=1e-4)
        assert together["weights"].keys() == alone["weights"].keys()
        difference = max(
            float((weight - together["weights"][name]).abs().max()) for name, weight in alone["weights"].items()
        )
        assert difference < 1e-5
