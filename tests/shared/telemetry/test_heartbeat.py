"""A process's sign of life, and the check that reads its age, run as a container's health check runs it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.settings import ENVIRONMENT_PREFIX, Settings
from shared.telemetry.healthy import VARIABLE
from shared.telemetry.heartbeat import beat


def check(seconds: float, file: Path | None) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if file is not None:
        environment[VARIABLE] = str(file)
    ran = subprocess.run(
        [sys.executable, "-m", "shared.telemetry.healthy", str(seconds)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def test_a_process_that_has_just_beaten_is_well(tmp_path: Path) -> None:
    beat(tmp_path / "alive")
    assert check(60, tmp_path / "alive") == (0, "")


@pytest.mark.parametrize(
    ("shift", "words"), [(-3600, "s ago; a process that works touches it within 600 s"), (3600, "ahead of the clock")]
)
def test_a_sign_of_life_that_is_old_or_from_a_clock_set_back_is_none(tmp_path: Path, shift: int, words: str) -> None:
    file = tmp_path / "alive"
    file.touch()
    moment = time.time() + shift
    os.utime(file, (moment, moment))
    code, told = check(600, file)
    assert code == 1
    assert told.count("\n") == 1
    assert words in told
    beat(file)
    assert check(600, file) == (0, "")


def test_a_process_that_has_not_beaten_yet_is_not_well(tmp_path: Path) -> None:
    code, told = check(60, tmp_path / "alive")
    assert code == 1
    assert "no sign of life yet" in told


def test_a_check_without_a_file_says_what_to_set() -> None:
    code, told = check(60, None)
    assert code == 1
    assert f"{VARIABLE} is not set" in told


def test_the_check_and_the_settings_speak_of_one_variable() -> None:
    assert "health_file" in Settings.model_fields
    assert f"{ENVIRONMENT_PREFIX}HEALTH_FILE" == VARIABLE


def test_without_the_setting_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    beat(None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_touched_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "folder" / "alive"
    with capture_logs() as lines:
        beat(missing)
        beat(missing)
        missing.parent.mkdir()
        beat(missing)
    assert [line["event"] for line in lines] == ["health_file_not_touched"]
    assert missing.exists()


def test_the_check_imports_none_of_our_libraries() -> None:
    code = "import sys, shared.telemetry.healthy; print([m for m in ('pydantic', 'structlog', 'asyncio') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
