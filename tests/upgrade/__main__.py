"""`python -m tests.upgrade [--from REF]`: a rolling upgrade from an earlier commit while a job runs.

Processes of the earlier code run a job of the simulator. The new code migrates the database under them, then the processes are
replaced one by one: workers by SIGTERM, the controller by one that waits beside it, the api last. Nothing may be lost: every step
succeeds once, none fails and none is lost, and the data sets equal those of the same job run by the new code alone. Prints a
table; ends with 1 where a promise was broken.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import orjson

from tests.support.servers import free_port, running_postgres, running_redis
from tests.upgrade.processes import ROOT, Database, Process, wait_for

MIGRATIONS = "shared/metadata/migrations/versions"
USUAL_MS, SLOW_MS, QUICK_MS = 2_000, 20_000, 100
"""What the simulator takes for an answer: until the job is under way, while processes are replaced, and then. However long the
replacing takes on a busy machine, the job is not over before."""
SPEC: dict[str, Any] = {
    "name": "upgraded under way",
    "sources": [{"bundled": "demo"}],
    "teacher": {"provider": "simulator", "model": "simulator-large"},
    "curate": {"limit": 48},
    "seed": 7,
}

_SUCCEEDED = "SELECT count(*) FROM step WHERE job_id = %s AND state = 'succeeded' AND queue <> 'curation'"
_IMPORT_MIGRATE = "import sys; from shared.metadata.engine import create_tables; create_tables(sys.argv[1])"


class Broken(Exception):
    """What an upgrade must not do."""


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def commit_before_the_newest_migration() -> str:
    """The parent of the commit that added the newest migration."""
    added = git("log", "--diff-filter=A", "--format=%H", "--", f"{MIGRATIONS}/[0-9]*.py").splitlines()
    return git("rev-parse", f"{added[0]}~1")


@contextmanager
def code_of(reference: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit in a folder of its own."""
    place = folder / "earlier"
    git("worktree", "add", "--quiet", "--detach", str(place), reference)
    try:
        yield place
    finally:
        git("worktree", "remove", "--force", str(place))


