"""A spec file is read as JSON would be: what has no form there is refused with its place, not met by a traceback later."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.spec import read_spec
from shared.domain.errors import MultifacetError


def read(folder: Path, text: str | bytes) -> dict[str, Any]:
    path = folder / "spec.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_spec(path)


def test_a_date_is_text(tmp_path: Path) -> None:
    spec = read(tmp_path, "name: 2024-01-01\nat: 2024-01-01 10:00:00\nseed: 7\nshare: 0.5\nstop: null\nyes: true\n")
    assert spec == {
        "name": "2024-01-01",
        "at": "2024-01-01 10:00:00",
        "seed": 7,
        "share": 0.5,
        "stop": None,
        True: True,
    }
    json.dumps(spec)


@pytest.mark.parametrize(
    "tagged", ["!!binary aGFsbG8=", "!!set {a: null}", "!!timestamp 2024-01-01", "!!python/name:os"]
)
def test_a_tag_without_a_form_in_json_is_refused_with_its_place(tmp_path: Path, tagged: str) -> None:
    with pytest.raises(MultifacetError, match=r"(?s)spec.yaml cannot be read as YAML or JSON.*line 1"):
        read(tmp_path, f"name: {tagged}\n")


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", "seed: " + "9" * 5000, "name: " + "[" * 5000, "a: [", "name: \x07"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(MultifacetError, match="cannot be read as YAML or JSON"):
        read(tmp_path, text)


@pytest.mark.parametrize(("text", "kind"), [("- 1\n", "list"), ("", "NoneType"), ("5", "int")])
def test_a_spec_is_a_mapping(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(MultifacetError, match=f"holds a {kind}; a job spec is a mapping"):
        read(tmp_path, text)


def test_a_folder_or_an_absent_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(MultifacetError, match=f"{path} cannot be read"):
            read_spec(path)
