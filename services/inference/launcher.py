"""Runs model servers for an api: `python launcher.py --api http://… --kind tgi`.

One file of the standard library (Python 3.9 and later), which runs in TGI's image as beside our own CPU server. Every two seconds
it tells the api what its places do; the answer says what each shall serve. A place fetches that model into a cache (every file
checked against its sha256), starts a server on it, waits until that is healthy, and follows: another model takes over when it is
ready (`--replace overlap`) or after the one before has ended (`--replace restart`, for a GPU that holds one model); one that
cannot be served is refused in words, and what served before serves again. A server that ends is started again.

While the api is away everything that serves goes on, but for GPUs: those are held by lease, and are given up before it runs out.
Nothing is logged of prompts, and no URL, since URLs of a store are signed.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import fnmatch
import hashlib
import http.client
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable  # noqa: UP035  also for Python 3.9

CPU_COMMAND = (
    f"{shlex.quote(sys.executable)} -m services.inference.cpu_server --model-id {{model}} --hostname {{host}} --port {{port}} "
    "--served-name {name} {arguments}"
)
TGI_COMMAND = "text-generation-launcher --model-id {model} --hostname {host} --port {port} {arguments}"
STATE_FILE = "state.json"
COMPLETE_FILE = ".complete.json"
# Of a model on the Hub: data alone. Python files and pickles are never fetched.
HUB_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.jinja")

# What `shared.telemetry.logs` reads: ids that each line of a process carries.
_LOG_CONTEXT = "MULTIFACET_LOG_CONTEXT"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0
_REPORT_TIMEOUT_SECONDS = 10.0
_HEALTH_SECONDS = 0.25
_LOOK_SECONDS = 0.2
_WATCH_SECONDS = 10.0
_HUNG_STOP_SECONDS = 5.0
_PORTS = 200
_LONGEST_PAUSE_SECONDS = 30.0
_REFUSALS = 5
_DETAIL_CHARACTERS = 2000
_TAIL_LINES = 12
_SECRETS = frozenset(
    name + end for name in ("MULTIFACET_LAUNCHER_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") for end in ("", "_FILE")
)
"""Variables that servers are not given."""
_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

_turns = itertools.count(time.time_ns() // 1_000_000_000)  # from another port than the launcher before


class CannotServe(Exception):
    """The wanted model cannot be served here: what was seen and why, for people."""


class NotNow(Exception):
    """Something that passes: it is tried again."""


class Changed(Exception):
    """Something else is wanted by now, or the launcher ends."""


def say(event: str, **facts: object) -> None:
    """One line of JSON on standard error."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"event": event, "service": "launcher", "timestamp": at, **facts}
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()


