"""Two processes train as one does: the same rows in each step, the same means, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from services.training.ranks import is_first, launch_command, launch_environment, running_processes
from tests.services.training.rank_program import CASES, STEPS, train

ROOT = Path(__file__).parents[3]
# Two processes start and import everything; on a busy machine that takes a while.
pytestmark = [pytest.mark.timeout(300), pytest.mark.long]


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave; all cases in one start, because starting takes longest."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        launch_command(2, "tests.services.training.rank_program", ["2", str(folder)]),
        cwd=ROOT,
        env=launch_environment(2, environment),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def largest_difference(one: Path, two: Path) -> float:
    name = next(path.name for path in one.glob("*.safetensors"))
    wanted, found = load_file(one / name), load_file(two / name)
    assert wanted.keys() == found.keys()
    return max(float((weight - found[key]).abs().max()) for key, weight in wanted.items())


@pytest.mark.parametrize("case", list(CASES))
def test_two_processes_train_as_one(case: str, of_two_processes: Path, tmp_path: Path) -> None:
    train(case, 1, tmp_path)
    assert largest_difference(tmp_path / case / "model", of_two_processes / case / "model") < 1e-5
    alone, shared = (json.loads((folder / case / "log.json").read_text()) for folder in (tmp_path, of_two_processes))
    # An epoch has more micro-batches with fillers among them, so its share that is done differs a little.
    for one, two in zip(alone[: STEPS + 1], shared[: STEPS + 1], strict=True):
        same = [key for key in one if not key.endswith(("runtime", "per_second", "epoch"))]
        assert {key: two[key] for key in same} == pytest.approx({key: one[key] for key in same}, rel=1e-4, abs=1e-5)


def test_two_processes_go_on_from_their_checkpoint(of_two_processes: Path) -> None:
    straight, resumed = (folder / "dpo" for folder in (of_two_processes, of_two_processes / "resumed"))
    assert largest_difference(straight / "model", resumed / "model") == 0
    tokens = [json.loads((folder / "log.json").read_text())[-1]["tokens"] for folder in (straight, resumed)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("method", ["dpo", "rm"])
def test_the_heads_give_the_same_gradients_under_sharded_weights(method: str, of_two_processes: Path) -> None:
    assert float((of_two_processes / f"sharded-{method}").read_text()) < 1e-5


def test_cores_are_shared_out_unless_somebody_said_how() -> None:
    assert launch_environment(10_000, {})["OMP_NUM_THREADS"] == "1"
    assert launch_environment(2, {"OMP_NUM_THREADS": "7"}) == {"OMP_NUM_THREADS": "7"}


def test_a_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (running_processes(), is_first()) == (1, True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert (running_processes(), is_first()) == (3, False)


def test_a_process_ends_when_the_one_that_started_it_is_killed() -> None:
    orphan = (
        "import os, time; from services.training.ranks import end_with_parent; end_with_parent(); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {orphan!r}], start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", launcher], cwd=ROOT, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        process = psutil.Process(int(started.stdout.readline()))
        started.kill()
        assert not psutil.wait_procs([process], 10)[1]
