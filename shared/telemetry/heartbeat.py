"""A process's own sign of life: a file that it touches from its own loop while its work goes on.

`python -m shared.telemetry.healthy` reads its age. Nobody is asked and nothing is sent, so what is measured is this process and
not a neighbour or a broker.
"""

from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_told: set[Path] = set()


def beat(path: Path | None) -> None:
    """Touch the file of the setting `health_file`; nothing without one. Call it after work that went well, every few seconds.

    A file that cannot be touched is told once and stops no work: the health check then finds it old, which is true of it.
    """
    if path is None:
        return
    try:
        path.touch()
    except OSError as error:
        if path not in _told:
            _told.add(path)
            _log.warning(
                "health_file_not_touched", path=str(path), error=error.strerror, setting="MULTIFACET_HEALTH_FILE"
            )
    else:
        _told.discard(path)