# ---- what is wanted ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A file of a model. Of its two hashes one is known: the sha256, or git's sha1 of a small file on the Hub."""

    name: str
    size: int
    sha256: str = ""
    url: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class Source:
    """Where a model is: files, a folder of this machine, or the Hub. The same key stands for the same bytes."""

    key: str
    files: tuple[File, ...] | None = None
    folder: str | None = None
    repository: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a place shall serve."""

    id: str
    name: str
    model: Source | None
    adapters: Source | None
    arguments: tuple[str, ...]
    devices: tuple[int, ...]
    problem: str | None


def read_wanted(told: dict[str, Any]) -> Wanted:
    """As the api tells it. Raises KeyError, TypeError and ValueError for another form."""
    return Wanted(
        id=str(told["id"]),
        name=str(told["name"]),
        model=_read_source(told["model"]),
        adapters=_read_source(told.get("adapters")),
        arguments=tuple(str(part) for part in told["arguments"]),
        devices=tuple(int(device) for device in told["devices"]),
        problem=told.get("problem"),
    )


def _read_source(told: dict[str, Any] | None) -> Source | None:
    if told is None:
        return None
    files = told.get("files")
    return Source(
        key=str(told["key"]),
        files=None
        if files is None
        else tuple(File(str(f["name"]), int(f["size"]), str(f["sha256"]), str(f["url"])) for f in files),
        folder=told.get("folder"),
        repository=told.get("repository"),
        revision=told.get("revision"),
    )


def without_urls(told: Any) -> Any:
    """What may be written to disk: URLs are signed, and go stale."""
    if isinstance(told, dict):
        return {name: "" if name == "url" else without_urls(value) for name, value in told.items()}
    return [without_urls(value) for value in told] if isinstance(told, list) else told


# ---- settings ------------------------------------------------------------------------------------------------------


@dataclass
class Options:
    """What the operator set."""

    api: str
    name: str
    kind: str
    places: int
    cache: Path
    command: list[str]
    replace: str
    listen: str
    advertise: str
    first_port: int
    host: str
    gpus_per_place: int
    devices: tuple[int, ...]
    models_folder: Path | None
    cache_bytes: int
    start_seconds: float
    stop_seconds: float
    steady_seconds: float
    hung_seconds: float
    crashes: int
    token: str = field(repr=False, default="")
    health_file: Path | None = None


def parse_options(arguments: list[str] | None = None) -> Options:
    """Options and environment. Ends the process with one line for what cannot be."""
    environment = os.environ
    parser = argparse.ArgumentParser(
        prog="launcher",
        description="Run model servers for a Multifacet api. MULTIFACET_LAUNCHER_TOKEN holds its token.",
    )
    add = parser.add_argument
    add("--api", default=environment.get("MULTIFACET_URL", ""), help="address of the api; default: MULTIFACET_URL")
    add("--name", default=environment.get("MULTIFACET_LAUNCHER_NAME") or socket.gethostname(), help="unique, and kept")
    add("--kind", choices=("cpu", "tgi"), default="cpu", help="which server it starts")
    add("--places", type=int, default=1, help="servers that may run at once")
    add("--cache", type=Path, required=True, help="folder for models and pid files; this launcher's alone")
    add("--cache-gigabytes", type=float, default=200.0, help="models not in use are removed above this")
    add("--command", help="how a server is started; {model} {host} {port} {name} {place} {arguments} are filled in")
    add("--replace", choices=("overlap", "restart"), help="default: overlap for cpu, restart for tgi")
    add("--listen", default="127.0.0.1", help="address that servers listen on")
    add("--advertise", help="host name under which the api and workers reach the servers; default: --listen")
    add("--first-port", type=int, default=0, help="servers take ports from here on; 0: any free port")
    add("--gpus-per-place", type=int, help="default: 1 for tgi, 0 for cpu")
    add("--models-folder", type=Path, default=environment.get("MULTIFACET_MODELS_FOLDER") or None)
    add("--start-seconds", type=float, default=900.0, help="a server must be healthy within this")
    add("--stop-seconds", type=float, default=100.0, help="a server that is told to end has this to answer what it has")
    add("--steady-seconds", type=float, default=120.0, help="after so long a crash counts as the first one again")
    add("--hung-seconds", type=float, default=120.0, help="a server that is not healthy for so long is started again")
    add("--crashes", type=int, default=5, help="so many crashes in a row, and the model is given up")
    given = parser.parse_args(arguments)
    if not given.api.startswith(("http://", "https://")):
        parser.error("give the api's address: --api http://host:port, or MULTIFACET_URL")
    if given.places < 1 or given.places > 64:
        parser.error(f"--places is {given.places}; give 1 to 64")
    gpus = given.gpus_per_place if given.gpus_per_place is not None else (1 if given.kind == "tgi" else 0)
    devices = find_devices() if gpus else ()
    if gpus > len(devices):
        parser.error(
            f"a place takes {gpus} GPUs and {len(devices)} are seen here; give the machine's GPUs to this container, set "
            "MULTIFACET_GPUS to their number, or --gpus-per-place 0"
        )
    if given.hung_seconds <= 0:
        parser.error(f"--hung-seconds is {given.hung_seconds:g}; give the seconds that a busy server may keep silent")
    os.environ["HF_TOKEN"] = _secret("HF_TOKEN")  # where libraries and `hub_request` look for it
    advertise = given.advertise or given.listen
    if advertise in {"0.0.0.0", "::"}:
        parser.error(f"--listen {given.listen} is no address to call; give --advertise with this machine's name")
    return Options(
        api=given.api.rstrip("/"),
        name=given.name,
        kind=given.kind,
        places=given.places,
        cache=given.cache.absolute(),
        command=shlex.split(given.command or (CPU_COMMAND if given.kind == "cpu" else TGI_COMMAND)),
        replace=given.replace or ("overlap" if given.kind == "cpu" else "restart"),
        listen=given.listen,
        advertise=advertise,
        first_port=given.first_port,
        host=environment.get("MULTIFACET_GPU_HOST") or socket.gethostname(),
        gpus_per_place=gpus,
        devices=devices,
        models_folder=None if given.models_folder is None else Path(given.models_folder),
        cache_bytes=int(given.cache_gigabytes * 1e9),
        start_seconds=given.start_seconds,
        stop_seconds=given.stop_seconds,
        steady_seconds=given.steady_seconds,
        hung_seconds=given.hung_seconds,
        crashes=given.crashes,
        token=_secret("MULTIFACET_LAUNCHER_TOKEN"),
        health_file=Path(environment["MULTIFACET_HEALTH_FILE"]) if environment.get("MULTIFACET_HEALTH_FILE") else None,
    )


def _secret(name: str) -> str:
    """Of the file that the variable with _FILE after it names, else of the variable itself. Ends the process with one line for a
    file that cannot be read."""
    path = os.environ.get(name + "_FILE", "").strip()
    try:
        held = Path(path).read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{name}_FILE={path} cannot be read ({_name_of(error)}); set a text file that this process may read")
    return held or os.environ.get(name, "").strip()


def find_devices() -> tuple[int, ...]:
    """Numbers of the GPUs that servers may use: by MULTIFACET_GPUS, by CUDA_VISIBLE_DEVICES, or from the driver."""
    count = os.environ.get("MULTIFACET_GPUS", "").strip()
    if count:
        if not count.isdigit():
            sys.exit(f"MULTIFACET_GPUS={count!r} is no number; set how many GPUs this machine has, or unset it")
        return tuple(range(int(count)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", visible):
        return tuple(dict.fromkeys(int(part) for part in visible.split(",")))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    known = re.findall(r"^GPU (\d+): .*\(UUID: (GPU-[0-9a-fA-F-]+)\)", listed, re.MULTILINE)
    if visible is None:
        return tuple(int(number) for number, _ in known)
    found: list[int] = []
    for part in (part.strip() for part in visible.split(",")):
        matching = [int(n) for n, uuid in known if part == n or (part.startswith("GPU-") and uuid.startswith(part))]
        if len(matching) != 1:
            break  # as CUDA does: what comes after one that does not exist is not seen
        found.append(matching[0])
    return tuple(dict.fromkeys(found))


# ---- HTTP ----------------------------------------------------------------------------------------------------------


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The api and the store answer themselves; a token goes nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
_hub = urllib.request.build_opener()


class Api:
    """The api, as a launcher speaks to it."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def report(self, body: dict[str, Any], timeout: float = _REPORT_TIMEOUT_SECONDS) -> dict[str, Any]:
        """Raises NotNow where the api does not answer as it should, with words that hold no address."""
        path = f"/v1/launchers/{urllib.parse.quote(self._options.name, safe='')}/report"
        request = urllib.request.Request(
            self._options.api + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", **self._token()},
        )
        try:
            with _direct.open(request, timeout=timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise NotNow(f"the api answered {error.code}: {_problem_of(error)}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotNow(f"the api does not answer ({_name_of(error)})") from None
        if not isinstance(answer, dict):
            raise NotNow("the api's answer is no object")
        return answer

    def open(self, url: str, offset: int) -> Any:
        """A file's bytes from `offset` on, if the server can (else from the first)."""
        headers = {"range": f"bytes={offset}-"} if offset else {}
        if url.startswith("/"):
            url, headers = self._options.api + url, {**headers, **self._token()}
        if not url.startswith(("http://", "https://")):
            raise NotNow("the api names a file by an address that is none of HTTP")
        return _direct.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)

    def _token(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._options.token}"} if self._options.token else {}


def hub_request(url: str, offset: int = 0) -> Any:
    """Ask the Hub. Its token is not sent on to where it redirects."""
    request = urllib.request.Request(url, headers={"range": f"bytes={offset}-"} if offset else {})
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        request.add_unredirected_header("authorization", f"Bearer {token}")
    return _hub.open(request, timeout=_TIMEOUT_SECONDS)


def hub_files(repository: str, revision: str | None) -> tuple[File, ...]:
    """The files of a model on the Hub, of one commit. Raises CannotServe, NotNow."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", repository):
        raise CannotServe(f"{repository!r} is no name of a model on the Hub, such as mistralai/Mistral-7B-v0.2")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    place = urllib.parse.quote(repository, safe="/")
    wanted = urllib.parse.quote(revision or "main", safe="")
    try:
        with hub_request(f"{endpoint}/api/models/{place}/revision/{wanted}?blobs=true") as response:
            told = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in {401, 403, 404}:
                raise CannotServe(
                    f"the Hub has no model {repository} (revision {revision or 'main'}), or this machine may not read it; check "
                    "the name, or set HF_TOKEN for the launcher"
                ) from None
            raise NotNow(f"the Hub answered {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotNow(f"the Hub does not answer ({_name_of(error)})") from None
    found = []
    for entry in told.get("siblings", []):
        name, big = str(entry["rfilename"]), entry.get("lfs")
        if "/" in name or not any(fnmatch.fnmatch(name, pattern) for pattern in HUB_PATTERNS):
            continue
        url = f"{endpoint}/{place}/resolve/{told['sha']}/{urllib.parse.quote(name)}"
        if big:
            found.append(File(name, int(big["size"]), str(big["sha256"]), url))
        else:
            found.append(File(name, int(entry["size"]), "", url, str(entry["blobId"])))
    if not any(file.name.endswith(".safetensors") for file in found):
        raise CannotServe(f"the Hub model {repository} has no weights as safetensors; convert it, or name another base")
    return tuple(found)


def _problem_of(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read(1 << 16))
        return str(told.get("detail", ""))[:500] if isinstance(told, dict) else error.reason
    except (OSError, ValueError, http.client.HTTPException):
        return str(error.reason)


def _name_of(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return type(reason if isinstance(reason, BaseException) else error).__name__


# ---- models on disk ------------------------------------------------------------------------------------------------


class Cache:
    """Models by key, each in a folder that appears when all of it is there."""

    def __init__(self, folder: Path, limit: int, api: Api, models_folder: Path | None) -> None:
        self.models = folder / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        self._limit = limit
        self._api = api
        self._operators = models_folder
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._used: dict[str, int] = {}

    def obtain(self, source: Source, url_of: Callable[[str], str], tell: Callable[[str], None]) -> Path:
        """The folder with the model. `url_of` gives a file's newest URL, and raises Changed; so does `tell`, which is called
        again and again. Raises CannotServe, NotNow."""
        if source.folder is not None:
            return self._of_operator(source.folder)
        target = self.models / safe_name(source.key)
        with self._guard:
            lock = self._locks.setdefault(source.key, threading.Lock())
        while not lock.acquire(timeout=0.5):
            tell("another place fetches the same model")
        try:
            if not (target / COMPLETE_FILE).is_file():
                self._fetch(source, target, url_of, tell)
            os.utime(target / COMPLETE_FILE)
        except OSError as error:
            if error.errno in _STORAGE_ERRORS:
                raise CannotServe(
                    f"the launcher's cache cannot be written: {error.strerror}; make room there"
                ) from None
            raise
        finally:
            lock.release()
        return target

    def use(self, server: Server, times: int) -> None:
        """Note that a server uses its folders (1) or does no more (-1): what is in use is not removed."""
        with self._guard:
            for folder in (server.model, server.adapters):
                if folder is not None:
                    self._used[folder.name] = self._used.get(folder.name, 0) + times

    def _of_operator(self, name: str) -> Path:
        if self._operators is None:
            raise CannotServe(
                f"the base is the folder {name!r} of the operator, and this launcher has none; give it --models-folder"
            )
        found = (self._operators / name).resolve()
        if self._operators.resolve() not in found.parents or not found.is_dir():
            raise CannotServe(f"the launcher's folder of models has no folder {name!r}")
        return found

    def _fetch(self, source: Source, target: Path, url_of: Callable[[str], str], tell: Callable[[str], None]) -> None:
        on_hub = source.repository is not None
        files = hub_files(source.repository or "", source.revision) if on_hub else source.files or ()
        if not files:
            raise CannotServe("the api names no file of the model")
        size = sum(file.size for file in files)
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(exist_ok=True)
        self._make_room(size, keep={target.name, partial.name})
        done = 0
        for file in files:
            at_hub = file.url

            def open_file(offset: int, name: str = file.name, url: str = at_hub) -> Any:
                return hub_request(url, offset) if on_hub else self._api.open(url_of(name), offset)

            def tell_of(written: int, before: int = done) -> None:
                tell(
                    f"fetches {source.repository or 'the model'}: {(before + written) / 1e6:.0f} of {size / 1e6:.0f} MB"
                )

            fetch_file(file, partial / checked_name(file.name), open_file, tell_of)
            done += file.size
        for extra in [path for path in partial.rglob("*") if path.is_file()]:
            if extra.relative_to(partial).as_posix() not in {file.name for file in files}:
                extra.unlink()  # of an earlier list of files
        record = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files]
        (partial / COMPLETE_FILE).write_text(json.dumps(record))
        shutil.rmtree(target, ignore_errors=True)
        partial.replace(target)
        say("model_fetched", model=source.key, bytes=size)

    def _make_room(self, size: int, keep: set[str]) -> None:
        """Remove models that nobody uses, those used longest ago first, until `size` more bytes fit in."""
        if size > self._limit:
            raise CannotServe(
                f"the model has {size / 1e9:.1f} GB, and this launcher's cache may hold {self._limit / 1e9:.1f}; raise "
                "--cache-gigabytes"
            )
        with self._guard:
            used = {name for name, count in self._used.items() if count > 0} | keep
            held = {path: size_of(path) for path in self.models.iterdir() if path.is_dir()}
            total = sum(held.values())
            free = sorted((path for path in held if path.name not in used), key=_last_use)
            for path in free:
                if total + size <= self._limit:
                    return
                shutil.rmtree(path, ignore_errors=True)
                total -= held[path]
                say("model_removed", model=path.name)


def fetch_file(file: File, path: Path, open_file: Callable[[int], Any], tell: Callable[[int], None]) -> None:
    """Write a file that has the hash on record, or none. One that was begun is gone on with, where the server can do that.

    Raises CannotServe for bytes with another hash and for a file that is gone, NotNow for what passes; `tell` may raise too.
    """
    if path.is_file() and path.stat().st_size == file.size:
        return  # its hash was right when it got this name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    began = part.stat().st_size if part.is_file() else 0
    if began > file.size:
        part.unlink()
        began = 0
    try:
        with open_file(began if began < file.size else 0) as response:
            goes_on = response.status == 206 and began > 0
            digest = _digest_of(file, part if goes_on else None)
            written = began if goes_on else 0
            with part.open("ab" if goes_on else "wb") as sink:
                while written <= file.size:
                    chunk = response.read(_CHUNK_BYTES)
                    if not chunk:
                        break
                    sink.write(chunk)
                    digest.update(chunk)
                    written += len(chunk)
                    tell(written)
                sink.flush()
                os.fsync(sink.fileno())
    except urllib.error.HTTPError as error:
        with error:
            _refuse_status(file, part, error.code)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
            raise
        raise NotNow(f"{file.name} cannot be fetched now ({_name_of(error)})") from None
    if written < file.size:
        raise NotNow(f"{file.name} ended after {written} of {file.size} bytes")
    expected = file.sha256 or file.git_sha1
    if written > file.size or digest.hexdigest() != expected:
        part.unlink()
        if goes_on:
            raise NotNow(f"{file.name} is fetched anew: what was begun does not fit the rest")
        seen = f"{written} bytes or more" if written > file.size else f"sha256 {digest.hexdigest()}"
        raise CannotServe(
            f"{file.name} arrived with {seen}, on record are {file.size} bytes with {expected}: it was changed in the store"
        )
    part.replace(path)


def _digest_of(file: File, begun: Path | None) -> Any:
    """A hash of the file's kind, over what is there already."""
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)  # git's name of a file
    if begun is not None:
        with begun.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest


