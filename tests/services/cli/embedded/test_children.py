"""Children of the supervisor: a crash is seen once, a stop ends them, and leftovers are told from strangers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.cli.embedded.children import Child, end_leftovers, remember
from services.cli.embedded.state import StateFolder


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path)
    folder.make()
    return folder


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_stop_ends_the_process_and_forgets_its_pid(state: StateFolder) -> None:
    child = Child("server", ["http.server", "0", "--bind", "127.0.0.1"], {}, state)
    child.start()
    pid = child.pid
    assert pid is not None
    assert child.alive()
    assert (state.pids / "server.pid").exists()
    child.stop(5)
    assert not psutil.pid_exists(pid)
    assert not (state.pids / "server.pid").exists()


def test_a_quick_crash_is_reported_once_with_its_code_and_its_log(state: StateFolder) -> None:
    child = Child("broken", ["no_such_module_of_multifacet"], {}, state)
    child.start()
    os.waitid(os.P_PID, child.pid or 0, os.WEXITED | os.WNOWAIT)
    assert child.ensure() == 1
    assert child.ensure() is None
    assert "no_such_module_of_multifacet" in child.log_end()
    child.stop(1)


def test_a_leftover_with_its_own_start_time_is_ended(state: StateFolder, sleeper: subprocess.Popen[bytes]) -> None:
    remember(state.pids / "worker.pid", sleeper.pid)
    assert end_leftovers(state) == ["worker"]
    assert not psutil.pid_exists(sleeper.pid) or sleeper.poll() is not None
    assert list(state.pids.iterdir()) == []


def test_a_stranger_with_a_reused_pid_is_left_alone(state: StateFolder, sleeper: subprocess.Popen[bytes]) -> None:
    (state.pids / "worker.pid").write_text(f"{sleeper.pid} 1.0\n")
    (state.pids / "api.pid").write_text("unreadable")
    assert end_leftovers(state) == []
    assert sleeper.poll() is None
    assert list(state.pids.iterdir()) == []
