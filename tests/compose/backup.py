"""A backup made amid a job and restored into a system of its own: `python3 backup.py API_URL FOLDER`.

Types what docs/runbook.md says. The system that was backed up is then stopped, and one with new volumes is made from the backup
alone. There the job that had ended must be as it was, byte by byte, and the one that was under way must end with the same rows.
Needs a key in MULTIFACET_API_KEY, which the backup holds too. Standard library only.
"""

import os
import sys
import time
from pathlib import Path

from restarts import DATA, Amiss, System, check, compose, wait_for_step

OTHER_PROJECT = f"{os.environ['COMPOSE_PROJECT_NAME']}-restored"


def administer(folder: Path, command: str, *options: str) -> None:
    began = time.monotonic()
    mount = f"{folder}:/backups"
    told = compose("run", "--rm", *options, "--volume", mount, "controller", "multifacet", command, "/backups/one")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    print(f"{command} took {time.monotonic() - began:.1f} s: {lines[-1] if lines else 'said nothing'}", flush=True)


def main(url: str, folder: Path) -> int:
    folder.mkdir(mode=0o700)
    os.chown(folder, 10001, 10001)
    system = System(url, os.environ["MULTIFACET_API_KEY"])
    ended = system.submit(DATA, "ended before the backup")
    reference = check(system.ended(ended), None)
    underway = system.submit(DATA, "under way at the backup")
    stage = wait_for_step(underway, "generation")
    administer(folder, "backup", "--no-deps")
    administer(folder, "verify-backup", "--no-deps")
    compose("stop")
    print(f"the other job was in {stage}; this system is stopped", flush=True)

    os.environ["COMPOSE_PROJECT_NAME"] = OTHER_PROJECT
    try:
        administer(folder, "restore")
        began = time.monotonic()
        compose("up", "--detach", "--no-build")
        before = system.patiently("GET", f"/v1/jobs/{ended}")
        digest = check(before, reference)
        print(
            f"{ended} is as it was: {sum(map(len, digest['parts'].values()))} rows, every artifact as its sha256 says"
        )
        found = system.ended(underway)
        check(found, reference)
        print(f"{underway} went on and has the same rows, {time.monotonic() - began:.0f} s after the start", flush=True)
    finally:
        compose("down", "--volumes", "--timeout", "20")
        os.environ["COMPOSE_PROJECT_NAME"] = OTHER_PROJECT.removesuffix("-restored")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], Path(sys.argv[2])))
    except Amiss as amiss:
        sys.exit(str(amiss))
