"""The REST API as the commands use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from services.cli.embedded.state import StateFolder
from shared.domain.errors import MultifacetError

_TIMEOUT_SECONDS = 60.0


class Unreachable(MultifacetError):
    """The api gave no answer; the message says where it was looked for."""


class ApiClient:
    """Base URL and key come from MULTIFACET_URL and MULTIFACET_API_KEY, else from the system that runs on this machine."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.url = (url or os.environ.get("MULTIFACET_URL") or _local_url()).rstrip("/")
        key = key or os.environ.get("MULTIFACET_API_KEY")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)

    def get(self, path: str, **query: str | int) -> Any:
        with self._told():
            return self._json(self._http.request("GET", path, params=query))

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        with self._told():
            return self._json(self._http.request("POST", path, json=body, headers=headers))

    def delete(self, path: str) -> Any:
        with self._told():
            return self._json(self._http.request("DELETE", path))

    def upload(self, path: Path) -> dict[str, Any]:
        """Upload a file; returns its record with `id`."""
        with path.open("rb") as handle, self._told():
            response = self._http.post("/v1/files", files={"file": (path.name, handle)}, timeout=None)
        record: dict[str, Any] = self._json(response)
        return record

    def download(self, path: str, target: Path, expected_sha256: str) -> None:
        """Stream to `target`, which appears only when its sha256 is the expected one."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.part")
        digest = sha256()
        with self._told(), self._http.stream("GET", path) as response:
            if response.status_code >= 400:
                response.read()
                self._json(response)
            with unfinished.open("wb") as sink:
                for chunk in response.iter_bytes(1 << 20):
                    digest.update(chunk)
                    sink.write(chunk)
        if digest.hexdigest() != expected_sha256:
            unfinished.unlink()
            raise MultifacetError(f"{path} arrived with another sha256 than on record: download it again")
        unfinished.replace(target)

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """All items of a cursor-paged list."""
        while True:
            page = self.get(path, **query)
            yield from page["items"]
            if not page.get("next"):
                return
            query["before"] = page["next"]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What went wrong on the way, as an error that a person can act on."""
        try:
            yield
        except httpx2.TransportError as error:
            raise Unreachable(
                f"{self.url} gave no answer ({type(error).__name__}: {error}): check that the system runs there, "
                "or set MULTIFACET_URL to where it does"
            ) from error

    def _json(self, response: httpx2.Response) -> Any:
        if response.status_code < 400:
            return response.json()
        try:
            problem = response.json()
            lines = [f"{problem.get('title', 'error')} ({response.status_code}): {problem.get('detail', '')}"]
            lines += [f"  {error['pointer']}: {error['detail']}" for error in problem.get("errors") or ()]
        except ValueError:
            lines = [f"{self.url} answered {response.status_code}: {response.text[:300]}"]
        raise MultifacetError("\n".join(lines))


def _local_url() -> str:
    record = StateFolder().record()
    if record is None:
        raise MultifacetError(
            "no Multifacet system runs on this machine: start one with `multifacet serve` (or `make serve`), "
            "or set MULTIFACET_URL (and MULTIFACET_API_KEY) to one elsewhere"
        )
    return record.api_url
