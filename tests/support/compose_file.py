"""docker-compose.yml as data, as Docker Compose reads it: anchors merged, variables at what an operator's environment says."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def compose_file(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole file. A variable without a default that `environment` lacks is an error here, and only a warning of Compose."""
    given = environment or {}

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["default"] is None and match["name"] not in given:
            raise AssertionError(f"{match['name']} has no default: {FILE.name} cannot be used without setting it")
        return given.get(match["name"]) or match["default"]

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: filled(item) for name, item in node.items()}
        if isinstance(node, list):
            return [filled(item) for item in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    found: dict[str, Any] = filled(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    return found


def services(environment: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose_file(environment)["services"]
    return found


def seconds(text: str) -> float:
    """Of a duration such as `90s` or `2m`."""
    number, unit = text[:-1], text[-1]
    return float(number) * {"s": 1, "m": 60}[unit]
