"""Deployments written straight into the database, with a stand-in for their model server."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from psycopg.types.json import Jsonb

from shared.domain.identifiers import new_id
from shared.metadata.engine import connection_string
from tests.support.servers import free_port


class StandIn:
    """One model server process, killed and started as a test likes, and the deployments that point at it."""

    def __init__(self, database_url: str, log: Path, seconds: float = 0.0) -> None:
        self._database_url = database_url
        self._log = log
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._servers: list[str] = []
        self.address = ""

    def start(self) -> None:
        """At a new address, which the deployments' rows are told."""
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        arguments = [str(port), str(self._log), str(self._seconds)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.answering_server", *arguments], cwd=Path(__file__).parents[2]
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx2.get(self.address)
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline, "the stand-in did not start"
                time.sleep(0.05)
        self._execute("UPDATE model_server SET address = %s WHERE id = ANY(%s)", self.address, self._servers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def calls(self, path: str) -> list[str]:
        """The calls of a route that it answered, as comparable texts."""
        if not self._log.exists():
            return []
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [json.dumps(line["body"], sort_keys=True) for line in lines if line["path"] == path]

    def deploy(self, name: str, job_id: str, method: str = "sft", project_id: str = "default") -> str:
        """A registered model that `job_id` made, deployed here as `name`. Returns the model's id."""
        model, deployment = new_id("model"), new_id("dep")
        server = f"stand-in/{deployment}"
        registered: dict[str, Any] = {
            "id": model, "project_id": project_id, "job_id": job_id, "stage": name, "attempt_id": 1, "name": name,
            "method": method, "tuning": "full", "base": Jsonb({"random": "tiny-mistral"}), "parameter_count": 1,
            "dtype": "float32", "metrics": Jsonb({}), "lineage": Jsonb({"random_weights": True}), "adapter_only": False,
        }  # fmt: skip
        self._insert("registered_model", registered)
        self._insert(
            "deployment",
            {"id": deployment, "project_id": project_id, "name": name, "state": "ready", "detail": "", "wanted_revision": 1,
             "serving_revision": 1},
        )  # fmt: skip
        self._insert(
            "model_server",
            {"id": server, "launcher": "stand-in", "place": len(self._servers), "kind": "cpu", "host": "here", "gpus": 0,
             "address": self.address, "deployment_id": deployment, "revision": 1, "observed_state": "ready",
             "observed_detail": "", "serving": f"{deployment}:1"},
        )  # fmt: skip
        # Nobody reports for it: its last report lies in the future, so that it is not taken for silent.
        self._execute("UPDATE model_server SET heartbeat_at = now() + interval '1 day' WHERE id = %s", server)
        self._insert(
            "deployment_revision",
            {"deployment_id": deployment, "revision": 1, "target": Jsonb({"registry": model, "provider": None, "model": None}),
             "options": Jsonb({"server": "cpu"}), "state": "ready", "server_id": server,
             "info": Jsonb({"maximum_total_tokens": 4096})},
        )  # fmt: skip
        self._servers.append(server)
        return model

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names, slots = ", ".join(values), ", ".join(["%s"] * len(values))
        self._execute(f"INSERT INTO {table} ({names}) VALUES ({slots})", *values.values())

    def _execute(self, query: str, *parameters: Any) -> None:
        with psycopg.connect(connection_string(self._database_url), autocommit=True) as connection:
            connection.execute(query.encode(), parameters)


@contextmanager
def stand_in(database_url: str, log: Path, seconds: float = 0.0) -> Iterator[StandIn]:
    server = StandIn(database_url, log, seconds)
    server.start()
    try:
        yield server
    finally:
        server.kill()
