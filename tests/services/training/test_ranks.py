"""Two processes train as one does: the same rows in each step, the same means, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.training.ranks import is_first, launch_command, launch_environment, running_processes

ROOT = Path(__file__).parents[3]


def run(method: str, processes: int, folder: Path) -> list[dict[str, float]]:
    folder.mkdir()
    command = launch_command(processes, "tests.services.training.rank_program", [method, str(processes), str(folder)])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=launch_environment(processes, environment),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows: list[dict[str, float]] = json.loads((folder / "log.json").read_text())
    return rows


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_two_processes_train_as_one(method: str, tmp_path: Path) -> None:
    alone = run(method, 1, tmp_path / "one")
    shared = run(method, 2, tmp_path / "two")
    wanted = load_file(tmp_path / "one" / "weights.safetensors")
    found = load_file(tmp_path / "two" / "weights.safetensors")
    assert wanted.keys() == found.keys()
    for name, weight in wanted.items():
        assert (weight - found[name]).abs().max() < 1e-5, name
    for one, two in zip(alone[:4], shared[:4], strict=True):
        same = [key for key in one if not key.endswith(("runtime", "per_second")) and key != "epoch"]
        assert {key: two[key] for key in same} == pytest.approx({key: one[key] for key in same}, rel=1e-4, abs=1e-5)


def test_one_process_needs_no_launcher() -> None:
    assert launch_command(1, "a.b", ["c"]) == [sys.executable, "-m", "a.b", "c"]


def test_cores_are_shared_out_unless_somebody_said_how() -> None:
    assert launch_environment(1, {"A": "b"}) == {"A": "b"}
    assert launch_environment(10_000, {})["OMP_NUM_THREADS"] == "1"
    assert launch_environment(2, {"OMP_NUM_THREADS": "7"}) == {"OMP_NUM_THREADS": "7"}


def test_a_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (running_processes(), is_first()) == (1, True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert (running_processes(), is_first()) == (3, False)