def _refuse_status(file: File, part: Path, status: int) -> None:
    if status in {404, 410}:
        raise CannotServe(f"{file.name} is gone from the store ({status}); train the model again, or name another")
    if status == 416:
        part.unlink()
    raise NotNow(f"the store answered {status} for {file.name}")


def checked_name(name: str) -> PurePosixPath:
    """A file's name as a path that stays below the model's folder. Raises CannotServe."""
    path = PurePosixPath(name)
    bad = not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    if bad or name == COMPLETE_FILE:
        raise CannotServe(f"the model has a file called {name!r}, which is no name below a folder")
    return path


def safe_name(key: str) -> str:
    """A folder's name for a key: readable, and never that of another key."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", key).strip(".")[:80]
    return readable if readable == key else f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _last_use(folder: Path) -> float:
    for path in (folder / COMPLETE_FILE, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


# ---- server processes ----------------------------------------------------------------------------------------------


class Server:
    """A server process on one model, leader of a session of its own."""

    def __init__(self, options: Options, place: int, wanted: Wanted, model: Path, adapters: Path | None) -> None:
        self.wanted = wanted
        self.model = model
        self.adapters = adapters
        self.ready = False
        self.facts: dict[str, Any] = {}
        self.ready_at = 0.0
        self._looked_at = self._well_at = 0.0
        self.port = free_port(options.first_port)
        self.address = f"http://{options.advertise}:{self.port}"
        self._options = options
        self._local = "127.0.0.1" if options.listen in {"0.0.0.0", "::"} else options.listen
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._scratch = Path(tempfile.mkdtemp(prefix="model-server-"))
        arguments = list(wanted.arguments)
        if adapters is not None:
            arguments += ["--lora-adapters", f"{wanted.name}={adapters}"]
        if options.kind == "tgi" and len(wanted.devices) > 1:
            arguments += ["--num-shard", str(len(wanted.devices))]
        values = {
            "{model}": str(model),
            "{host}": options.listen,
            "{port}": str(self.port),
            "{name}": wanted.name,
            "{place}": str(place),
        }
        try:
            self.process = subprocess.Popen(
                fill_in(options.command, values, arguments),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise CannotServe(
                f"the server's program {options.command[0]!r} cannot be started ({error.strerror}); correct --command"
            ) from None
        self._pid_file = options.cache / "pids" / f"{self.process.pid}.pid"
        self._pid_file.write_text(f"{self.process.pid} {started_at(self.process.pid)}\n")
        assert self.process.stdout is not None
        self._pump = threading.Thread(target=self._pass_on, args=(self.process.stdout, place), daemon=True)
        self._pump.start()
        say("server_started", place=place, pid=self.process.pid, port=self.port, serving=wanted.id)

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        if self.wanted.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, self.wanted.devices))
        if self._options.kind == "tgi":
            # By variables, since not every release has an option for each of them.
            environment.update(
                USAGE_STATS="off",
                MASTER_PORT=str(free_port(0)),
                PROMETHEUS_PORT=str(free_port(0)),
                SHARD_UDS_PATH=str(self._scratch / "shard"),
            )
        environment[_LOG_CONTEXT] = json.dumps({"serving": self.wanted.id})
        return {**environment, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}

    def _pass_on(self, stream: IO[bytes], place: int) -> None:
        """The server's own log goes where ours goes: its JSON lines as they are, others in one of ours that says whose they are.
        Its end is kept until it serves: then there may be people's texts in it."""
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                if text.startswith("{") and text.endswith("}"):
                    sys.stderr.write(text + "\n")
                else:
                    say("server_output", place=place, serving=self.wanted.id, line=text)
                if not self.ready:
                    self._tail.append(text)

    def alive(self) -> bool:
        return self.process.poll() is None

    def healthy(self) -> bool:
        try:
            with _direct.open(f"http://{self._local}:{self.port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def became_ready(self) -> None:
        self.ready, self.ready_at = True, time.monotonic()
        self._looked_at = self._well_at = self.ready_at
        self._tail.clear()
        with suppress(OSError, http.client.HTTPException, ValueError):
            with _direct.open(f"http://{self._local}:{self.port}/info", timeout=10) as response:
                told = json.load(response)
            if isinstance(told, dict):
                self.facts = facts_of(told)

    def hangs(self) -> bool:
        """Whether it runs, but was not healthy for longer than a server may. Looks now and then, however often it is asked."""
        seconds = self._options.hung_seconds
        if time.monotonic() - self._looked_at < min(_WATCH_SECONDS, seconds / 4):
            return False
        is_well = self.healthy()
        self._looked_at = time.monotonic()
        if is_well:
            self._well_at = self._looked_at
        return self._looked_at - self._well_at > seconds

    def ending(self) -> str:
        """How the process ended, for people."""
        self._pump.join(1)
        status = self.process.poll()
        how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
        said = "\n".join(self._tail)
        return f"the server ended {how}" + (f"; it said last:\n{said[-1500:]}" if said else "")

    def stop(self, seconds: float) -> None:
        """SIGTERM to the server, which then answers what it has; after `seconds` SIGKILL to all of its session."""
        if self.alive():
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)
        with suppress(OSError):
            self._pid_file.unlink()
        say("server_ended", pid=self.process.pid, serving=self.wanted.id)


