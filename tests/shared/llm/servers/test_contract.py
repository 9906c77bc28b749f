"""What every kind of server does alike behind its adapter, over real HTTP."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from shared.chat_template.conversation import Message
from shared.llm.servers.errors import InvalidRequest, ServerUnavailable
from shared.llm.servers.opening import Connections, open_server
from shared.llm.servers.protocol import (
    Generated,
    GenerationParameters,
    Grammar,
    ModelServer,
    Piece,
    ServerKind,
)
from tests.shared.llm.servers.conftest import Opener
from tests.support.reference import TGI_DESCRIPTION
from tests.support.stub_model_servers import StubModelServer, running_stub

MESSAGES: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Begin a tale."}]
SCHEMA = {"type": "object", "properties": {"a": {"const": None}}, "required": ["a"]}


async def whole(server: ModelServer, route: str, parameters: GenerationParameters) -> Generated:
    if route == "chat":
        return await server.chat(MESSAGES, parameters)
    return await server.generate("Begin a tale.", parameters)


async def pieces_of(server: ModelServer, route: str, parameters: GenerationParameters) -> list[Piece]:
    if route == "chat":
        return [piece async for piece in server.chat_stream(MESSAGES, parameters)]
    return [piece async for piece in server.generate_stream("Begin a tale.", parameters)]


@pytest.fixture(params=["generate", "chat"])
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("parameters", "text", "reason", "tokens"),
    [
        (GenerationParameters(), "Once upon a time", "stop", 5),
        (GenerationParameters(max_new_tokens=2), "Once upon", "length", 2),
        (GenerationParameters(stop=(" a", "never")), "Once upon", "stop", 3),
        (GenerationParameters(stop=("zebra", "time!")), "Once upon a time", "stop", 5),
    ],
    ids=["to the end", "to the limit", "to a stop text", "stop texts that do not come"],
)
async def test_an_answer_is_the_same_whole_and_streamed(
    server: ModelServer, route: str, parameters: GenerationParameters, text: str, reason: str, tokens: int
) -> None:
    answer = await whole(server, route, parameters)
    assert (answer.text, answer.finish_reason) == (text, reason)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, tokens)

    pieces = await pieces_of(server, route, parameters)
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == reason
    assert pieces[-1].usage == answer.usage


async def test_a_stream_comes_piece_by_piece(server: ModelServer, stub: StubModelServer, route: str) -> None:
    pieces = await pieces_of(server, route, GenerationParameters())
    assert [piece.text for piece in pieces if piece.text] == stub.tokens


async def test_a_text_that_could_have_become_a_stop_text_is_not_lost(server: ModelServer, route: str) -> None:
    pieces = await pieces_of(server, route, GenerationParameters(stop=(" time for", "upon b")))
    assert "".join(piece.text for piece in pieces) == "Once upon a time"


@pytest.mark.parametrize("text", ["é\u2028b", "\u2029", "a\u0085b", "\u20ac", "🦜", 'q"\\', "\x1e\x0c\r\n\t"])
async def test_every_character_comes_through(server: ModelServer, stub: StubModelServer, route: str, text: str) -> None:
    stub.tokens = [text, text]
    assert (await whole(server, route, GenerationParameters())).text == text + text
    pieces = await pieces_of(server, route, GenerationParameters())
    assert "".join(piece.text for piece in pieces) == text + text


async def test_greedy_is_said_to_every_server_in_its_words(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    for parameters in (GenerationParameters(), GenerationParameters(temperature=0, top_p=0.5, top_k=4)):
        await whole(server, route, parameters)
        if route == "generate" and kind is not ServerKind.OPENAI:
            sent = stub.body["parameters"]
            assert sent["do_sample"] is False
            assert "temperature" not in sent
        else:
            sent = stub.body
            assert sent["temperature"] == 0
        assert not {"top_p", "top_k"} & set(sent)


async def test_what_a_generation_is_asked_for_is_sent(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    parameters = GenerationParameters(
        max_new_tokens=3,
        temperature=0.7,
        top_p=0.9,
        repetition_penalty=1.03,
        frequency_penalty=0.5,
        seed=11,
        stop=("x",),
    )
    await whole(server, route, parameters)
    sent = stub.body.get("parameters", stub.body)
    assert (sent["temperature"], sent["top_p"], sent["frequency_penalty"]) == (0.7, 0.9, 0.5)
    assert (sent["seed"], sent["stop"]) == (11, ["x"])
    limit = "max_new_tokens" if route == "generate" and kind is not ServerKind.OPENAI else "max_tokens"
    assert sent[limit] == 3
    if kind is ServerKind.TGI and route == "chat":
        # TGI adds 2 to it and takes the sum as repetition penalty.
        assert sent["presence_penalty"] + 2 == pytest.approx(1.03)
        assert "repetition_penalty" not in sent
    else:
        assert sent["repetition_penalty"] == 1.03


async def test_values_that_change_nothing_are_not_sent(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    neutral = GenerationParameters(
        temperature=1.0, top_p=1.0, typical_p=1.0, repetition_penalty=1.0, frequency_penalty=0.0
    )
    await whole(server, route, neutral)
    sent = stub.body.get("parameters", stub.body)
    assert sent["temperature"] == 1.0
    assert not {"top_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty"} & set(sent)


async def test_every_cut_is_sent_where_the_route_has_it_and_refused_elsewhere(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    for name, value in (("top_k", 40), ("typical_p", 0.9)):
        parameters = GenerationParameters(**{name: value})
        known = (route == "generate" and kind is not ServerKind.OPENAI) or (
            kind is ServerKind.OPENAI and name == "top_k"
        )
        if known:
            await whole(server, route, parameters)
            assert stub.body.get("parameters", stub.body)[name] == value
        else:
            with pytest.raises(InvalidRequest, match=name):
                await whole(server, route, parameters)
            with pytest.raises(InvalidRequest, match=name):
                await pieces_of(server, route, parameters)


async def test_a_json_schema_is_sent_in_the_server_s_words(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    parameters = GenerationParameters(grammar=Grammar("json", SCHEMA))
    if kind is ServerKind.OPENAI and route == "generate":
        with pytest.raises(InvalidRequest, match="grammar"):
            await whole(server, route, parameters)
        return
    await whole(server, route, parameters)
    if kind is ServerKind.OPENAI:
        assert stub.body["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        }
        return
    sent = stub.body["response_format"] if route == "chat" else stub.body["parameters"]["grammar"]
    assert sent["type"] == ("json_object" if route == "chat" else "json")
    value = sent["value"]
    assert (json.loads(value) if isinstance(value, str) else value) == SCHEMA


async def test_a_regex_is_sent_to_servers_that_have_it(
    server: ModelServer, stub: StubModelServer, kind: ServerKind, route: str
) -> None:
    parameters = GenerationParameters(grammar=Grammar("regex", "[a-z]+"))
    if kind is ServerKind.OPENAI:
        with pytest.raises(InvalidRequest, match=r"grammar|regex"):
            await whole(server, route, parameters)
        return
    await whole(server, route, parameters)
    sent = stub.body["response_format"] if route == "chat" else stub.body["parameters"]["grammar"]
    assert sent == {"type": "regex", "value": "[a-z]+"}


async def test_tokens_come_with_their_log_probabilities_where_asked(
    server: ModelServer, stub: StubModelServer, route: str
) -> None:
    wanted = GenerationParameters(max_new_tokens=3, log_probabilities=True, top_tokens=2)
    answer = await whole(server, route, wanted)
    assert [token.text for token in answer.tokens] == stub.tokens[:3]
    assert {token.log_probability for token in answer.tokens} == {-0.5}
    assert [[one.text for one in token.top] for token in answer.tokens] == [["t0", "t1"]] * 3

    pieces = await pieces_of(server, route, wanted)
    assert [token for piece in pieces for token in piece.tokens] == list(answer.tokens)

    plain = await whole(server, route, GenerationParameters(max_new_tokens=3))
    assert plain.tokens == ()


async def test_prompt_tokens_are_told_by_generate_alone(server: ModelServer, kind: ServerKind) -> None:
    wanted = GenerationParameters(prompt_log_probabilities=True)
    if kind is ServerKind.OPENAI:
        with pytest.raises(InvalidRequest, match="prompt_log_probabilities"):
            await server.generate("x", wanted)
    else:
        answer = await server.generate("x", wanted)
        assert [(token.text, token.log_probability) for token in answer.prompt_tokens] == [
            ("<s>", None),
            ("Tell", -3.5),
        ]
    with pytest.raises(InvalidRequest, match="prompt_log_probabilities"):
        await server.chat(MESSAGES, wanted)
    with pytest.raises(InvalidRequest, match="prompt_log_probabilities"):
        await pieces_of(server, "generate", wanted)


async def test_the_model_and_an_adapter_are_named_in_the_server_s_way(
    stub: StubModelServer, opened: Opener, kind: ServerKind, route: str
) -> None:
    await whole(opened(stub), route, GenerationParameters())
    base = dict(stub.body)
    await whole(opened(stub, {"is_adapter": True, "model": "poet"}), route, GenerationParameters())
    if kind is ServerKind.OPENAI:
        assert (base["model"], stub.body["model"]) == ("tiny", "poet")
    elif route == "chat":
        assert (base["model"], stub.body["model"]) == ("tgi", "poet")
    else:
        assert "adapter_id" not in base["parameters"]
        assert stub.body["parameters"]["adapter_id"] == "poet"


async def test_messages_and_prompts_are_sent_as_they_are(server: ModelServer, stub: StubModelServer) -> None:
    await server.chat(MESSAGES, GenerationParameters())
    assert stub.body["messages"] == MESSAGES
    await server.generate(" as it\nstands\u2028", GenerationParameters())
    assert stub.body.get("inputs", stub.body.get("prompt")) == " as it\nstands\u2028"


async def test_the_key_is_sent_and_no_other(
    stub: StubModelServer, opened: Opener, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    await whole(opened(stub), route, GenerationParameters())
    assert "authorization" not in stub.calls[-1][2]
    await whole(opened(stub, {"api_key": "k-1"}), route, GenerationParameters())
    assert stub.calls[-1][2]["authorization"] == "Bearer k-1"


async def test_a_proxy_of_the_environment_is_not_used(
    stub: StubModelServer, opened: Opener, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await whole(opened(stub), route, GenerationParameters())).finish_reason == "stop"


async def test_connections_are_used_again(server: ModelServer, stub: StubModelServer, kind: ServerKind) -> None:
    for _ in range(3):
        await server.generate("x", GenerationParameters())
        await server.chat(MESSAGES, GenerationParameters())
        await pieces_of(server, "generate", GenerationParameters())
    if kind is not ServerKind.TGI:  # its client leaves the end of a chat stream unread
        await pieces_of(server, "chat", GenerationParameters())
        await pieces_of(server, "chat", GenerationParameters())
    assert len(stub.connections) == 1


async def test_only_the_cpu_server_scores(server: ModelServer, kind: ServerKind) -> None:
    if kind is ServerKind.CPU:
        assert await server.score([MESSAGES, MESSAGES[1:]]) == [2.0, 1.0]
    else:
        with pytest.raises(InvalidRequest, match="cpu server"):
            await server.score([MESSAGES])


async def test_a_server_tells_of_itself(server: ModelServer, kind: ServerKind) -> None:
    info = await server.info()
    if kind is ServerKind.OPENAI:
        assert (info.model, info.maximum_total_tokens) == ("tiny", 4096)
    else:
        assert (info.model, info.version) == ("/data/tiny", "3.3.7")
        assert (info.maximum_input_tokens, info.maximum_total_tokens) == (1023, 2048)


async def test_health_returns_or_says_unavailable(server: ModelServer, stub: StubModelServer) -> None:
    await server.health()
    stub.well = False
    with pytest.raises(ServerUnavailable):
        await server.health()


async def test_closing_a_stream_early_closes_the_connection(
    server: ModelServer, stub: StubModelServer, route: str
) -> None:
    stub.pause_seconds = 0.05
    stub.tokens = ["word"] * 200
    stream = (
        server.chat_stream(MESSAGES, GenerationParameters())
        if route == "chat"
        else server.generate_stream("x", GenerationParameters())
    )
    async with aclosing(stream) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            assert piece.text == "word"
            break
    await asyncio.wait_for(stub.gone.wait(), 5)


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelling_closes_the_connection(
    server: ModelServer, stub: StubModelServer, route: str, streamed: bool
) -> None:
    stub.pause_seconds = 30.0
    call = pieces_of if streamed else whole
    task = asyncio.create_task(call(server, route, GenerationParameters()))  # type: ignore[arg-type]
    while not stub.open:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(stub.gone.wait(), 5)


async def test_many_streams_run_at_once_and_apart(server: ModelServer, stub: StubModelServer, route: str) -> None:
    stub.tokens = [f" {number}" for number in range(50)]
    stub.pause_seconds = 0.001
    answers = await asyncio.gather(*(pieces_of(server, route, GenerationParameters()) for _ in range(20)))
    assert {"".join(piece.text for piece in pieces) for pieces in answers} == {"".join(stub.tokens)}
    assert stub.most_open > 1


async def test_one_set_of_connections_serves_all_kinds(connections: Connections) -> None:
    from shared.llm.servers.opening import CallPolicy

    for kind in ServerKind:
        async with running_stub(kind) as stub:
            server = open_server(stub.address(), CallPolicy(), connections)
            assert (await server.chat(MESSAGES, GenerationParameters())).text == "Once upon a time"
            await server.close()


async def test_a_server_cannot_be_opened_before_the_connections_are_started() -> None:
    from shared.llm.servers.opening import CallPolicy

    async with running_stub(ServerKind.TGI) as stub:
        with pytest.raises(RuntimeError, match="not started"):
            open_server(stub.address(), CallPolicy(), Connections())


def test_an_address_does_not_show_its_key() -> None:
    address = StubModelServer(ServerKind.OPENAI).address(base_url="http://h/v1", api_key="sk-secret")
    assert "sk-secret" not in repr(address) + str(address) + f"{address}"


@pytest.mark.skipif(
    not TGI_DESCRIPTION.exists(), reason="set MULTIFACET_REFERENCE_DATA to the folder with tgi/openapi.json"
)
@pytest.mark.parametrize("kind", [ServerKind.TGI, ServerKind.CPU], indirect=True)
async def test_the_stub_answers_as_tgi_s_api_description_has_it(stub: StubModelServer) -> None:
    from jsonschema import Draft202012Validator

    description = json.loads(TGI_DESCRIPTION.read_text(encoding="utf-8"))

    def check(value: Any, name: str) -> None:
        components = with_nulls(description["components"])
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components}).validate(value)

    plain = {"parameters": {"decoder_input_details": True, "top_n_tokens": 2, "stop": []}}
    check(stub.whole("/generate", plain), "GenerateResponse")
    for event in stub.events("/generate_stream", plain):
        check(json.loads(event[5:]), "StreamResponse")
    chat = {"logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}}
    check(stub.whole("/v1/chat/completions", chat), "ChatCompletion")
    for event in stub.events("/v1/chat/completions", chat)[:-1]:
        check(json.loads(event[5:]), "ChatCompletionChunk")


def with_nulls(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` as JSON Schema has it."""
    if isinstance(node, list):
        return [with_nulls(part) for part in node]
    if not isinstance(node, dict):
        return node
    made = {name: with_nulls(part) for name, part in node.items()}
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) is True else made
