"""What a training process is asked to do, and what it answers: files in the step's folder, so that several can read them."""

from pathlib import Path
from typing import Any

import msgspec

from services.training.registration.saving import SavedModel
from shared.domain.training import TrainParameters
from shared.stages.path_json import decode, encode

REQUEST_FILE = "training-request.json"
OUTCOME_FILE = "training-outcome.json"


class TrainingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One training, prepared: data are tokens, the base is a folder. Every process of it is given the same."""

    parameters: dict[str, Any]
    """TrainParameters as JSON values."""
    project_id: str
    job_id: str
    stage: str
    attempt_id: int
    base_folder: Path
    base_name: str
    """What the base is called outside this machine."""
    base_digest: str
    """sha256 of what it is."""
    data_folder: Path
    """What `services.training.data.prepare` left."""
    reference_key: str
    """DPO: what the reference log-probabilities are stored under."""
    resume_folder: Path | None
    """A checkpoint, verified, to go on from."""
    work_folder: Path
    """Checkpoints before they are uploaded."""
    output_folder: Path
    fingerprint: str
    """Of all that decides the training's course."""
    recompute: bool
    finish_seconds: float
    """How long the last checkpoint of a training that has to stop may take to be stored."""

    def training(self) -> TrainParameters:
        return TrainParameters.model_validate(self.parameters)


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the training ended. `stopped`: it was asked to, before its last step; then no model was saved."""

    stopped: bool
    checkpoint_stored: bool
    """Whether the last checkpoint is in the store."""
    steps: int
    epochs: float
    tokens: int
    """Real tokens, over all attempts."""
    seconds: float
    """Spent in training steps, over all attempts."""
    world_size: int
    device: str
    trained_parameters: int
    resumed_from: list[int]
    """Steps of the checkpoints that the training went on from, over all attempts."""
    final: dict[str, float | None]
    """The last row of the training's metrics."""
    evaluation: dict[str, float | None]
    """The last evaluation, without `eval_`; empty without test rows."""
    saved: SavedModel


class RankFault(msgspec.Struct, frozen=True, tag_field="fault"):
    """Why a training process gave up. `kind`: refused and failed_step are meant for people, stopped goes on later, failed is any
    other error."""

    kind: str
    code: str
    message: str
    pointer: str | None = None


class RankAnswer(msgspec.Struct, frozen=True):
    """Exactly one of the two is set."""

    outcome: TrainingOutcome | None = None
    fault: RankFault | None = None


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_bytes(encode(value))
    scratch.rename(path)


def read_request(folder: Path) -> TrainingRequest:
    return decode((folder / REQUEST_FILE).read_bytes(), TrainingRequest)


def read_answer(folder: Path) -> RankAnswer:
    """Raises FileNotFoundError where no process answered."""
    return decode((folder / OUTCOME_FILE).read_bytes(), RankAnswer)
