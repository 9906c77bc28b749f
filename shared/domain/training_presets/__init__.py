"""Ready values of a training, by name, as YAML that a user can copy into a spec."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def training_preset_names() -> tuple[str, ...]:
    """Names of the shipped training presets, sorted."""
    folder = files("shared.domain.training_presets")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def training_preset_text(name: str) -> str:
    """The YAML of a preset, with its comments. Raises ValueError for an unknown name."""
    if name not in training_preset_names():
        raise ValueError(f"there is no training preset {name!r}; known: {', '.join(training_preset_names())}")
    return files("shared.domain.training_presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def training_preset(name: str) -> dict[str, Any]:
    """What a preset sets, as a new dictionary. Raises ValueError for an unknown name."""
    values: dict[str, Any] = yaml.safe_load(training_preset_text(name))
    return values
