"""Restart every service in the middle of a job and print what became of it: `python3 restarts.py API_URL [SERVICE …]`.

Needs the system of docker-compose.yml up, and a key in MULTIFACET_API_KEY. The same job runs once undisturbed and once for every
service, each time with an emptied cache of answers. Each must end with exactly the undisturbed one's rows, every artifact as its
sha256 says, one success per step, and ledgers that add up. Standard library only; ends with 1 where anything is amiss.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

DATA = {
    "sources": [{"bundled": "demo", "limit": 48}],
    "teacher": {"provider": "simulator", "model": "simulator-small"},
}
FULL = {
    **DATA,
    "sources": [{"bundled": "demo", "limit": 32}],
    "train": [{"preset": "smoke-cpu", "name": "sft", "maximum_steps": 40}],
    "judge": {"provider": "simulator", "model": "simulator-small"},
    "questions": {"maximum_rows": 4},
    "bench": {"name": "compose"},
    "evaluate": {"absolute": {"runs": 1}},
    "answer": [{"name": "answers", "candidate": {"stage": "sft"}, "decoding": {"max_tokens": 8}}],
}

# Service: (which job, in the middle of which queue's step it is restarted)
MOMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "curation": (DATA, "curation"),
    "augmentation": (DATA, "augmentation"),
    "composition": (DATA, "composition"),
    "generation": (DATA, "generation"),
    "controller": (DATA, "augmentation"),
    "api": (DATA, "generation"),
    "postgres": (DATA, "generation"),
    "redis": (DATA, "generation"),
    "minio": (DATA, "generation"),
    "simulator": (DATA, "generation"),
    "autoscaler": (DATA, "generation"),
    "docker-proxy": (DATA, "generation"),
    "training": (FULL, "training"),
    "model-server": (FULL, "inference"),
    "inference": (FULL, "inference"),
    "evaluation": (FULL, "evaluation"),
}

PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "900"))


class Amiss(Exception):
    """What was promised does not hold; the text says what was seen."""


def compose(*arguments: str, given: str | None = None) -> str:
    ran = subprocess.run(
        ["docker", "compose", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if ran.returncode:
        raise Amiss(f"docker compose {' '.join(arguments)}: {ran.stderr.strip()[-800:]}")
    return ran.stdout


def rows(query: str) -> list[list[str]]:
    text = compose("exec", "-T", "postgres", "psql", "-U", "multifacet", "-d", "multifacet", "-AtF|", "-c", query)
    return [line.split("|") for line in text.splitlines() if line]


class System:
    """The api, asked with a key."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self._key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def patiently(self, method: str, path: str, body: Any = None) -> Any:
        """While the api is away, again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.ask(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    raise Amiss(f"{method} {path}: {error.code} {error.read()[:300]!r}") from error
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Amiss(f"{method} {path}: {error}") from error
            time.sleep(0.5)

    def submit(self, spec: dict[str, Any], name: str) -> str:
        self.patiently("DELETE", "/v1/cache")
        return str(self.patiently("POST", "/v1/jobs", {**spec, "name": name})["id"])

    def ended(self, job: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found: dict[str, Any] = self.patiently("GET", f"/v1/jobs/{job}")
            if found["state"] in {"succeeded", "failed", "cancelled"}:
                return found
            if time.monotonic() > deadline:
                states = ", ".join(f"{stage['name']} {stage['state']}" for stage in found["stages"])
                raise Amiss(f"{job} has not ended in {PATIENCE_SECONDS:.0f} s: {states}")
            time.sleep(0.5)


def wait_for_step(job: str, queue: str) -> str:
    """Until a step of that queue runs, seen by the database itself; the stage that it belongs to."""
    wanted = (
        "SELECT stage.name FROM attempt JOIN step ON step.id = attempt.step_id JOIN stage ON stage.id = step.stage_id "
        f"WHERE step.job_id = '{job}' AND step.queue = '{queue}' AND attempt.state = 'running'"
    )
    loop = (
        f"DO $$ BEGIN FOR turn IN 1..{int(PATIENCE_SECONDS * 20)} LOOP IF EXISTS ({wanted}) THEN RETURN; END IF; "
        f"IF EXISTS (SELECT FROM job WHERE id = '{job}' AND state IN ('succeeded', 'failed')) THEN "
        "RAISE 'the job ended before'; END IF; PERFORM pg_sleep(0.05); END LOOP; RAISE 'no such step ran'; END $$"
    )
    rows(loop)
    found = rows(wanted + " LIMIT 1")
    return found[0][0] if found else queue


def started_at(service: str) -> datetime:
    """When the last of its containers was started."""
    ids = compose("ps", "--quiet", service).split()
    told = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.StartedAt}}", *ids],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout.split()
    return max(datetime.fromisoformat(text[:19] + "+00:00") for text in told)


def check(job: dict[str, Any], reference: dict[str, Any] | None) -> dict[str, Any]:
    """What the job left behind. Raises Amiss."""
    if job["state"] != "succeeded":
        raise Amiss(f"{job['id']} is {job['state']}: {job['error']}")
    twice = rows(
        "SELECT step.id FROM attempt JOIN step ON step.id = attempt.step_id WHERE attempt.state = 'succeeded' "
        f"AND step.job_id = '{job['id']}' GROUP BY step.id HAVING count(*) > 1"
    )
    if twice:
        raise Amiss(f"steps of {job['id']} succeeded more than once: {twice}")
    stuck = rows(
        f"SELECT id, state FROM step WHERE job_id = '{job['id']}' AND state NOT IN ('succeeded', 'skipped') "
        f"UNION ALL SELECT attempt.id::text, attempt.state FROM attempt JOIN step ON step.id = step_id "
        f"WHERE job_id = '{job['id']}' AND attempt.state = 'running'"
    )
    if stuck:
        raise Amiss(f"{job['id']} succeeded and left behind {stuck}")
    for stage in job["stages"]:
        ledger = stage["ledger"]
        for kind in ("rows", "facets"):
            if ledger[f"{kind}_in"] != ledger[f"{kind}_out"] + ledger[f"{kind}_rejected"]:
                raise Amiss(f"{stage['name']} of {job['id']} loses {kind}: {ledger}")
    digest: dict[str, Any] = json.loads(
        compose("exec", "-T", "api", "python", "-", job["id"], given=(HERE / "job_digest.py").read_text())
    )
    if digest["wrong"]:
        raise Amiss(f"bytes of {job['id']} do not match their sha256: {digest['wrong']}")
    if reference is not None:
        for part, wanted in reference["parts"].items():
            found = digest["parts"].get(part, {})
            missing = wanted.keys() - found.keys()
            other = [row for row in wanted.keys() & found.keys() if wanted[row] != found[row]]
            if missing or other or found.keys() - wanted.keys():
                raise Amiss(f"{part} of {job['id']}: {len(missing)} rows are missing, {len(other)} differ")
        if digest["parts"].keys() != reference["parts"].keys():
            raise Amiss(f"{job['id']} has parts {sorted(digest['parts'])}")
    return digest


def main(url: str, chosen: list[str]) -> int:
    system = System(url, os.environ["MULTIFACET_API_KEY"])
    wanted = {name: moment for name, moment in MOMENTS.items() if not chosen or name in chosen}
    if unknown := sorted(set(chosen) - set(MOMENTS)):
        sys.exit(f"no such service: {', '.join(unknown)}; choose from {', '.join(MOMENTS)}")
    references = {}
    for label, spec in (("data", DATA), ("full", FULL)):
        if any(spec is used for used, _ in wanted.values()):
            began = time.monotonic()
            references[label] = check(system.ended(system.submit(spec, f"undisturbed {label}")), None)
            count = sum(map(len, references[label]["parts"].values()))
            print(f"undisturbed {label}: {time.monotonic() - began:.0f} s, {count} rows in parts", flush=True)
    print(
        f"{'restarted':<14}{'in the middle of':<18}{'away s':>8}{'to the end s':>14}{'attempts lost':>15}{'given back':>12}"
        f"{'rows compared':>15}  result"
    )
    failed = 0
    for service, (spec, queue) in wanted.items():
        line = f"{service:<14}"
        try:
            job = system.submit(spec, f"restart of {service}")
            stage = wait_for_step(job, queue)
            line += f"{stage:<18}"
            began = time.monotonic()
            compose("restart", service)
            away = time.monotonic() - began
            ended = system.ended(job)
            back = started_at(service)
            if back > datetime.fromisoformat(ended["finished_at"].replace("Z", "+00:00")):
                raise Amiss(
                    f"the job had ended before {service} was back: the engine is too slow for answers of this latency"
                )
            digest = check(ended, references["data" if spec is DATA else "full"])
            line += f"{away:>8.1f}{time.monotonic() - began:>14.1f}"
            ends = dict(
                rows(
                    "SELECT attempt.state, count(*) FROM attempt JOIN step ON step.id = step_id "
                    f"WHERE job_id = '{job}' GROUP BY 1"
                )
            )
            line += f"{ends.get('lost', 0):>15}{ends.get('preempted', 0):>12}"
            line += f"{sum(map(len, digest['parts'].values())):>15}  all the same"
        except Amiss as amiss:
            failed += 1
            line += f"  FAILED: {amiss}"
        print(line, flush=True)
    print(f"{len(wanted) - failed} survived, {failed} did not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
