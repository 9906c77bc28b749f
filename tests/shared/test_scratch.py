"""Folders that processes hold: those of living ones stay, those of dead ones go."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.scratch import Scratch

HOLDER = """
import sys
from pathlib import Path
from shared.scratch import Scratch

scratch = Scratch(Path(sys.argv[1]), "worker")
(scratch.make_folder() / "part").write_text("half")
print(scratch.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate(timeout=60)


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_holds_is_not(
    holder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert holder.stdout is not None
    held = Path(holder.stdout.readline().strip())
    assert held.parent == tmp_path
    first = Scratch(tmp_path, "worker")
    assert [path.read_text() for path in held.rglob("part")] == ["half"]
    holder.kill()
    holder.wait(60)
    second = Scratch(tmp_path, "api")
    assert not held.exists()
    assert first.folder.is_dir()
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_other_things_in_the_place_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "multifacet-pg-1").mkdir()
    (tmp_path / "multifacet-scratch-worker-file").write_text("no folder")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "multifacet-scratch-worker-link").symlink_to(tmp_path / "elsewhere")
    Scratch(tmp_path, "worker").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "hub",
        "multifacet-pg-1",
        "multifacet-scratch-worker-file",
        "multifacet-scratch-worker-link",
    ]


def test_folders_in_it_are_new_each_time_and_a_missing_parent_is_made(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "not" / "there", "worker")
    assert scratch.make_folder() != scratch.make_folder()
    scratch.close()
