"""`python -m shared.telemetry.healthy 60`: 0 where this machine's process gave a sign of life within so many seconds, else 1.

For health checks of containers, which run it every few seconds: it imports the standard library alone.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "MULTIFACET_HEALTH_FILE"
"""Name of the setting `health_file` in the environment, which the process and its health check share."""


def fault(seconds: float) -> str | None:
    """What speaks against the health of the process, in one line; None where it is well."""
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return f"{VARIABLE} is not set: the process keeps no sign of life; set it to a file that it can write"
    try:
        age = time.time() - Path(named).stat().st_mtime
    except OSError as error:
        return f"{named}: {error.strerror}: the process has given no sign of life yet, or cannot write there"
    # A clock that was set back makes the last beat lie ahead; a process that lives puts that right with its next one.
    if age < -seconds:
        return f"{named} was touched {-age:.0f} s ahead of the clock, and not since the clock was set back"
    if age > seconds:
        return f"{named} was touched {age:.0f} s ago; a process that works touches it within {seconds:g} s"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shared.telemetry.healthy", description="Is the process of this container well?"
    )
    parser.add_argument("seconds", type=float, help="the oldest that its last sign of life may be")
    found = fault(parser.parse_args(arguments).seconds)
    if found is None:
        return 0
    sys.stdout.write(found + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
