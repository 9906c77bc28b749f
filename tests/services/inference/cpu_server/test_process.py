"""The whole server as a process, on tiny random models, against transformers itself and with the official clients."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest
import torch
from huggingface_hub import InferenceClient
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from shared.chat_template import ConversationTokenizer
from tests.services.inference.cpu_server.events import events_of
from tests.support.model_folders import adapter_folder, language_model_folder, reward_model_folder
from tests.support.model_process import ROOT, ModelProcess, model_process

pytestmark = pytest.mark.slow

QUESTION: Any = [{"role": "user", "content": "Write about the sea."}]
# A random model would end when it likes; the grammar says when.
LONG: dict[str, Any] = {
    "inputs": "Hello",
    "parameters": {"max_new_tokens": 300, "details": True, "grammar": {"type": "regex", "value": "[a-z]{2000}"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model_folder(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelProcess]:
    adapter = adapter_folder(tmp_path_factory.mktemp("adapter"))
    options = (
        "--served-name",
        "tiny",
        "--max-total-tokens",
        "512",
        "--lora-adapters",
        f"bold={adapter}",
        "--slots",
        "4",
    )
    with model_process(folder, *options) as running:
        yield running


def _greedy(folder: Path, prompt_ids: list[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    made = model.generate(torch.tensor([prompt_ids]), max_new_tokens=count, do_sample=False)
    return list(made[0, len(prompt_ids) :].tolist())


def test_a_greedy_answer_is_that_of_transformers(server: ModelProcess, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parameters = {"max_new_tokens": 12, "details": True}
    details = server.post("/generate", {"inputs": "The sea", "parameters": parameters}).json()["details"]
    expected = _greedy(folder, tokenizer("The sea")["input_ids"], 12)
    assert [token["id"] for token in details["tokens"]] == expected


def test_a_chat_is_continued_from_the_tokens_that_training_has(server: ModelProcess, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-").chat.completions.create(
        model="tiny", messages=QUESTION, temperature=0, max_tokens=8
    )
    prompt = ConversationTokenizer(tokenizer).prompt(QUESTION).ids
    expected = tokenizer.decode(_greedy(folder, prompt, 8), skip_special_tokens=True)
    assert answer.choices[0].message.content == expected
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt)


def test_a_stream_is_the_answer_in_pieces_and_its_last_event_tells_the_end(server: ModelProcess) -> None:
    body = {"inputs": "The sea", "parameters": {"max_new_tokens": 9, "details": True, "do_sample": True, "seed": 11}}
    whole = server.post("/generate", body).json()
    events = events_of(server.post("/generate_stream", body))
    assert [event["token"] for event in events] == whole["details"]["tokens"]
    assert [event["details"] is None for event in events[:-1]] == [True] * (len(events) - 1)
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert events[-1]["details"]["seed"] == 11


def test_clients_at_once_get_what_each_would_get_alone(server: ModelProcess) -> None:
    def ask(seed: int) -> str:
        client = InferenceClient(server.url)
        answer: str = client.text_generation(f"Number {seed}", max_new_tokens=20, do_sample=True, seed=seed)
        return answer

    alone = [ask(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == alone


def test_a_form_that_is_asked_for_is_kept(server: ModelProcess) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["calm", "wild"]}, "waves": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["kind", "waves"],
        "additionalProperties": False,
    }
    answer = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-").chat.completions.create(
        model="tgi",
        messages=QUESTION,
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "sea", "schema": schema}},
    )
    value = orjson.loads(answer.choices[0].message.content or "")
    assert value["kind"] in ("calm", "wild")
    assert 1 <= value["waves"] <= 9
    refused = server.post("/generate", {"inputs": "a", "parameters": {"grammar": {"type": "regex", "value": "("}}})
    assert refused.status_code == 422


def test_an_adapter_answers_under_its_name(server: ModelProcess) -> None:
    def tokens(**parameters: Any) -> list[int]:
        body = {"inputs": "The sea", "parameters": {"max_new_tokens": 12, "details": True, **parameters}}
        return [token["id"] for token in server.post("/generate", body).json()["details"]["tokens"]]

    assert tokens(adapter_id="bold") != tokens()
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["tiny", "bold"]


def test_a_client_that_leaves_frees_its_slot(server: ModelProcess) -> None:
    def cancelled() -> int:
        [line] = [
            line for line in server.get("/metrics").text.splitlines() if line.startswith("multifacet_engine_cancelled")
        ]
        return int(line.split()[-1])

    before = cancelled()
    with httpx2.stream("POST", f"{server.url}/generate_stream", json=LONG, timeout=60) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + 30
    while cancelled() == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_prompts_and_answers_are_in_no_log(server: ModelProcess) -> None:
    body = {"inputs": "squeamish ossifrage", "parameters": {"grammar": {"type": "regex", "value": "magic words"}}}
    assert server.post("/generate", body).json() == {"generated_text": "magic words"}
    server.post("/generate", {"inputs": "squeamish ossifrage", "parameters": {"top_k": 0}})
    server.post("/v1/chat/completions", {"messages": [{"role": "squeamish", "content": "ossifrage"}]})
    said = "".join(server.lines)
    for word in ("squeamish", "ossifrage", "magic"):
        assert word not in said


@pytest.mark.long
def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    folder = reward_model_folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    replies = ["It is calm.", "It is wild, and cold in the morning."]
    [encoded] = ConversationTokenizer(tokenizer).encode([(QUESTION, replies)])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        expected = [model(torch.tensor([reply.prompt_ids + reply.reply_ids])).logits.item() for reply in encoded]
    with model_process(folder) as server:
        conversations = [[*QUESTION, {"role": "assistant", "content": reply}] for reply in replies]
        scores = server.post("/score", {"conversations": conversations}).json()["scores"]
        assert server.post("/generate", {"inputs": "Hello"}).status_code == 422
    assert scores == pytest.approx(expected, abs=1e-4)


def test_sigterm_lets_answers_end_and_takes_no_others(folder: Path) -> None:
    with model_process(folder) as server:
        with httpx2.stream("POST", f"{server.url}/generate_stream", json=LONG, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20
            while server.get("/health").status_code != 503:
                assert time.monotonic() < deadline
            assert server.post("/generate", {"inputs": "Hello"}).json()["error_type"] == "healthcheck"
            *_, last = [line for line in lines if line.startswith("data:")]
        assert orjson.loads(last.removeprefix("data: "))["details"]["generated_tokens"] == 300
        assert server.process.wait(20) == 0


@pytest.mark.long
def test_answers_that_outlast_the_grace_are_told_that_they_are_incomplete(folder: Path) -> None:
    with model_process(folder, "--graceful-termination-timeout", "0") as server:
        with httpx2.stream("POST", f"{server.url}/generate_stream", json=LONG, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            *_, last = [line for line in lines if line.startswith("data:")]
        assert orjson.loads(last.removeprefix("data: "))["error_type"] == "incomplete_generation"
        assert server.process.wait(20) == 0


def test_a_model_that_cannot_be_loaded_ends_the_process_in_one_line(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = orjson.loads((tmp_path / "config.json").read_bytes())
    config["architectures"] = ["MistralForTokenClassification"]
    (tmp_path / "config.json").write_bytes(orjson.dumps(config))
    with model_process(tmp_path, wait=False) as server:
        assert server.process.wait(100) == 1
    assert "MistralForTokenClassification" in server.lines[-1]
    assert not any("Traceback" in line for line in server.lines)


@pytest.mark.parametrize("case", ["folder", "port"])
def test_what_cannot_be_served_is_told_in_one_line_with_what_to_set(folder: Path, tmp_path: Path, case: str) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if case == "port" else 0
        served = folder if case == "port" else tmp_path
        ended = subprocess.run(
            [sys.executable, "-m", "services.inference.cpu_server", "--model-id", str(served), "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert ("config.json" if case == "folder" else f"--port {port}") in ended.stderr
