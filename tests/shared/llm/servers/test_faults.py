"""What goes wrong at a server, and how every adapter tells it: over real HTTP."""

import asyncio
import json
import logging
from typing import Any

import pytest

from shared.llm.servers.errors import (
    GenerationFailed,
    GenerationIncomplete,
    InvalidRequest,
    ModelServerError,
    Overloaded,
    PromptTooLong,
    ServerTimedOut,
    ServerUnavailable,
    Unauthorized,
)
from shared.llm.servers.opening import CallPolicy, Connections, open_server
from shared.llm.servers.protocol import GenerationParameters, ModelServer, ServerKind
from tests.shared.llm.servers.conftest import POLICY, Opener
from tests.shared.llm.servers.test_calls import collect_into
from tests.shared.llm.servers.test_contract import MESSAGES, pieces_of, whole
from tests.support.servers import free_port
from tests.support.stub_model_servers import (
    Fault,
    StubModelServer,
    breaks_whole,
    cut_after,
    endless,
    error_event_after,
    replies,
    silent_after,
    streams,
)

TGI_TOO_LONG = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 100 "
    "`max_new_tokens`"
)
VLLM_TOO_LONG = (
    "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (2000 in the messages, 100 in "
    "the completion). Please reduce the length of the messages or completion."
)


@pytest.fixture(params=["generate", "chat"])
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def both(stub: StubModelServer, server: ModelServer, route: str, fault: Fault) -> list[ModelServerError]:
    """The error of a whole and of a streamed call."""
    errors = []
    for call in (whole, pieces_of):
        stub.faults.append(fault)
        with pytest.raises(ModelServerError) as caught:
            await call(server, route, GenerationParameters())  # type: ignore[operator]
        errors.append(caught.value)
    return errors


@pytest.mark.parametrize(
    ("fault", "kind_of_error", "status"),
    [
        (replies(422, {"error": "Input validation error: `top_p` is 0", "error_type": "validation"}), InvalidRequest, 422),
        (replies(424, {"error": "Request failed during generation: boom", "error_type": "generation"}), GenerationFailed, 424),
        (replies(429, {"error": "Model is overloaded", "error_type": "overloaded"}), Overloaded, 429),
        (replies(500, {"error": "Incomplete generation", "error_type": "incomplete_generation"}), GenerationIncomplete, 500),
        (replies(500, {"error": {"message": "oops", "type": "server_error", "code": None}}), GenerationFailed, 500),
        (replies(400, {"error": {"message": "bad stop", "type": "invalid_request_error", "code": None}}), InvalidRequest, 400),
        (replies(404, {"object": "error", "message": "no model x", "type": "NotFoundError", "code": 404}), InvalidRequest, 404),
        (replies(401, {"error": {"message": "Incorrect API key provided: sk-1234"}}), Unauthorized, 401),
        (replies(403, ""), Unauthorized, 403),
        (replies(413, ""), InvalidRequest, 413),
        (replies(503, {"error": "unhealthy", "error_type": "healthcheck"}), ServerUnavailable, 503),
        (replies(502, "<html><body>Bad gateway</body></html>"), ServerUnavailable, 502),
        (replies(504, "<html></html>"), ServerTimedOut, 504),
        (replies(500, ""), GenerationFailed, 500),
        (replies(500, b"\xff\xfe\x00"), GenerationFailed, 500),
        (replies(500, "[" * 20000), GenerationFailed, 500),
        (replies(418, {"type": "about:blank", "title": "Teapot", "status": 418, "detail": "stout"}), InvalidRequest, 418),
        (replies(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), Unauthorized, 429),
        (replies(204, ""), GenerationIncomplete, 204),
    ],
    ids=lambda value: value if isinstance(value, int) else getattr(value, "__name__", ""),
)  # fmt: skip
async def test_a_refusal_is_told_by_its_kind(
    stub: StubModelServer,
    server: ModelServer,
    route: str,
    fault: Fault,
    kind_of_error: type[ModelServerError],
    status: int,
) -> None:
    for error in await both(stub, server, route, fault):
        assert type(error) is kind_of_error
        assert error.status == status
        assert "127.0.0.1" in str(error)
        assert "sk-1234" not in str(error)
        assert "<html" not in str(error)


@pytest.mark.parametrize("header", ["7", "7.0"])
async def test_the_time_a_server_asks_to_wait_is_kept(
    stub: StubModelServer, server: ModelServer, route: str, header: str
) -> None:
    for error in await both(stub, server, route, replies(429, {"error": "x"}, **{"Retry-After": header})):
        assert error.retry_after == 7.0


