import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from services.training.registration.hub import check_hub, push_model
from shared.domain.errors import InputRefused, StepFailed
from shared.domain.training import TrainParameters

TOKEN = "hf_" + "a" * 34


def parameters(repository: str | None) -> TrainParameters:
    return TrainParameters(method="sft", base={"random": "tiny-mistral"}, push_to_hub=repository)  # type: ignore[arg-type]


class HubStandIn(ThreadingHTTPServer):
    """The few routes of the Hub that a push of small files needs; it remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubStandIn

    def do_GET(self) -> None:
        self.answer({"id": "owner/model", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.refuses:
            self.answer({"error": "You may not write here"}, 403)
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/owner/model", "name": "owner/model"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            kept = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer({"files": kept})
        elif self.path.endswith("/commit/main"):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            address = f"{self.server.address}/owner/model/commit/{'1' * 40}"
            self.answer({"commitUrl": address, "commitOid": "1" * 40, "hookOutput": ""})
        else:
            self.answer({"error": self.path}, 404)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    server = HubStandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n# card\n")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_model_is_pushed_to_a_private_repository_with_the_token(hub: HubStandIn, model: Path) -> None:
    push = push_model(model, "owner/model", message="step 10", api=HfApi(endpoint=hub.address, token=TOKEN))
    assert push.problem is None
    assert push.address is not None
    assert push.address.endswith("/commit/" + "1" * 40)
    (created,) = hub.created
    assert created["name"] == "model"
    assert created["organization"] == "owner"
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.files["config.json"] == b"{}"
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_what_the_hub_says_against_it_is_told_and_the_model_is_not_lost(hub: HubStandIn, model: Path) -> None:
    hub.refuses = True
    push = push_model(model, "owner/model", message="x", api=HfApi(endpoint=hub.address, token=TOKEN))
    assert push.address is None
    assert push.problem is not None
    assert "owner/model" in push.problem
    assert TOKEN not in push.problem


def test_a_folder_with_a_pickle_is_never_pushed(hub: HubStandIn, model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(StepFailed):
        push_model(model, "owner/model", message="x", api=HfApi(endpoint=hub.address, token=TOKEN))
    assert not hub.created


@pytest.mark.parametrize(
    ("repository", "environment", "told"),
    [
        ("owner/model", {}, "HF_TOKEN"),
        ("owner/model", {"HF_TOKEN": ""}, "HF_TOKEN"),
        ("model", {"HF_TOKEN": TOKEN}, "owner/name"),
        ("https://huggingface.co/owner/model", {"HF_TOKEN": TOKEN}, "owner/name"),
        ("owner/../model", {"HF_TOKEN": TOKEN}, "owner/name"),
        ("owner/mo--del", {"HF_TOKEN": TOKEN}, "owner/name"),
        ("owner/model", {"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
    ],
)
def test_a_push_that_could_not_happen_is_refused_before_training(
    repository: str, environment: dict[str, str], told: str
) -> None:
    with pytest.raises(InputRefused, match=told) as caught:
        check_hub(parameters(repository), environment, "/train/0/push_to_hub")
    assert caught.value.pointer == "/train/0/push_to_hub"


def test_nothing_is_asked_where_nothing_is_pushed() -> None:
    check_hub(parameters(None), {})
    check_hub(parameters("owner/model"), {"HF_TOKEN": TOKEN})
