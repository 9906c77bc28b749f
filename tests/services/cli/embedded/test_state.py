"""The state folder: one supervisor at a time, and a record that only a living supervisor stands behind."""

import os
import stat
from pathlib import Path

import pytest

from services.cli.embedded.state import StateFolder, SystemRecord
from shared.domain.errors import MultifacetError


def _record(pid: int) -> SystemRecord:
    return SystemRecord(
        supervisor_pid=pid, api_url="http://api.test", database_url="d", redis_url="r", simulator_url="s"
    )


def test_make_lets_the_database_user_pass_through(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.make()
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o755
    assert state.logs.is_dir()
    assert state.pids.is_dir()


def test_a_second_supervisor_is_told_where_the_first_answers(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with state.locked():
        state.write_record(_record(os.getpid()))
        with pytest.raises(MultifacetError, match=r"http://api\.test"), StateFolder(tmp_path).locked():
            pytest.fail("the lock was given twice")
        assert state.record() == _record(os.getpid())
    assert state.record() is None
    with state.locked():
        assert state.record() is None


def test_a_record_of_a_dead_supervisor_or_of_garbage_counts_as_none(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.write_record(_record(2**22 + 1))
    assert state.record() is None
    state.record_path.write_text("{half")
    assert state.record() is None


def test_a_folder_that_cannot_be_used_is_told_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    state = StateFolder(tmp_path / "file" / "state")
    assert state.record() is None
    with pytest.raises(MultifacetError, match="MULTIFACET_STATE_FOLDER"):
        state.make()