def fill_in(command: list[str], values: dict[str, str], arguments: list[str]) -> list[str]:
    """A command with its placeholders filled in; `{arguments}` stands alone and becomes any number of words."""
    filled: list[str] = []
    for word in command:
        if word == "{arguments}":
            filled += arguments
            continue
        filled.append(re.sub("|".join(map(re.escape, values)), lambda match: values[match[0]], word))
    return filled


def facts_of(info: dict[str, Any]) -> dict[str, Any]:
    """What the api is told of a server's `/info`."""
    facts: dict[str, Any] = {}
    for name, key in (("model", "model_id"), ("version", "version"), ("dtype", "model_dtype")):
        if isinstance(info.get(key), str):
            facts[name] = info[key][: 300 if name == "model" else 100]
    for name, key in (("maximum_input_tokens", "max_input_tokens"), ("maximum_total_tokens", "max_total_tokens")):
        if isinstance(info.get(key), int):
            facts[name] = info[key]
    return facts


def free_port(first: int) -> int:
    """A TCP port that nobody listens on: one of the 200 from `first` on, each in its turn, or any.

    In turn, because a server takes its port late, and because whoever still knows the address of a server that was replaced must
    not find another model there.
    """
    for _ in range(_PORTS if first else 1):
        port = first + next(_turns) % _PORTS if first else 0
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("", port))
                return int(probe.getsockname()[1])
    raise CannotServe(f"no port of {first} to {first + _PORTS - 1} is free")


