"""Which GPUs are seen: by setting, by CUDA_VISIBLE_DEVICES, from the driver; the launcher sees the same."""

from pathlib import Path

import pytest

from services.inference.launcher import find_devices
from shared.gpus import gpu_devices, gpu_host
from shared.settings import Settings

LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa1111-0000-0000-0000-000000000000)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb2222-0000-0000-0000-000000000000)
  MIG 1g.18gb Device 0: (UUID: MIG-cccc)
GPU 2: NVIDIA H200 (UUID: GPU-aaab3333-0000-0000-0000-000000000000)
"""


@pytest.mark.parametrize(
    ("count", "visible", "seen"),
    [
        (None, None, (0, 1, 2)),
        (2, None, (0, 1)),
        (0, None, ()),
        (1, "2", (0,)),
        (None, "2,0", (2, 0)),
        (None, "", ()),
        (None, "-1", ()),
        (None, "GPU-bbbb2222,GPU-aaab", (1, 2)),
        (None, "GPU-aaa", ()),
        (None, "GPU-bbbb2222,GPU-nowhere,GPU-aaaa", (1,)),
    ],
)
def test_devices_are_found_alike_by_workers_and_launchers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, visible: str | None, seen: tuple[int, ...]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'LIST'\n{LISTED}LIST\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("MULTIFACET_GPUS", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if count is not None:
        monkeypatch.setenv("MULTIFACET_GPUS", str(count))
    assert gpu_devices(Settings()) == seen
    assert find_devices() == seen


def test_a_machine_without_the_drivers_program_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_devices(Settings()) == ()
    assert find_devices() == ()


def test_the_machines_name_is_that_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_host(Settings(gpu_host="rack-7")) == "rack-7"
    monkeypatch.setattr("socket.gethostname", lambda: "a-container")
    assert gpu_host(Settings()) == "a-container"
