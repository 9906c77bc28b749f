"""The rolling upgrade of `make upgrade-test`, from the commit before the newest migration."""

import subprocess

import pytest

from tests.upgrade.__main__ import main
from tests.upgrade.processes import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_processes_are_replaced_one_by_one_under_a_job_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    history = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD~1"], capture_output=True, check=False)
    if history.returncode != 0:
        pytest.skip("this tree has no git history, so there is no earlier code to upgrade from")
    code = main([])
    assert code == 0, capsys.readouterr().out
