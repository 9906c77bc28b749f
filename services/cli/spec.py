"""Reading a job spec from a file: YAML that holds what JSON can hold, and nothing else."""

from pathlib import Path
from typing import Any

import yaml

from shared.domain.errors import MultifacetError

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_NOT_IN_JSON = frozenset({_TIMESTAMP, *(f"tag:yaml.org,2002:{kind}" for kind in ("binary", "set", "omap", "pairs"))})


class _SpecLoader(yaml.SafeLoader):
    """A date is text, as in JSON; a tag for what JSON has no form for is refused."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own way to configure a loader)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag not in _NOT_IN_JSON
    }


def read_spec(path: Path) -> dict[str, Any]:
    """The spec in a file. Raises MultifacetError where it cannot be read or is no mapping; the api judges what it says."""
    return read_mapping(path, "a job spec", "a mapping with `sources` and `teacher`, or with `train`")


def read_mapping(path: Path, what: str, shape: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; `what` and `shape` say in errors what it should have been. Raises MultifacetError."""
    try:
        body = yaml.load(path.read_text(encoding="utf-8"), _SpecLoader)  # noqa: S506  (a SafeLoader that knows even less)
    except OSError as error:
        raise MultifacetError(f"{path} cannot be read: {error.strerror}; give the path of {what}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise MultifacetError(f"{path} cannot be read as YAML or JSON: {error}") from error
    except RecursionError as error:
        raise MultifacetError(f"{path} cannot be read as YAML or JSON: it is nested too deeply") from error
    if not isinstance(body, dict):
        raise MultifacetError(f"{path} holds a {type(body).__name__}; {what} is {shape}")
    return body
