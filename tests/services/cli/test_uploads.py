"""`upload:` names in a spec become ids; a name without a file and a file without a name are told before anything is sent."""

from pathlib import Path
from typing import Any, cast

import pytest

from services.cli.client import ApiClient
from services.cli.uploads import with_uploads
from shared.domain.errors import MultifacetError


class _Client:
    """Gives ids and remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Path]] = []

    def upload(self, path: Path) -> dict[str, Any]:
        self.sent.append(("file", path))
        return {"id": f"file_{path.stem}"}

    def upload_taxonomy(self, path: Path) -> dict[str, Any]:
        self.sent.append(("taxonomy", path))
        return {"id": f"taxonomy_{path.stem}"}


def replaced(client: _Client, body: dict[str, Any], *uploads: Path) -> dict[str, Any]:
    return with_uploads(cast("ApiClient", client), body, uploads)


@pytest.fixture
def client() -> _Client:
    return _Client()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("own.jsonl", "bench.jsonl", "own.yaml")}
    for path in found.values():
        path.write_text("{}\n")
    return found


def test_every_place_that_takes_an_upload_gets_its_id(client: _Client, files: dict[str, Path]) -> None:
    body = {
        "sources": [{"file": "upload:own.jsonl"}, {"hub": "a/b"}, {"file": "file_1"}],
        "curate": {"decontaminate_against": ["upload:bench.jsonl", "file_2"]},
        "taxonomy": "upload:own.yaml",
        "train": [{"data": {"file": "upload:own.jsonl"}}, {"data": {"job": "job_1"}}, "no training"],
        "questions": {"file": "upload:own.jsonl"},
        "answer": [{"candidate": {"file": "upload:own.jsonl"}}, {"candidate": {"given": True}}, "no stage"],
        "candidates": [{"candidate": {"file": "upload:bench.jsonl"}}, {"candidate": None}],
    }
    assert replaced(client, body, *files.values()) == {
        "sources": [{"file": "file_own"}, {"hub": "a/b"}, {"file": "file_1"}],
        "curate": {"decontaminate_against": ["file_bench", "file_2"]},
        "taxonomy": "taxonomy_own",
        "train": [{"data": {"file": "file_own"}}, {"data": {"job": "job_1"}}, "no training"],
        "questions": {"file": "file_own"},
        "answer": [{"candidate": {"file": "file_own"}}, {"candidate": {"given": True}}, "no stage"],
        "candidates": [{"candidate": {"file": "file_bench"}}, {"candidate": None}],
    }
    assert client.sent == [
        ("file", files["own.jsonl"]),
        ("file", files["bench.jsonl"]),
        ("taxonomy", files["own.yaml"]),
    ]


def test_a_file_named_twice_is_sent_once(client: _Client, files: dict[str, Path]) -> None:
    body = {
        "sources": [{"file": "upload:own.jsonl"}, {"file": "upload:own.jsonl"}],
        "curate": {"decontaminate_against": ["upload:own.jsonl"]},
    }
    replaced(client, body, files["own.jsonl"])
    assert client.sent == [("file", files["own.jsonl"])]
    assert body["curate"] == {"decontaminate_against": ["file_own"]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"sources": [{"bundled": "demo"}, {"file": "upload:x"}]}, "/sources/1/file"),
        ({"curate": {"decontaminate_against": ["upload:x"]}}, "/curate/decontaminate_against/0"),
        ({"taxonomy": "upload:x"}, "/taxonomy"),
    ],
)
def test_a_name_that_no_file_was_given_for_is_told_with_its_place(
    client: _Client, files: dict[str, Path], body: dict[str, Any], pointer: str
) -> None:
    body.setdefault("sources", []).append({"file": "upload:own.jsonl"})
    with pytest.raises(MultifacetError, match=rf"upload:x at {pointer}.*given: own.jsonl.*--upload <path of x>"):
        replaced(client, body, files["own.jsonl"])
    assert client.sent == []


def test_a_file_that_the_spec_does_not_name_is_told(client: _Client, files: dict[str, Path]) -> None:
    with pytest.raises(MultifacetError, match=r"own.yaml is not used"):
        replaced(client, {"sources": [{"file": "upload:own.jsonl"}]}, files["own.jsonl"], files["own.yaml"])
    assert client.sent == []


def test_two_files_of_one_name_are_refused(client: _Client, files: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "own.jsonl"
    other.parent.mkdir()
    other.write_text("{}\n")
    with pytest.raises(MultifacetError, match="the same file name"):
        replaced(client, {"sources": [{"file": "upload:own.jsonl"}]}, files["own.jsonl"], other)
    assert client.sent == []


@pytest.mark.parametrize(
    "body",
    [
        {"sources": 5},
        {"sources": "upload:own.jsonl"},
        {"sources": [5, {"file": ["a"]}, {"file": None}]},
        {"curate": 5},
        {"curate": {"decontaminate_against": "upload:own.jsonl"}},
        {"taxonomy": ["upload:own.jsonl"]},
        {},
    ],
)
def test_a_spec_of_another_form_is_left_for_the_api_to_judge(client: _Client, body: dict[str, Any]) -> None:
    assert replaced(client, body) == body
    assert client.sent == []


def test_an_absent_file_is_named(client: _Client, tmp_path: Path) -> None:
    with pytest.raises(MultifacetError, match=r"there is no file .*absent.jsonl"):
        replaced(client, {}, tmp_path / "absent.jsonl")
