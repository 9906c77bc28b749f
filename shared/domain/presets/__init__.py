"""Ready values of a job spec, by name, as YAML that a user can copy into a spec."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def preset_names() -> tuple[str, ...]:
    """Names of the shipped presets, sorted."""
    folder = files("shared.domain.presets")
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def preset_values(name: str) -> dict[str, Any]:
    """What a preset sets. Raises ValueError for an unknown name."""
    if name not in preset_names():
        raise ValueError(f"there is no preset {name!r}; known: {', '.join(preset_names())}")
    values: dict[str, Any] = yaml.safe_load(
        files("shared.domain.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    )
    return values


def with_preset(values: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the preset's where they say nothing; parts of a part are merged one by one, one level deep."""
    merged = dict(preset)
    for name, value in values.items():
        below = preset.get(name)
        merged[name] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
