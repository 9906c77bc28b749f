"""Which GPUs this machine has for us, found without loading torch: by setting, by CUDA_VISIBLE_DEVICES, or from the driver."""

import os
import re
import socket
import subprocess

from shared.settings import Settings

_LISTED = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[0-9a-fA-F-]+)\)", re.MULTILINE)
_ASK_SECONDS = 20


def gpu_host(settings: Settings) -> str:
    """The name under which this machine's GPUs are shared: the same in every container on it."""
    return settings.gpu_host or socket.gethostname()


def gpu_devices(settings: Settings) -> tuple[int, ...]:
    """Numbers of the GPUs that this process may use, as the driver counts; none where there are none."""
    if settings.gpus is not None:
        return tuple(range(settings.gpus))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", visible):
        return tuple(dict.fromkeys(int(part) for part in visible.split(",")))
    listed = _ask_driver()
    if visible is None:
        return tuple(number for number, _ in listed)
    return visible_of(visible, listed)


def visible_of(visible: str, listed: list[tuple[int, str]]) -> tuple[int, ...]:
    """The devices that CUDA_VISIBLE_DEVICES names, by number or by the beginning of an id; as CUDA does, what comes after one
    that does not exist is not seen."""
    found: list[int] = []
    for part in (part.strip() for part in visible.split(",")):
        matching = [
            number
            for number, uuid in listed
            if part == str(number) or (part.startswith("GPU-") and uuid.startswith(part))
        ]
        if len(matching) != 1:
            break
        found.append(matching[0])
    return tuple(dict.fromkeys(found))


def _ask_driver() -> list[tuple[int, str]]:
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [(int(number), uuid) for number, uuid in _LISTED.findall(answer)]
