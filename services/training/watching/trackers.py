"""Weights & Biases and MLflow, switched on by the environment of the worker and by nothing else."""

import importlib.util
from collections.abc import Mapping

from transformers import TrainerCallback

from shared.domain.errors import StepFailed

_OFF = frozenset({"disabled", "off", "false", "0", ""})


def experiment_trackers(environment: Mapping[str, str]) -> list[TrainerCallback]:
    """transformers' own callbacks of the trackers that `environment` asks for.

    WANDB_API_KEY or WANDB_MODE (but `disabled`) asks for Weights & Biases, MLFLOW_TRACKING_URI for MLflow; all other variables
    of theirs keep their meaning. Raises StepFailed where the package is not installed: a run that somebody believes to be
    tracked must not go untracked.
    """
    trackers: list[TrainerCallback] = []
    if _asks_for_wandb(environment):
        _require("wandb", "WANDB_API_KEY and WANDB_MODE")
        from transformers.integrations.integration_utils import WandbCallback

        trackers.append(WandbCallback())  # type: ignore[no-untyped-call]
    if environment.get("MLFLOW_TRACKING_URI"):
        _require("mlflow", "MLFLOW_TRACKING_URI")
        from transformers.integrations.integration_utils import MLflowCallback

        trackers.append(MLflowCallback())  # type: ignore[no-untyped-call]
    return trackers


def _asks_for_wandb(environment: Mapping[str, str]) -> bool:
    mode = environment.get("WANDB_MODE")
    if mode is not None and mode.lower() in _OFF:
        return False
    return bool(mode or environment.get("WANDB_API_KEY"))


def _require(package: str, variables: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise StepFailed(
            "tracker_missing",
            f"the worker's environment asks for {package} ({variables}), but the package is not installed there; install "
            f"it in the training image (`pip install {package}`), or unset the variable",
        )
