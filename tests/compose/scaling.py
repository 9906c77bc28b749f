"""To zero and back: `python3 scaling.py API_URL`. Idle workers leave by themselves with status 0, a job brings back those it
needs, and they leave again. Needs a short WORKER_IDLE_SECONDS and a key in MULTIFACET_API_KEY. Standard library only."""

import os
import sys
import time

from restarts import DATA, PATIENCE_SECONDS, Amiss, System, check, compose


def workers() -> dict[str, tuple[int, int]]:
    """Service: (containers that run, containers that have left with 0). Raises Amiss for one that ended otherwise."""
    import json
    import subprocess

    ids = compose("ps", "--all", "--quiet").split()
    found = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True, timeout=300).stdout)
    counts: dict[str, tuple[int, int]] = {}
    for container in found:
        labels = container["Config"]["Labels"]
        if "multifacet.roles" not in labels:
            continue
        running, state = container["State"]["Running"], container["State"]
        if not running and state["ExitCode"]:
            raise Amiss(f"{container['Name']} ended with {state['ExitCode']}")
        before = counts.get(labels["com.docker.compose.service"], (0, 0))
        counts[labels["com.docker.compose.service"]] = (before[0] + running, before[1] + (not running))
    return counts


def wait_for_none() -> float:
    began = time.monotonic()
    while any(running for running, _ in workers().values()):
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise Amiss(f"workers are still there: {workers()}")
        time.sleep(1)
    return time.monotonic() - began


def main(url: str) -> int:
    system = System(url, os.environ["MULTIFACET_API_KEY"])
    print(f"idle workers left by themselves: none runs after {wait_for_none():.0f} s; {workers()}", flush=True)
    began = time.monotonic()
    job = system.submit(DATA, "from zero")
    most: dict[str, int] = {}
    while True:
        for service, (running, _) in workers().items():
            most[service] = max(most.get(service, 0), running)
        found = system.patiently("GET", f"/v1/jobs/{job}")
        if found["state"] in {"succeeded", "failed", "cancelled"}:
            break
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise Amiss(f"{job} has not ended: {found['state']}")
        time.sleep(1)
    check(found, None)
    print(
        f"a job brought back what it needs and ended after {time.monotonic() - began:.0f} s; most at once: {most}",
        flush=True,
    )
    for service in ("curation", "augmentation", "composition", "generation"):
        if not most.get(service):
            raise Amiss(f"{service} was never started")
    for service in ("training", "evaluation", "inference"):
        if most.get(service):
            raise Amiss(f"{service} was started without a step of its own")
    print(f"and left again: none runs after {wait_for_none():.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
