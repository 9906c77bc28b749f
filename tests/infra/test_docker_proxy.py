"""The proxy before the engine's socket, as HAProxy runs it: a list and a start get through, nothing else does."""

import http.client
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.compose_file import ROOT
from tests.support.servers import free_port

RULES = ROOT / "infra" / "docker" / "docker-proxy.cfg"
ID = "4c01db0b339c0f5b2f7e2c4a94ab5cb5d6f4d1be"

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None,
    reason="HAProxy is not installed (Debian package haproxy); tests/compose tries the rules too",
)


class Engine(socketserver.ThreadingUnixStreamServer):
    """Stands in for a Docker engine: answers everything with 200 and remembers what it was asked."""

    daemon_threads = True
    asked: list[str]


class _Answer(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        if self.path != "/_ping":
            assert isinstance(self.server, Engine)
            self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"[]")


for _method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"):
    setattr(_Answer, f"do_{_method}", _Answer.answer)


class Proxy:
    def __init__(self, port: int, engine: Engine, server: threading.Thread) -> None:
        self.port, self.engine, self.server = port, engine, server

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_host=False, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = Path(tmp_path_factory.mktemp("proxy"))
    path = folder / "engine.sock"
    engine = Engine(str(path), _Answer)
    engine.asked = []
    server = threading.Thread(target=engine.serve_forever)
    server.start()
    port = free_port()
    rules = RULES.read_text()
    assert rules.count("bind :2375") == rules.count("unix@/var/run/docker.sock") == 1
    changed = folder / "docker-proxy.cfg"
    changed.write_text(rules.replace("bind :2375", f"bind 127.0.0.1:{port}").replace("/var/run/docker.sock", str(path)))
    process = subprocess.Popen(
        ["haproxy", "-W", "-db", "-f", changed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "HAProxy did not start"
                time.sleep(0.05)
        yield Proxy(port, engine, server)
    finally:
        process.terminate()
        process.wait(30)
        engine.shutdown()
        server.join()
        engine.server_close()


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/containers/json"),
        ("GET", "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22multifacet.roles%22%5D%7D"),
        ("GET", "/v1.24/containers/json"),
        ("GET", "/v1.51/containers/json?all=true"),
        ("POST", f"/containers/{ID}/start"),
        ("POST", f"/v1.41/containers/{ID}/start"),
        ("POST", "/containers/multifacet-generation-1/start"),
    ],
)
def test_a_list_and_a_start_get_through(proxy: Proxy, method: str, target: str) -> None:
    proxy.engine.asked.clear()
    assert proxy.ask(method, target, b"" if method == "POST" else None) == 200
    assert proxy.engine.asked == [f"{method} {target}"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/containers/create"),
        ("POST", "/containers/create?name=start"),
        ("POST", f"/containers/{ID}/stop"),
        ("POST", f"/containers/{ID}/kill"),
        ("POST", f"/containers/{ID}/restart"),
        ("POST", f"/containers/{ID}/exec"),
        ("POST", f"/containers/{ID}/update"),
        ("POST", f"/containers/{ID}/start/"),
        ("POST", f"/containers/{ID}/start/../stop"),
        ("POST", f"/containers/{ID}/stop?x=/start"),
        ("POST", f"/containers/{ID}/stop#/start"),
        ("POST", "/containers/../images/load/start"),
        ("POST", "/exec/../containers/json"),
        ("POST", f"/containers/{ID}%2fstop%3f/start"),
        ("POST", f"//containers/{ID}/start"),
        ("POST", f"/v1.23/containers/{ID}/start"),
        ("POST", f"/v1.9/containers/{ID}/start"),
        ("POST", f"/exec/{ID}/start"),
        ("DELETE", f"/containers/{ID}"),
        ("DELETE", f"/containers/{ID}/start"),
        ("PUT", f"/containers/{ID}/archive?path=/"),
        ("PUT", f"/containers/{ID}/start"),
        ("GET", f"/containers/{ID}/start"),
        ("GET", f"/containers/{ID}/json"),
        ("GET", f"/containers/{ID}/logs?stdout=1"),
        ("GET", f"/containers/{ID}/archive?path=/run/secrets"),
        ("GET", "/containers/json/../../images/json"),
        ("POST", "/containers/json"),
        ("HEAD", "/containers/json"),
        ("GET", "/images/json"),
        ("POST", "/images/create?fromImage=x"),
        ("POST", "/build"),
        ("GET", "/info"),
        ("GET", "/version"),
        ("GET", "/_ping"),
        ("GET", "/events"),
        ("GET", "/"),
        ("POST", "/volumes/create"),
        ("POST", "/session"),
        ("POST", "/grpc"),
    ],
)
def test_nothing_else_gets_to_the_engine(proxy: Proxy, method: str, target: str) -> None:
    proxy.engine.asked.clear()
    assert proxy.ask(method, target, b"" if method in {"POST", "PUT"} else None) in {400, 403}
    assert proxy.engine.asked == []


def test_a_start_with_a_body_is_refused_since_old_engines_take_rights_from_it(proxy: Proxy) -> None:
    proxy.engine.asked.clear()
    target = f"/containers/{ID}/start"
    assert proxy.ask("POST", target, b'{"Privileged":true}', content_type="application/json") == 403
    assert proxy.ask("POST", target, b"", transfer_encoding="chunked") in {400, 403}
    assert proxy.ask("POST", target, b"", connection="Upgrade", upgrade="tcp") == 403
    assert proxy.engine.asked == []


def test_the_health_check_tells_of_the_engine_behind(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/health") == 200
    proxy.engine.shutdown()
    proxy.engine.server_close()
    proxy.server.join()
    deadline = time.monotonic() + 60
    while proxy.ask("GET", "/health") != 503:
        assert time.monotonic() < deadline, "the proxy never noticed that the engine is gone"
        time.sleep(0.2)