@pytest.mark.parametrize(("status", "message"), [(422, TGI_TOO_LONG), (400, VLLM_TOO_LONG)])
async def test_a_prompt_too_long_is_told_with_the_tokens_too_many(
    stub: StubModelServer, server: ModelServer, route: str, status: int, message: str
) -> None:
    body: dict[str, Any] = {"error": message, "error_type": "validation"}
    if status == 400:
        body = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}
    for error in await both(stub, server, route, replies(status, body)):
        assert isinstance(error, PromptTooLong)
        assert error.by_tokens == 52
        assert "52 tokens too many" in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(stub: StubModelServer, server: ModelServer, route: str, status: int) -> None:
    fault = replies(status, "", Location=f"{stub.root}/elsewhere")
    for error in await both(stub, server, route, fault):
        assert isinstance(error, ServerUnavailable)
        assert "not followed" in str(error)
    assert "/elsewhere" not in stub.paths


async def test_nobody_at_the_port_is_unavailable(kind: ServerKind, connections: Connections, route: str) -> None:
    address = StubModelServer(kind).address(base_url=f"http://127.0.0.1:{free_port()}")
    server = open_server(address, CallPolicy(**POLICY), connections)
    for call in (whole, pieces_of):
        with pytest.raises(ServerUnavailable, match="cannot be reached"):
            await call(server, route, GenerationParameters())  # type: ignore[operator]
    with pytest.raises(ServerUnavailable):
        await server.health()
    with pytest.raises(ServerUnavailable):
        await server.info()


async def test_a_whole_answer_that_breaks_off_is_incomplete(
    stub: StubModelServer, server: ModelServer, route: str
) -> None:
    stub.faults.append(breaks_whole())
    with pytest.raises(GenerationIncomplete):
        await whole(server, route, GenerationParameters())


@pytest.mark.parametrize("cleanly", [False, True])
async def test_a_stream_that_ends_before_its_end_is_incomplete_after_what_came(
    stub: StubModelServer, server: ModelServer, route: str, cleanly: bool
) -> None:
    stub.faults.append(cut_after(3, cleanly=cleanly))
    got: list[str] = []
    stream = server.chat_stream if route == "chat" else server.generate_stream
    with pytest.raises(GenerationIncomplete):
        await collect_into(got, stream(MESSAGES if route == "chat" else "x", GenerationParameters()))  # type: ignore[operator]
    assert "".join(stub.tokens).startswith("".join(got))
    assert len(got) >= 2


