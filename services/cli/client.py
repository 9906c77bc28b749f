"""The REST API as the commands use it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from services.cli.embedded.state import StateFolder
from shared.domain.errors import MultifacetError
from shared.settings.secrets import environment_secret

_TIMEOUT_SECONDS = 60.0


class Unreachable(MultifacetError):
    """The api gave no answer; the message says where it was looked for."""


class ApiClient:
    """Base URL and key come from MULTIFACET_URL and MULTIFACET_API_KEY (or the file MULTIFACET_API_KEY_FILE), else from the
    system that runs on this machine. Raises SecretUnreadable."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.url = (url or os.environ.get("MULTIFACET_URL", "").strip() or _local_url()).rstrip("/")
        key = key or environment_secret("MULTIFACET_API_KEY")
        headers = {"authorization": f"Bearer {_checked(key)}"} if key else {}
        with self._told():
            self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)

    def get(self, path: str, **query: str | int) -> Any:
        with self._told():
            return self._json(self._http.request("GET", path, params=query))

    def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = _TIMEOUT_SECONDS
    ) -> Any:
        """`seconds`: how long the answer may take to begin."""
        if body is None:
            return self._post(path, None, headers or {}, seconds=seconds)
        sent = {"content-type": "application/json", **(headers or {})}
        return self._post(path, _encoded(body), sent, seconds=seconds)

    def put(self, path: str, body: Any, seconds: float = _TIMEOUT_SECONDS) -> Any:
        return self._post(path, _encoded(body), {"content-type": "application/json"}, method="PUT", seconds=seconds)

    def delete(self, path: str) -> Any:
        with self._told():
            return self._json(self._http.request("DELETE", path))

    def upload(self, path: Path) -> dict[str, Any]:
        """Upload a file; returns its record with `id`."""
        name = path.name.encode("utf-8", "replace").decode()
        with _readable(path):
            handle = path.open("rb")
        with handle, self._told():
            response = self._http.post("/v1/files", files={"file": (name, handle)}, timeout=None)
        record: dict[str, Any] = self._json(response)
        return record

    def upload_taxonomy(self, path: Path) -> dict[str, Any]:
        """Upload a taxonomy, YAML or JSON; returns its record with `id`."""
        with _readable(path):
            content = path.read_bytes()
        record: dict[str, Any] = self._post("/v1/taxonomies", content, {"content-type": "application/yaml"})
        return record

    def content(self, path: str) -> bytes:
        """What a route answers with, as it is."""
        with self._told():
            answer = self._http.get(path)
            if not answer.is_success:
                self._json(answer)
            return answer.content

    def save(self, path: str, target: Path, **query: str | int) -> None:
        """Write what a route answers with to `target`. Raises MultifacetError where it cannot be written."""
        with self._told():
            answer = self._http.get(path, params=query)
            if not answer.is_success:
                self._json(answer)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(answer.content)
        except OSError as error:
            raise MultifacetError(f"{target} cannot be written: {error.strerror}; choose another file") from error

    def download(self, path: str, target: Path, expected_sha256: str) -> None:
        """Stream to `target`, which appears only when its sha256 is the expected one."""
        try:
            self._download(path, target, expected_sha256)
        except OSError as error:
            raise MultifacetError(f"{target} cannot be written: {error.strerror}; choose another folder") from error

    def _download(self, path: str, target: Path, expected_sha256: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.part")
        digest = sha256()
        with self._told(), self._http.stream("GET", path) as response:
            if not response.is_success:
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

    def _post(
        self,
        path: str,
        content: bytes | None,
        headers: dict[str, str],
        *,
        method: str = "POST",
        seconds: float = _TIMEOUT_SECONDS,
    ) -> Any:
        with self._told():
            return self._json(self._http.request(method, path, content=content, headers=headers, timeout=seconds))

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
        except httpx2.InvalidURL as error:
            raise MultifacetError(
                f"{self.url} is no address ({error}): set MULTIFACET_URL to http://host:port"
            ) from error
        except httpx2.DecodingError as error:
            raise MultifacetError(
                f"{self.url} sent an answer that cannot be read ({error}): is this a Multifacet api?"
            ) from error

    def _json(self, response: httpx2.Response) -> Any:
        """The answer of a request that was granted, an object. Raises MultifacetError for every other answer."""
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and isinstance(answer, dict):
            return answer
        if isinstance(answer, dict) and "title" in answer:
            raise MultifacetError("\n".join(_problem_lines(answer, response.status_code)))
        raise MultifacetError(
            f"{self.url} answered {response.status_code}, but not as a Multifacet api does; set MULTIFACET_URL to where one "
            f"runs. The answer begins: {response.text[:300]}"
        )


def job_path(job_id: str, *rest: str) -> str:
    """The path of a job or of something below it; whatever was typed as an id stays one part of it."""
    return "/".join(("/v1/jobs", *(quote(part, safe="", errors="surrogateescape") for part in (job_id, *rest))))


def _problem_lines(problem: dict[str, Any], status: int) -> Iterator[str]:
    yield f"{problem['title']} ({status}): {problem.get('detail', '')}"
    errors = problem.get("errors")
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict):
            yield f"  {error.get('pointer', '')}: {error.get('detail', '')}"


def _checked(key: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise MultifacetError(
            "MULTIFACET_API_KEY holds a character that no key has (keys are mf_ and plain letters, digits, - and _); set it to "
            "a key as it was printed when it was made"
        )
    return key


def _encoded(body: Any) -> bytes:
    """JSON in plain ASCII. NaN and halves of surrogate pairs go out as they are: the api says where they stand."""
    try:
        return json.dumps(body).encode()
    except (ValueError, RecursionError) as error:
        raise MultifacetError(
            f"what is to be sent has no form in JSON ({error}); write it without references to itself"
        ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MultifacetError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


def _local_url() -> str:
    record = StateFolder().record()
    if record is None:
        raise MultifacetError(
            "no Multifacet system runs on this machine: start one with `multifacet serve` (or `make serve`), "
            "or set MULTIFACET_URL (and MULTIFACET_API_KEY) to one elsewhere"
        )
    return record.api_url