def started_at(pid: int) -> int:
    """When a process started, in the kernel's ticks: tells it from a later one with its number. 0 where that is not known."""
    return _stat_of(pid)[1]


def _stat_of(pid: int) -> tuple[int, int]:
    """Session and start of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[3]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0, 0


def end_leftovers(folder: Path, seconds: float) -> None:
    """End servers that an earlier launcher left running: those of the sessions in its pid files."""
    for pid_file in sorted(folder.glob("*.pid")):
        with suppress(OSError, ValueError):
            leader, started = (int(part) for part in pid_file.read_text().split())
            members = _session_members(leader, started)
            if leader in members:
                os.kill(leader, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while leader in _session_members(leader, started) and time.monotonic() < deadline:
                time.sleep(0.1)
            for pid in _session_members(leader, started):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if members:
                say("leftover_ended", pid=leader)
        with suppress(OSError):
            pid_file.unlink()


def _session_members(leader: int, started: int) -> list[int]:
    """Processes of the session that `leader` began; none where its number belongs to another by now."""
    session, start = _stat_of(leader)
    if not started or (session and start != started):
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            session, start = _stat_of(int(entry.name))
            if session == leader and start >= started and not _is_zombie(int(entry.name)):
                found.append(int(entry.name))
    return found


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


# ---- a place -------------------------------------------------------------------------------------------------------


class Place:
    """One place: a thread that brings about what is wanted of it. `said` is what the next report tells."""

    def __init__(self, number: int, options: Options, cache: Cache, hurry: threading.Event) -> None:
        self.number = number
        self._options = options
        self._cache = cache
        self._hurry = hurry
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._wanted: Wanted | None = None
        self._stopping = False
        self._current: Server | None = None
        self._goal: str | None = None
        """What is being brought about; while something else is wanted, that is broken off."""
        self._refused: set[str] = set()
        """What could not be served, until the api has heard of it and wants something else."""
        self._crashed: str | None = None
        self._crashes = 0
        self._heard: tuple[str | None, float] = (None, 0.0)
        """What the api was last told to serve here, and when."""
        self._state: dict[str, Any] = {"state": "empty", "about": None, "detail": ""}
        self._thread = threading.Thread(target=self._run, name=f"place-{number}")

    # Called by the launcher's main thread.

    def start(self) -> None:
        self._thread.start()

    def want(self, wanted: Wanted | None) -> None:
        with self._lock:
            if (self._wanted and self._wanted.id) != (wanted and wanted.id):
                self._news.set()
            self._wanted = wanted  # also the same again: its URLs are newer

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
        self._news.set()

    def join(self) -> None:
        self._thread.join()

    def said(self) -> dict[str, Any]:
        """What a report tells of this place."""
        with self._lock:
            current = self._current
            serves = current is not None and current.ready and current.alive()
            return {
                "place": self.number,
                **self._state,
                "serving": current.wanted.id if current is not None and serves else None,
                "address": current.address if current is not None and serves else None,
                "facts": current.facts if current is not None and serves else {},
            }

    def heard(self, said: dict[str, Any]) -> None:
        """The api has answered a report that said this."""
        with self._lock:
            if self._heard[0] != said["serving"]:
                self._heard = (said["serving"], time.monotonic())

    # In the place's own thread.

    def _run(self) -> None:
        while True:
            self._news.clear()
            with self._lock:
                wanted, stopping = self._wanted, self._stopping
            if stopping:
                self._end_current()
                self._tell("empty")
                return
            try:
                self._step(wanted)
            except Changed:
                continue
            except Exception as error:  # noqa: BLE001  whatever failed, the place goes on
                place = error.__traceback__
                while place is not None and place.tb_next is not None:
                    place = place.tb_next
                line = 0 if place is None else place.tb_lineno
                say("place_failed", place=self.number, error=f"{type(error).__name__} at line {line}")
                self._news.wait(1)
            self._news.wait(_LOOK_SECONDS)

    def _step(self, wanted: Wanted | None) -> None:
        """One look at what is and what is wanted."""
        current = self._current
        if current is not None and not current.alive():
            self._note_crash(current)
            current = None
        if wanted is None:
            self._end_current()
            self._refused.clear()
            self._crashed, self._crashes = None, 0
            self._tell("empty")
        elif current is not None and current.wanted.id == wanted.id:
            self._refused.clear()
            if current.hangs():
                self._note_crash(current, f"the server runs, but was not healthy for {self._options.hung_seconds:g} s")
                return
            if self._crashes and time.monotonic() - current.ready_at > self._options.steady_seconds:
                self._crashes = 0
            self._tell("ready", wanted)
        elif wanted.id not in self._refused:
            self._follow(wanted)

    def _follow(self, wanted: Wanted) -> None:
        """Serve what is wanted; where that cannot be, go on with what served before."""
        self._goal = wanted.id
        before = self._current
        if self._crashed == wanted.id and self._crashes:
            self._pause(min(_LONGEST_PAUSE_SECONDS, 2.0 ** (self._crashes - 1) / 2))
        try:
            server = self._make(wanted, ends_before=self._options.replace == "restart")
        except CannotServe as error:
            self._refuse(wanted, str(error))
            if before is not None and self._current is None:
                self._return_to(before)
            return
        self._take(server)
        self._tell("ready", wanted)
        if before is not None and before is not server:
            self._retire(before, server)

    def _make(self, wanted: Wanted, *, ends_before: bool) -> Server:
        """A healthy server on the wanted model. With `ends_before` what serves now ends once the model is here."""
        if wanted.problem is not None or wanted.model is None:
            raise CannotServe(wanted.problem or "the api names no model")
        model = self._obtain(wanted, "model")
        adapters = None if wanted.adapters is None else self._obtain(wanted, "adapters")
        if ends_before:
            self._end_current()
        self._tell("starting", wanted, "its server starts")
        return self._started(wanted, model, adapters)

    def _obtain(self, wanted: Wanted, part: str) -> Path:
        """Fetch the model or its adapters, again and again while what hinders passes."""
        tries = refusals = 0

        def source() -> Source:
            """As the api told it last: with URLs that are not stale."""
            with self._lock:
                newest = self._wanted
            found = getattr(newest if newest is not None and newest.id == wanted.id else wanted, part)
            assert isinstance(found, Source)
            return found

        def url_of(name: str) -> str:
            url = next((file.url for file in source().files or () if file.name == name), "")
            if not url:
                raise NotNow("the api is away, and nobody else says where the files are")
            return url

        def tell(detail: str) -> None:
            self._look_around()
            self._tell("fetching", wanted, detail, quietly=True)

        while True:
            tell("looks for the model")
            try:
                return self._cache.obtain(source(), url_of, tell)
            except NotNow as error:
                tries += 1
                refusals += "answered 401" in str(error) or "answered 403" in str(error)
                if refusals >= _REFUSALS:
                    raise CannotServe(f"{error}, again and again; look at what the store grants") from None
                self._tell("fetching", wanted, f"{error}; tried again")
                self._pause(min(_LONGEST_PAUSE_SECONDS, 2.0 ** (tries - 1) / 2))

    def _started(self, wanted: Wanted, model: Path, adapters: Path | None) -> Server:
        """Start a server and wait until it is healthy. Raises CannotServe, and Changed; then it was ended again."""
        server = Server(self._options, self.number, wanted, model, adapters)
        self._cache.use(server, 1)
        deadline = time.monotonic() + self._options.start_seconds
        try:
            while not server.healthy():
                self._look_around()
                if not server.alive():
                    raise CannotServe(server.ending())
                if time.monotonic() > deadline:
                    raise CannotServe(f"the server was not healthy within {self._options.start_seconds:g} s")
                time.sleep(_HEALTH_SECONDS)
            if not server.alive():
                raise CannotServe(server.ending())
            server.became_ready()
        except BaseException:
            self._end(server)
            raise
        return server

    def _refuse(self, wanted: Wanted, why: str) -> None:
        """It cannot be served. One that has served before may do so again: that counts as another crash."""
        if self._crashed == wanted.id and self._crashes < self._options.crashes:
            self._crashes += 1
            self._tell("starting", wanted, f"{why}; started again ({self._crashes} of {self._options.crashes})")
            return
        say("cannot_serve", place=self.number, wanted=wanted.id, why=why)
        self._refused.add(wanted.id)
        self._crashed, self._crashes = None, 0
        self._tell("failed", wanted, why)

    def _return_to(self, before: Server) -> None:
        """Start again what served before, whatever the api says meanwhile of what could not be served."""
        self._goal = before.wanted.id
        try:
            self._take(self._started(before.wanted, before.model, before.adapters))
        except CannotServe as error:
            say("cannot_return", place=self.number, to=before.wanted.id, why=str(error))

    def _note_crash(self, server: Server, how: str = "") -> None:
        """`how`: of one that does not answer any more, and is ended here without waiting for what it has."""
        hung = bool(how)
        how = how or server.ending()
        self._end_current(min(_HUNG_STOP_SECONDS, self._options.stop_seconds) if hung else None)
        name = server.wanted.id
        if self._crashed != name or time.monotonic() - server.ready_at > self._options.steady_seconds:
            self._crashed, self._crashes = name, 0
        self._crashes += 1
        say("server_crashed", place=self.number, serving=name, how=how, crashes=self._crashes)
        with self._lock:
            wanted = self._wanted
        if wanted is None or wanted.id != name:
            return
        if self._crashes > self._options.crashes:
            self._refused.add(name)
            self._tell("failed", wanted, f"{how}; it ended {self._crashes} times in a row")
            self._crashed, self._crashes = None, 0
        else:
            self._tell("starting", wanted, f"{how}; started again ({self._crashes} of {self._options.crashes})")

    def _retire(self, old: Server, new: Server) -> None:
        """End the server before, once the api has heard of the new one and those who were sent to the old one have arrived."""
        while True:
            with self._lock:
                heard, at = self._heard
                moved = self._stopping or self._wanted is None or self._wanted.id != new.wanted.id
            if moved or not new.alive() or (heard == new.wanted.id and time.monotonic() - at > 1.0):
                break
            self._news.wait(_LOOK_SECONDS)
            self._news.clear()
        self._end(old)

    def _take(self, server: Server) -> None:
        with self._lock:
            self._current = server

    def _end_current(self, seconds: float | None = None) -> None:
        with self._lock:
            server, self._current = self._current, None
        if server is not None:
            self._hurry.set()
            self._end(server, seconds)

    def _end(self, server: Server, seconds: float | None = None) -> None:
        server.stop(self._options.stop_seconds if seconds is None else seconds)
        self._cache.use(server, -1)

    def _look_around(self) -> None:
        """Raises Changed where what is being brought about is wanted no more."""
        with self._lock:
            wanted, stopping = self._wanted, self._stopping
        if stopping or wanted is None or (wanted.id != self._goal and wanted.id not in self._refused):
            raise Changed

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._look_around()
            self._news.wait(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
            self._news.clear()

    def _tell(self, state: str, wanted: Wanted | None = None, detail: str = "", *, quietly: bool = False) -> None:
        told = {
            "state": state,
            "about": None if wanted is None else wanted.id,
            "detail": detail[:_DETAIL_CHARACTERS],
        }
        with self._lock:
            changed = told["state"] != self._state["state"] or told["about"] != self._state["about"]
            self._state = told
        if changed and not quietly:
            self._hurry.set()


# ---- the launcher --------------------------------------------------------------------------------------------------


class Launcher:
    """Reports for all places, and hands on what is wanted of them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._api = Api(options)
        self._hurry = threading.Event()
        cache = Cache(options.cache, options.cache_bytes, self._api, options.models_folder)
        self.places = [Place(number, options, cache, self._hurry) for number in range(options.places)]
        self._state_file = options.cache / STATE_FILE
        self._written = ""
        self._ending = threading.Event()
        self._answered_at: float | None = None
        self._report_seconds = 2.0
        self._give_up_seconds = 0.0
        self._trouble = ""

    def end(self, *_: object) -> None:
        """As a handler of signals: leave."""
        self._ending.set()
        self._hurry.set()

    def run(self) -> None:
        for place in self.places:
            place.start()
        if not self._report() and not self._options.gpus_per_place:
            self._want_what_was_wanted()
        while not self._ending.is_set():
            self._hurry.wait(self._report_seconds)
            if self._hurry.is_set():
                time.sleep(0.05)  # so that what happens together is told together
            self._hurry.clear()
            if not self._ending.is_set():
                self._report()
            self._give_gpus_up()
            self._show_life()
        say("launcher_leaves")
        self._report(leaving=True)  # nobody is sent here any more
        for place in self.places:
            place.stop()
        for place in self.places:
            place.join()
        self._report(leaving=True)
        say("launcher_ended")

    def _show_life(self) -> None:
        """Touch the file that a health check looks at. An api that is away is no fault of this process."""
        if self._options.health_file is not None:
            with suppress(OSError):
                self._options.health_file.touch()

    def _report(self, *, leaving: bool = False) -> bool:
        said = [place.said() for place in self.places]
        body = {
            "kind": self._options.kind,
            "host": self._options.host,
            "gpus_per_place": self._options.gpus_per_place,
            "devices": list(self._options.devices),
            "leaving": leaving,
            "places": said,
        }
        try:
            answer = self._api.report(body, 3.0 if leaving else _REPORT_TIMEOUT_SECONDS)
            if not leaving:
                self._take(answer, said)
        except NotNow as error:
            self._note_trouble(str(error))
            return False
        except (KeyError, TypeError, ValueError) as error:
            self._note_trouble(f"the api's answer has another form ({type(error).__name__}): use the same release")
            return False
        self._note_trouble("")
        return True

    def _take(self, answer: dict[str, Any], said: list[dict[str, Any]]) -> None:
        wanted = {int(item["place"]): item.get("wanted") for item in answer["places"]}
        read = {number: None if told is None else read_wanted(told) for number, told in wanted.items()}
        self._report_seconds = min(60.0, max(0.1, float(answer["report_seconds"])))
        self._give_up_seconds = float(answer["give_up_seconds"])
        self._answered_at = time.monotonic()
        for place, told in zip(self.places, said):  # noqa: B905  Python 3.9 has no strict
            place.heard(told)
            place.want(read.get(place.number))
        self._remember(wanted)

    def _remember(self, wanted: dict[int, Any]) -> None:
        text = json.dumps({str(number): without_urls(told) for number, told in wanted.items()}, sort_keys=True)
        if text == self._written:
            return
        scratch = self._state_file.with_suffix(".new")
        try:
            scratch.write_text(text)
            scratch.replace(self._state_file)
            self._written = text
        except OSError as error:
            say("state_not_kept", error=error.strerror)

    def _want_what_was_wanted(self) -> None:
        """The api is away: serve from the cache what was wanted last."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(self._state_file.read_text())
            for place in self.places:
                kept = told.get(str(place.number))
                place.want(None if kept is None else read_wanted(kept))
            say("goes_on_as_before")

    def _give_gpus_up(self) -> None:
        """Without an answer others may soon be given the GPUs: end what uses them before."""
        if not self._options.gpus_per_place or self._answered_at is None:
            return
        if time.monotonic() - self._answered_at > self._give_up_seconds:
            say("gpus_given_up", seconds=round(self._give_up_seconds))
            self._answered_at = None
            for place in self.places:
                place.want(None)

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            say("api_answers" if not trouble else "api_trouble", **({"why": trouble} if trouble else {}))


def main(arguments: list[str] | None = None) -> int:
    options = parse_options(arguments)
    try:
        (options.cache / "pids").mkdir(parents=True, exist_ok=True)
        lock = (options.cache / "lock").open("a+")
    except OSError as error:
        sys.exit(f"--cache {options.cache} cannot be used: {error.strerror}; give a folder that can be written")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another launcher runs over --cache {options.cache}; give each a folder of its own")
        end_leftovers(options.cache / "pids", options.stop_seconds)
        launcher = Launcher(options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, launcher.end)
        say("launcher_started", name=options.name, kind=options.kind, places=options.places, devices=options.devices)
        launcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