@pytest.mark.parametrize(
    ("payload", "kind_of_error"),
    [
        ({"error": "Request failed during generation: CUDA", "error_type": "generation"}, GenerationFailed),
        ({"error": "Model is overloaded", "error_type": "overloaded"}, Overloaded),
        ({"error": TGI_TOO_LONG, "error_type": "validation"}, PromptTooLong),
        ({"error": "Incomplete generation stream", "error_type": "incomplete_generation_stream"}, GenerationIncomplete),
        ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, Overloaded),
        ({"error": {"message": "Request failed during generation: x", "http_status_code": 422}}, GenerationFailed),
        ({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}, GenerationFailed),
        ({"error": {"message": "slow down", "type": "rate_limit_error"}}, Overloaded),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_is_told_by_its_kind(
    stub: StubModelServer,
    server: ModelServer,
    route: str,
    payload: dict[str, Any],
    kind_of_error: type[ModelServerError],
) -> None:
    stub.faults.append(error_event_after(2, payload))
    with pytest.raises(kind_of_error) as caught:
        await pieces_of(server, route, GenerationParameters())
    assert type(caught.value) is kind_of_error


async def test_vllm_s_flat_error_in_a_stream_is_told(connections: Connections, opened: Opener) -> None:
    from tests.support.stub_model_servers import running_stub

    payload = {
        "object": "error",
        "message": "EngineCore died",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
    async with running_stub(ServerKind.OPENAI) as stub:
        stub.faults.append(error_event_after(1, payload))
        with pytest.raises(GenerationFailed, match="EngineCore died"):
            await pieces_of(opened(stub), "chat", GenerationParameters())


@pytest.mark.parametrize("after", [0, 2])
async def test_a_silent_server_times_out_and_its_connection_is_closed(
    stub: StubModelServer, opened: Opener, route: str, after: int
) -> None:
    server = opened(stub, first_piece_seconds=0.3, between_pieces_seconds=0.3)
    stub.faults.append(silent_after(after))
    with pytest.raises(ServerTimedOut, match=r"0\.3 s"):
        await pieces_of(server, route, GenerationParameters())
    await asyncio.wait_for(stub.gone.wait(), 5)


async def test_a_whole_answer_has_its_time_too(stub: StubModelServer, opened: Opener, route: str) -> None:
    stub.faults.append(silent_after(0))
    with pytest.raises(ServerTimedOut, match="answered within"):
        await whole(opened(stub, whole_seconds=0.3), route, GenerationParameters())
    await asyncio.wait_for(stub.gone.wait(), 5)


async def test_the_time_of_the_whole_ends_a_stream_whose_pieces_come_in_time(
    stub: StubModelServer, opened: Opener, route: str
) -> None:
    stub.tokens = ["word"] * 100
    stub.pause_seconds = 0.05
    with pytest.raises(ServerTimedOut, match="finished within"):
        await pieces_of(opened(stub, whole_seconds=0.5), route, GenerationParameters())


async def test_a_first_token_may_take_longer_than_the_others(stub: StubModelServer, opened: Opener, route: str) -> None:
    async def slow(server: StubModelServer, request: Any, body: dict[str, Any]) -> Any:
        await asyncio.sleep(0.6)
        return await server.answer(request, body)

    stub.faults.append(slow)
    pieces = await pieces_of(opened(stub, between_pieces_seconds=0.3), route, GenerationParameters())
    assert pieces[-1].finish_reason == "stop"


async def test_a_silent_server_is_not_well(
    stub: StubModelServer, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    stub.root = f"http://127.0.0.1:{port}"
    server = opened(stub, probe_seconds=0.2)
    with pytest.raises(ServerUnavailable, match=r"0\.2 s"):
        await server.health()
    with pytest.raises(ServerTimedOut):
        await server.info()
    silent.close()


async def test_a_line_without_end_is_given_up(
    stub: StubModelServer, server: ModelServer, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.faults.append(endless(b"data:", b"x" * 65536))
    with pytest.raises(GenerationFailed, match="bytes"):
        await pieces_of(server, route, GenerationParameters())
    await asyncio.wait_for(stub.gone.wait(), 5)


async def test_a_whole_answer_without_end_is_given_up(
    stub: StubModelServer, server: ModelServer, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.llm.servers.http.LARGEST_REPLY", 1_000_000)
    monkeypatch.setattr("shared.llm.servers.hub_client.LARGEST_REPLY", 1_000_000)
    stub.faults.append(endless(b'{"', b"x" * 65536))
    with pytest.raises(GenerationFailed, match="1000000 bytes"):
        await whole(server, route, GenerationParameters())
    await asyncio.wait_for(stub.gone.wait(), 5)


async def test_an_error_without_end_is_read_no_further_than_its_beginning(
    stub: StubModelServer, server: ModelServer, route: str
) -> None:
    async def fault(stub: StubModelServer, request: Any, body: dict[str, Any]) -> Any:
        from aiohttp import web

        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    for error in await both(stub, server, route, fault):
        assert type(error) is GenerationFailed


async def test_a_compressed_answer_is_refused(stub: StubModelServer, server: ModelServer, route: str) -> None:
    fault = replies(200, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    for error in await both(stub, server, route, fault):
        assert isinstance(error, GenerationFailed)
        assert "compresses" in str(error)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'"text"', b"{", b'{"choices": []}', b'{"choices": [{"message": {}}]}',
             b'{"generated_text": "x"}', b'{"generated_text": 3, "details": 4}', b"\xff"]
)  # fmt: skip
async def test_a_200_that_is_no_answer_is_incomplete(
    stub: StubModelServer, server: ModelServer, route: str, body: bytes
) -> None:
    stub.faults.append(replies(200, body))
    with pytest.raises(GenerationIncomplete):
        await whole(server, route, GenerationParameters())
    stub.faults.append(streams(b"data:" + body.replace(b"\n", b"") + b"\n\n"))
    with pytest.raises(GenerationIncomplete):
        await pieces_of(server, route, GenerationParameters())


async def test_comments_in_a_stream_are_passed_over(stub: StubModelServer, server: ModelServer, route: str) -> None:
    async def fault(stub: StubModelServer, request: Any, body: dict[str, Any]) -> Any:
        parts: list[bytes] = []
        for event in stub.events(request.path, body):
            parts += [b":\n\n", b": ping\r\n\r\n", event]
        return await streams(*parts)(stub, request, body)

    stub.faults.append(fault)
    pieces = await pieces_of(server, route, GenerationParameters())
    assert "".join(piece.text for piece in pieces) == "Once upon a time"


async def test_neither_prompts_answers_nor_keys_are_in_errors_or_logs(
    stub: StubModelServer, opened: Opener, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "my-private-prompt"
    server = opened(stub, {"api_key": "sk-secret"})
    echo = {
        "detail": [
            {"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {"prompt": secret}}
        ]
    }
    told = {
        "error": {"message": f"1 validation error: [{{'type': 'x', 'input': '{secret}'}}]", "type": "BadRequestError"}
    }
    quoting = {"error": f'cannot parse "{secret * 9}"', "error_type": "validation"}
    seen = []
    for body in (echo, told, quoting):
        stub.faults.append(replies(422, body))
    stub.faults.append(replies(500, f"failed at {secret}"))
    stub.faults.append(replies(200, json.dumps({"surprise": secret})))
    while stub.faults:
        with pytest.raises(ModelServerError) as caught:
            await (
                server.chat([{"role": "user", "content": secret}], GenerationParameters())
                if route == "chat"
                else server.generate(secret, GenerationParameters())
            )
        seen.append(str(caught.value))
    assert "Field required" in seen[0]
    for text in [*seen, *(record.getMessage() for record in caplog.records)]:
        assert secret not in text
        assert "sk-secret" not in text
