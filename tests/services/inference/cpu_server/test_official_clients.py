"""The official clients against the server: `huggingface_hub` (TGI's routes) and `openai`."""

from typing import Any

import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import GenerationError, IncompleteGenerationError, OverloadedError, ValidationError

from tests.support.model_server import RunningServer
from tests.support.scripted_engine import ANSWER

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def hub(server: RunningServer) -> InferenceClient:
    return InferenceClient(server.url)


@pytest.fixture
def async_hub(server: RunningServer) -> AsyncInferenceClient:
    return AsyncInferenceClient(server.url)


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)


def test_hub_generates_text(hub: InferenceClient) -> None:
    assert hub.text_generation("Hello", return_full_text=False) == ANSWER


def test_hub_reads_details(hub: InferenceClient) -> None:
    answer = hub.text_generation(
        "Hello", details=True, decoder_input_details=True, top_n_tokens=2, max_new_tokens=3, do_sample=True, seed=5
    )
    assert answer.details is not None
    assert (answer.details.finish_reason, answer.details.generated_tokens, answer.details.seed) == ("length", 3, 5)
    assert [token.logprob for token in answer.details.tokens] == [-0.5, -0.625, -0.75]
    assert answer.details.prefill[0].text == "<s>"
    assert answer.details.top_tokens is not None
    assert len(answer.details.top_tokens[0]) == 2


def test_hub_reads_the_best_of_several(hub: InferenceClient) -> None:
    answer = hub.text_generation("Hello", best_of=2, do_sample=True, details=True)
    assert answer.details is not None
    assert answer.details.best_of_sequences is not None
    assert len(answer.details.best_of_sequences) == 1


def test_hub_asks_for_a_form(hub: InferenceClient, server: RunningServer) -> None:
    grammar: Any = {"type": "json", "value": {"properties": {"a": {"type": "integer"}}}}
    assert hub.text_generation("Hello", grammar=grammar, return_full_text=False) == '{"a": 1}'
    hub.chat_completion(
        MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},  # type: ignore[arg-type]
    )
    grammar_seen = server.engine.requests[-1].grammar
    assert grammar_seen is not None
    assert grammar_seen.value == {"type": "object"}


def test_hub_streams_text(hub: InferenceClient) -> None:
    assert "".join(hub.text_generation("Hello", stream=True, max_new_tokens=3)) == " one two three"
    *_, last = hub.text_generation("Hello", stream=True, details=True, max_new_tokens=3)
    assert last.details is not None
    assert (last.details.input_length, last.details.finish_reason) == (4, "length")


def test_hub_chats(hub: InferenceClient) -> None:
    answer = hub.chat_completion(MESSAGES, temperature=0, logprobs=True, top_logprobs=1)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content[0].logprob == -0.5
    pieces = list(hub.chat_completion(MESSAGES, temperature=0, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == ANSWER


async def test_async_hub_generates_and_streams(async_hub: AsyncInferenceClient) -> None:
    async with async_hub as hub:
        assert await hub.text_generation("Hello", return_full_text=False, max_new_tokens=2) == " one two"
        pieces = [piece async for piece in await hub.text_generation("Hello", stream=True, max_new_tokens=2)]
        assert pieces == [" one", " two"]
        chat = await hub.chat_completion(MESSAGES, temperature=0)
        assert chat.choices[0].message.content == ANSWER
        stream = await hub.chat_completion(MESSAGES, temperature=0, stream=True)
        assert "".join([piece.choices[0].delta.content or "" async for piece in stream]) == ANSWER


@pytest.mark.parametrize("stream", [False, True])
def test_hub_raises_its_own_errors(hub: InferenceClient, server: RunningServer, stream: bool) -> None:
    def run(**parameters: Any) -> None:
        answer: Any = hub.text_generation("Hello", stream=stream, **parameters)
        if stream:
            list(answer)

    with pytest.raises(ValidationError):
        run(top_p=1.0)
    server.engine.fail_after = 1
    with pytest.raises(GenerationError):
        run()
    server.engine.fail_after = None
    server.engine.vanish_after = 1
    with pytest.raises(IncompleteGenerationError):
        run()
    server.engine.full = True
    with pytest.raises(OverloadedError):
        run()


async def test_async_hub_raises_its_own_errors(async_hub: AsyncInferenceClient, server: RunningServer) -> None:
    async with async_hub as hub:
        with pytest.raises(ValidationError):
            await hub.text_generation("Hello", top_p=1.0)
        server.engine.fail_after = 1
        with pytest.raises(GenerationError):
            [piece async for piece in await hub.text_generation("Hello", stream=True)]


def test_openai_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tgi", messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=1
    )
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].logprob == -0.5
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 5


def test_openai_streams_a_chat_with_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tgi", messages=MESSAGES, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_openai_asks_for_a_form(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tgi",
        messages=MESSAGES,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    )
    assert answer.choices[0].message.content == '{"a": 1}'


def test_openai_completes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tgi", prompt=["a", "b"], temperature=0, max_tokens=2)
    assert [choice.text for choice in answer.choices] == [" one two", " one two"]
    chunks = list(client.completions.create(model="tgi", prompt="a", temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER


def test_openai_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]


@pytest.mark.parametrize("stream", [False, True])
def test_openai_raises_its_own_errors(client: openai.OpenAI, server: RunningServer, stream: bool) -> None:
    def run(**parameters: Any) -> None:
        answer: Any = client.chat.completions.create(model="tgi", messages=MESSAGES, stream=stream, **parameters)
        if stream:
            list(answer)

    with pytest.raises(openai.UnprocessableEntityError):
        run(top_p=1.0)
    server.engine.full = True
    with pytest.raises(openai.RateLimitError):
        run()
    server.engine.full = False
    server.engine.fail_after = 1
    with pytest.raises(openai.APIError) as failed:
        run()
    if stream:
        assert "out of memory" in failed.value.message
    else:
        assert getattr(failed.value, "status_code", None) == 424
