import importlib
import sys
from pathlib import Path

import pytest

from services.training.watching.trackers import experiment_trackers
from shared.domain.errors import StepFailed


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for both packages, with what their callbacks ask for when they are made."""
    for name, text in {
        "wandb": "run = None\n",
        "mlflow": "from types import SimpleNamespace\n"
        "utils = SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=1, MAX_PARAMS_TAGS_PER_BATCH=1))\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"WANDB_PROJECT": "x", "MLFLOW_EXPERIMENT_NAME": "y"}, []),
        ({"WANDB_API_KEY": "secret"}, ["WandbCallback"]),
        ({"WANDB_MODE": "offline"}, ["WandbCallback"]),
        ({"WANDB_API_KEY": "secret", "WANDB_MODE": "disabled"}, []),
        ({"MLFLOW_TRACKING_URI": "http://localhost"}, ["MLflowCallback"]),
        ({"WANDB_MODE": "online", "MLFLOW_TRACKING_URI": "x"}, ["WandbCallback", "MLflowCallback"]),
    ],
)
def test_trackers_are_on_only_where_the_environment_asks(environment: dict[str, str], names: list[str]) -> None:
    assert [type(tracker).__name__ for tracker in experiment_trackers(environment)] == names


@pytest.mark.parametrize(
    ("environment", "package"), [({"WANDB_API_KEY": "x"}, "wandb"), ({"MLFLOW_TRACKING_URI": "x"}, "mlflow")]
)
def test_a_tracker_that_is_asked_for_and_not_installed_is_an_error(
    environment: dict[str, str], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StepFailed, match=f"pip install {package}") as caught:
        experiment_trackers(environment)
    assert caught.value.code == "tracker_missing"