class Upgrade:
    """The run, and what it saw."""

    def __init__(self, folder: Path, earlier: Path, database_url: str, redis_url: str) -> None:
        self.folder, self.earlier, self.database = folder, earlier, Database(database_url)
        self.simulator_port, self.api_port = free_port(), free_port()
        self.environment = {
            "MULTIFACET_DATABASE_URL": database_url,
            "MULTIFACET_REDIS_URL": redis_url,
            "MULTIFACET_ARTIFACT_STORE": "directory",
            "MULTIFACET_ARTIFACT_DIRECTORY": str(folder / "artifacts"),
            "MULTIFACET_WORK_FOLDER": str(folder),
            "MULTIFACET_AUTHENTICATION": "loopback",
            "MULTIFACET_API_PORT": str(self.api_port),
            "MULTIFACET_SIMULATOR_URL": f"http://127.0.0.1:{self.simulator_port}/v1",
            "MULTIFACET_CANCEL_GRACE_SECONDS": "10",
            "MULTIFACET_MAXIMUM_IN_FLIGHT": "4",
        }
        self.processes: list[Process] = []
        self.seen: list[tuple[str, str, float]] = []
        self._started = time.monotonic()

    def start(self, code: Path, name: str, *arguments: str) -> Process:
        process = Process(name, code, self.folder / f"{name}.log", self.environment, *arguments)
        self.processes.append(process)
        return process

    def saw(self, what: str, detail: str) -> None:
        self.seen.append((what, detail, time.monotonic() - self._started))
        print(f"{self.seen[-1][2]:7.1f} s  {what}: {detail}", flush=True)

    def worker(self, code: Path, name: str) -> Process:
        process = self.start(code, name, "-m", "shared.stages.worker", "--roles", "all")
        wait_for(
            f"{name} is registered",
            lambda: self.database.value("SELECT 1 FROM worker WHERE process_id = %s", process.pid),
        )
        return process

    def api(self, code: Path, name: str) -> Process:
        process = self.start(code, name, "-m", "services.api")
        wait_for(f"{name} answers", self._ready)
        return process

    def submit(self) -> str:
        answer = httpx2.post(f"http://127.0.0.1:{self.api_port}/v1/jobs", json=SPEC, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def view(self, job_id: str) -> dict[str, Any]:
        answer = httpx2.get(f"http://127.0.0.1:{self.api_port}/v1/jobs/{job_id}", timeout=60)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def latency(self, milliseconds: int) -> None:
        """How long the simulator takes for an answer from now on."""
        answer = httpx2.put(
            f"http://127.0.0.1:{self.simulator_port}/v1/simulator/faults",
            json={"default": {"latency_ms": milliseconds}},
            timeout=60,
        )
        answer.raise_for_status()

    def goes_on(self) -> None:
        """Wait until every worker has beaten and an answer more was stored."""
        stored = "SELECT count(*) FROM cached_completion"
        now, before = self.database.value("SELECT now()"), self.database.value(stored)
        wait_for("an answer more", lambda: self.database.value(stored) > before)
        wait_for(
            "every worker beats", lambda: self.database.value("SELECT bool_and(heartbeat_at > %s) FROM worker", now)
        )

    def ended(self, job_id: str) -> dict[str, Any]:
        wait_for(
            f"job {job_id} has ended",
            lambda: self.database.value("SELECT settled_at FROM job WHERE id = %s", job_id),
            1800,
        )
        return self.view(job_id)

    def _ready(self) -> bool:
        with suppress(httpx2.HTTPError):
            return httpx2.get(f"http://127.0.0.1:{self.api_port}/health/ready", timeout=5).status_code == 200
        return False

    def close(self) -> None:
        for process in self.processes:
            process.kill()

    def run(self) -> None:
        plan = self.folder / "faults.json"
        plan.write_bytes(orjson.dumps({"default": {"latency_ms": USUAL_MS}}))
        first = self.start(self.earlier, "earlier-migrate", "-c", _IMPORT_MIGRATE, self.database.url)
        wait_for("the earlier code made its tables", lambda: not first.alive())
        self.start(
            ROOT, "simulator", "-m", "services.simulator", "--port", str(self.simulator_port), "--faults", str(plan)
        )
        revision = self.database.value("SELECT version_num FROM alembic_version")
        old_api = self.api(self.earlier, "earlier-api")
        old_controller = self.start(self.earlier, "earlier-controller", "-m", "services.controller")
        old_workers = [self.worker(self.earlier, f"earlier-worker-{number}") for number in range(2)]
        job_id = self.submit()
        wait_for("the job's rows are written", lambda: self.database.value(_SUCCEEDED, job_id) >= 1)
        self.latency(SLOW_MS)
        self.saw("the earlier code works", f"schema {revision}, job {job_id}")

        migration = self.start(ROOT, "migrate", "-m", "services.cli", "migrate")
        wait_for("the database was migrated", lambda: not migration.alive())
        now = self.database.value("SELECT version_num FROM alembic_version")
        self.saw("migrated under it", f"schema {revision} -> {now}, the job is {self.view(job_id)['state']}")
        self.goes_on()
        self.saw("the earlier code goes on", "workers beat, and an answer more was stored on the new schema")

        for number, worker in enumerate(old_workers):
            code = worker.end()
            self.worker(ROOT, f"new-worker-{number}")
            self.saw(f"worker {number} replaced", f"the earlier one ended with {code}")
            if code != 0:
                raise Broken(f"{worker.name} ended with {code}")
        new_controller = self.start(ROOT, "new-controller", "-m", "services.controller")
        code = old_controller.end()
        self.saw("controller replaced", f"the earlier one ended with {code}")
        code = old_api.end()
        self.api(ROOT, "new-api")
        under_way = self.view(job_id)["state"]
        self.saw("api replaced", f"the earlier one ended with {code}, the job is {under_way}")
        if under_way != "running":
            raise Broken(
                f"the job was {under_way} before everything was replaced: the run shows nothing; make the job longer"
            )
        self.latency(QUICK_MS)
        job = self.ended(job_id)
        self.saw("the job has ended", job["state"])
        self._check(job)
        again = self.ended(self.submit())
        self._same(job["id"], again["id"])
        self.saw("the same job by the new code alone", "equal data sets")
        if not new_controller.alive():
            raise Broken("the new controller ended")

    def _check(self, job: dict[str, Any]) -> None:
        if job["state"] != "succeeded":
            raise Broken(f"the job is {job['state']}: {job['error']}")
        for stage in job["stages"]:
            ledger = stage["ledger"]
            if ledger["rows_in"] != ledger["rows_out"] + ledger["rows_rejected"]:
                raise Broken(f"rows of {stage['name']} do not add up: {ledger}")
        lost = self.database.rows(
            "SELECT id, failures, losses FROM step WHERE job_id = %s AND (failures > 0 OR losses > 0)", job["id"]
        )
        ends = dict(
            self.database.rows(
                "SELECT attempt.state, count(*) FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s GROUP BY 1",
                job["id"],
            )
        )
        twice = self.database.rows(
            "SELECT step_id FROM attempt JOIN step ON step.id = step_id WHERE job_id = %s AND attempt.state = 'succeeded' "
            "GROUP BY 1 HAVING count(*) > 1",
            job["id"],
        )
        self.saw("attempts by their end", ", ".join(f"{state} {count}" for state, count in sorted(ends.items())))
        if lost or twice:
            raise Broken(f"steps that failed or were lost: {lost}; that succeeded twice: {twice}")

    def _same(self, upgraded: str, alone: str) -> None:
        query = (
            "SELECT stage || '/' || name, sha256 FROM artifact WHERE job_id = %s AND stage = 'assemble' "
            "AND name LIKE 'exports/%%.jsonl' ORDER BY 1"
        )
        first, second = self.database.rows(query, upgraded), self.database.rows(query, alone)
        if not first or first != second:
            raise Broken(f"the data sets differ from those of a job by the new code alone: {set(first) ^ set(second)}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--from", dest="reference", default="", help="git reference of the earlier code")
    reference = parser.parse_args(arguments).reference or commit_before_the_newest_migration()
    print(f"from {git('log', '-1', '--format=%h %s', reference)}", flush=True)
    print(f"to   {git('log', '-1', '--format=%h %s')}", flush=True)
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mf-upgrade-", ignore_cleanup_errors=True))
        )
        earlier = stack.enter_context(code_of(reference, folder))
        postgres, redis = stack.enter_context(running_postgres()), stack.enter_context(running_redis())
        upgrade = Upgrade(folder, earlier, postgres.url(), redis.url)
        try:
            upgrade.run()
        except (Broken, TimeoutError, httpx2.HTTPError) as error:
            print(f"BROKEN: {error}", flush=True)
            for process in upgrade.processes:
                print(f"--- {process.name}\n{process.log.read_text(errors='replace')[-2000:]}")
            return 1
        finally:
            upgrade.close()
    print("nothing was lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
