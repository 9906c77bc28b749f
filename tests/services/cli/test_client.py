"""What the commands tell when the api does not do what they asked."""

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.cli.client import ApiClient, Unreachable
from shared.domain.errors import MultifacetError
from tests.support.servers import free_port

CONTENT = b"what was made"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/proxy":
            self.send_response(502)
            body = b"<html>Bad gateway</html>"
        else:
            self.send_response(200)
            body = CONTENT
        self.send_header("Content-Length", str(len(body) + (10 if self.path == "/cut" else 0)))
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


def test_an_absent_api_is_named_with_what_to_set() -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"127.0.0.1:{port} gave no answer.*MULTIFACET_URL"):
        ApiClient(f"http://127.0.0.1:{port}").get("/v1/jobs")
