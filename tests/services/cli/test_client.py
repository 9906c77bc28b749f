"""What the commands tell when the api does not do what they asked."""

import json
import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.cli.client import ApiClient, Unreachable, job_path
from shared.domain.errors import MultifacetError
from tests.support.servers import free_port

CONTENT = b"what was made"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/page":
            self.send_response(200)
            body = b"<html>Welcome</html>"
        elif self.path == "/list":
            self.send_response(200)
            body = b"[1]"
        elif self.path == "/proxy":
            self.send_response(502)
            body = b"<html>Bad gateway</html>"
        elif self.path == "/authorization":
            self.send_response(200)
            body = self.headers["Authorization"].encode()
        else:
            self.send_response(200)
            body = CONTENT
        self.send_header("Content-Length", str(len(body) + (10 if self.path == "/cut" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Answer with what was sent."""
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        body = json.dumps({"sent": sent, "type": self.headers["Content-Type"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def client() -> Iterator[ApiClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ApiClient(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_appears_only_with_the_sha256_on_record(client: ApiClient, tmp_path: Path) -> None:
    good = tmp_path / "good" / "file"
    client.download("/file", good, sha256(CONTENT).hexdigest())
    assert good.read_bytes() == CONTENT
    with pytest.raises(MultifacetError, match="another sha256"):
        client.download("/file", tmp_path / "bad", sha256(b"other").hexdigest())
    assert list(tmp_path.iterdir()) == [tmp_path / "good"]


def test_a_download_that_breaks_off_leaves_no_file_of_that_name(client: ApiClient, tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        client.download("/cut", tmp_path / "file", sha256(CONTENT).hexdigest())
    assert not (tmp_path / "file").exists()


def test_an_answer_that_is_no_problem_document_is_shown_with_its_status(client: ApiClient) -> None:
    with pytest.raises(MultifacetError, match=r"502.*Bad gateway"):
        client.get("/proxy")


def test_the_key_may_lie_in_a_file(client: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("mf_of-a-file\n")
    monkeypatch.setenv("MULTIFACET_API_KEY_FILE", str(file))
    assert ApiClient(client.url).content("/authorization") == b"Bearer mf_of-a-file"
    file.unlink()
    with pytest.raises(MultifacetError, match=rf"MULTIFACET_API_KEY_FILE cannot be used: {file} cannot be read"):
        ApiClient(client.url)


def test_an_absent_api_is_named_with_what_to_set() -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"127.0.0.1:{port} gave no answer.*MULTIFACET_URL"):
        ApiClient(f"http://127.0.0.1:{port}").get("/v1/jobs")


@pytest.mark.parametrize("path", ["/page", "/list"])
def test_an_answer_of_something_else_is_told_with_its_address(client: ApiClient, path: str) -> None:
    with pytest.raises(
        MultifacetError, match=rf"{client.url} answered 200, but not as a Multifacet api.*MULTIFACET_URL"
    ):
        client.get(path)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"rate": float("nan")}, '{"rate": NaN}'),
        ({"name": "\ud800"}, '{"name": "\\ud800"}'),
        ({"name": "\ud83d\ude00"}, '{"name": "\\ud83d\\ude00"}'),
        ({}, "{}"),
    ],
)
def test_a_body_goes_out_as_it_is_and_the_api_judges_it(client: ApiClient, body: object, sent: str) -> None:
    assert client.post("/echo", body) == {"sent": sent, "type": "application/json"}


def test_a_body_that_holds_itself_is_told(client: ApiClient) -> None:
    body: list[object] = []
    body.append(body)
    with pytest.raises(MultifacetError, match="no form in JSON"):
        client.post("/echo", body)


def test_a_taxonomy_is_sent_as_it_is(client: ApiClient, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\n")
    assert client.upload_taxonomy(path) == {"sent": "name: own\n", "type": "application/yaml"}


@pytest.mark.parametrize("key", ["ключ", "mf_a\nb", "mf_\x07"])
def test_a_key_that_no_header_can_carry_is_told_and_not_repeated(key: str) -> None:
    with pytest.raises(MultifacetError, match="MULTIFACET_API_KEY") as told:
        ApiClient("http://127.0.0.1:1", key)
    assert key not in str(told.value)


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://h:port", "http://[bad"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(MultifacetError, match="MULTIFACET_URL"):
        ApiClient(url).get("/v1/jobs")


def test_a_folder_that_cannot_be_written_is_told(client: ApiClient, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MultifacetError, match="cannot be written"):
        client.download("/file", tmp_path / "out" / "file", sha256(CONTENT).hexdigest())


def test_what_was_typed_as_an_id_stays_one_part_of_the_path() -> None:
    assert job_path("job_1", "cancel") == "/v1/jobs/job_1/cancel"
    assert job_path("../keys?a#b") == "/v1/jobs/..%2Fkeys%3Fa%23b"
    assert job_path(os.fsdecode(b"\xff")) == "/v1/jobs/%FF"
