"""A toy training: it counts steps, leaves checkpoints in the artifact folder, and does what the job's name says.

`crash…` dies after every step, `stuck…` before the first, `slow…` works until it is told to stop, `long…` takes its time, `kept…`
takes TOY_STEP_SECONDS for a step and leaves a checkpoint after each; all others make a model. Each step tells which GPUs it sees.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType

from shared.domain.errors import StepInterrupted
from shared.domain.ledger import Ledger
from shared.domain.models import ModelRegistration
from shared.domain.plan import StageKind
from shared.settings import get_settings
from shared.stages.protocol import OutputObject, WholeContext, WholeResult, WholeStepHandler

STEPS = 5


def train(context: WholeContext) -> WholeResult:
    name = context.spec.name
    checkpoint = get_settings().artifact_directory / "checkpoints" / context.job_id / context.stage
    told: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, note)
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    if done:
        context.starts_from(f"step {done}")
    if name.startswith("stuck"):
        os.kill(os.getpid(), signal.SIGKILL)
    waits = name.startswith("slow") and not done
    while done < STEPS or (waits and not told):
        done = min(done + 1, STEPS)
        time.sleep(_step_seconds(name))
        context.progress(done, 10 if waits else STEPS, f"step {done}")
        if told or name.startswith(("crash", "kept")):
            _save(checkpoint, done)
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        told_of = {"stage": context.stage, "step": done, "attempt": context.attempt_id, "devices": devices}
        context.emit("train.metrics", told_of)
        if name.startswith("crash") and done < STEPS:
            os.kill(os.getpid(), signal.SIGKILL)
    if told:
        _save(checkpoint, done)
        raise StepInterrupted(f"stopped after step {done}")
    return _result(context)


def _step_seconds(name: str) -> float:
    if name.startswith("kept"):
        return float(os.environ.get("TOY_STEP_SECONDS", "0.5"))
    return 0.15 if name.startswith("long") else 0.02


def _save(checkpoint: Path, done: int) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".new")
    unfinished.write_text(str(done))
    unfinished.replace(checkpoint)  # a kill leaves it whole


def _result(context: WholeContext) -> WholeResult:
    config = context.output_folder / "config.json"
    config.write_text(" ".join(f"{item.stage}/{item.name}" for item in context.inputs))
    metrics = context.output_folder / "metrics.jsonl"
    metrics.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, STEPS + 1)))
    (training,) = (one for one in context.spec.train if one.name == context.stage)
    model = ModelRegistration(
        name=context.stage,
        method=training.method.value,
        tuning=training.tuning.value,
        base=training.base.model_dump(),
        parameter_count=7,
        dtype="float32",
        metrics={"loss": 1.0},
        lineage={"rows": 1},
        adapter_only=False,
    )
    outputs = (
        OutputObject("model/config.json", config, "application/json", kind="model"),
        OutputObject("metrics.jsonl", metrics, "application/jsonl", kind="metrics"),
    )
    return WholeResult(outputs, Ledger(rows_in=1, rows_out=1), {"steps": STEPS}, model)


HANDLERS = (WholeStepHandler(StageKind.TRAIN, f"{__name__}:train", stops_itself=True),)
