"""Servers that answer as TGI, vLLM and our own do, with faults on demand. What they answer has the shape of recorded replies."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from shared.llm.servers.protocol import ServerAddress, ServerKind

Fault = Callable[["StubModelServer", web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]
END_OF_SEQUENCE = "</s>"


class StubModelServer:
    """Says `tokens`, then ends as the request lets it. Each call of a model takes the next of `faults` while there are any."""

    def __init__(self, kind: ServerKind) -> None:
        self.kind = kind
        self.tokens = ["Once", " upon", " a", " time"]
        self.prompt_tokens = 7
        self.engine = "vllm"
        """Of an OpenAI server: who owns its models, as it says."""
        self.pause_seconds = 0.0
        """Before each event of a stream, and before a whole answer."""
        self.faults: deque[Fault] = deque()
        self.well = True
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        """Of a model: path, body, headers."""
        self.paths: list[str] = []
        """All that were asked for, in order."""
        self.connections: set[object] = set()
        self.gone = asyncio.Event()
        """Set when a client closed its connection before the end of its answer."""
        self.released = asyncio.Event()
        """Holds answers back with `held`."""
        self.open = 0
        self.most_open = 0
        self.root = ""

    @property
    def body(self) -> dict[str, Any]:
        """What was asked last."""
        return self.calls[-1][1]

    def address(self, **changes: Any) -> ServerAddress:
        base = self.root + ("/v1" if self.kind is ServerKind.OPENAI else "")
        return ServerAddress(**({"kind": self.kind, "base_url": base, "model": "tiny"} | changes))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path)
        self.connections.add(request.transport)
        if request.method == "GET":
            return self._facts(request.path)
        body = json.loads(await request.read())
        self.calls.append((request.path, body, {name.lower(): value for name, value in request.headers.items()}))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.faults:
                return await self.faults.popleft()(self, request, body)
            return await self.answer(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        finally:
            self.open -= 1

    async def answer(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        """What a server that is well answers."""
        if request.path == "/score":
            return web.json_response({"scores": [float(len(talk)) for talk in body["conversations"]]})
        events = self.events(request.path, body)
        if not is_stream(request.path, body):
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)
            whole = self.whole(request.path, body)
            headers = {} if self.kind is ServerKind.OPENAI else {"x-prompt-tokens": str(self.prompt_tokens)}
            return web.json_response([whole] if request.path == "/" else whole, headers=headers)
        response = await begin_stream(request)
        for event in events:
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)
            await response.write(event)
        await response.write_eof()
        return response

    def said(self, path: str, body: dict[str, Any]) -> tuple[list[str], str]:
        """The tokens of the answer, and why it ends, in TGI's words."""
        parameters = body.get("parameters", body)
        limit = parameters.get("max_new_tokens", body.get("max_tokens", body.get("max_completion_tokens")))
        tokens: list[str] = []
        for token in self.tokens:
            if limit is not None and len(tokens) == limit:
                return tokens, "length"
            tokens.append(token)
            if any("".join(tokens).endswith(stop) for stop in parameters.get("stop", ())):
                return tokens, "stop_sequence"
        return tokens, "eos_token"

    def whole(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        tokens, reason = self.said(path, body)
        if path in {"/", "/generate"}:
            return self._generation(body["parameters"], tokens, reason)
        shown = "".join(tokens)
        if self.kind is ServerKind.OPENAI:
            shown = _without_stop(shown, body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._chat_reason(reason), "logprobs": None}
        if path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": shown}
            if body.get("logprobs"):
                choice["logprobs"] = self._chat_log_probabilities(tokens, body)
        else:
            choice["text"] = shown
            if "logprobs" in body:
                choice["logprobs"] = self._completion_log_probabilities(tokens, body["logprobs"])
        count = len(tokens) + (reason == "eos_token")
        return {
            "id": "c-1",
            "object": "chat.completion" if "message" in choice else "text_completion",
            "created": 1762000000,
            "model": "tiny",
            "system_fingerprint": "3.3.7-native",
            "choices": [choice],
            "usage": self._usage(count),
        }

    def events(self, path: str, body: dict[str, Any]) -> list[bytes]:
        """All events of a streamed answer."""
        tokens, reason = self.said(path, body)
        if path in {"/", "/generate_stream"}:
            return self._generation_events(body["parameters"], tokens, reason)
        return self._openai_events(path, body, tokens, reason)

    def _generation(self, parameters: dict[str, Any], tokens: list[str], reason: str) -> dict[str, Any]:
        spoken = [token_of(place, text) for place, text in enumerate(tokens)]
        if reason == "eos_token":
            spoken.append(token_of(2, END_OF_SEQUENCE, special=True))
        details: dict[str, Any] = {
            "finish_reason": reason,
            "generated_tokens": len(spoken),
            "seed": parameters.get("seed"),
            "prefill": [],
            "tokens": spoken,
        }
        if parameters.get("decoder_input_details"):
            details["prefill"] = [{"id": 1, "text": "<s>", "logprob": None}, {"id": 9, "text": "Tell", "logprob": -3.5}]
        if parameters.get("top_n_tokens"):
            details["top_tokens"] = [likely(parameters["top_n_tokens"]) for _ in spoken]
        return {"generated_text": "".join(tokens), "details": details}

    def _generation_events(self, parameters: dict[str, Any], tokens: list[str], reason: str) -> list[bytes]:
        details = self._generation(parameters, tokens, reason)["details"]
        events = []
        for place, token in enumerate(details["tokens"]):
            event: dict[str, Any] = {"index": place + 1, "token": token, "generated_text": None, "details": None}
            if "top_tokens" in details:
                event["top_tokens"] = details["top_tokens"][place]
            if place + 1 == len(details["tokens"]):
                event["generated_text"] = "".join(tokens)
                event["details"] = {
                    "finish_reason": reason,
                    "generated_tokens": len(details["tokens"]),
                    "seed": parameters.get("seed"),
                    "input_length": self.prompt_tokens,
                }
            events.append(sse(event))
        return events

    def _openai_events(self, path: str, body: dict[str, Any], tokens: list[str], reason: str) -> list[bytes]:
        is_chat = path.endswith("/chat/completions")
        head = {
            "id": "c-1",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": 1762000000,
            "model": "tiny",
            "system_fingerprint": "3.3.7-native",
        }
        shown = list(tokens)
        if self.kind is ServerKind.OPENAI and reason == "stop_sequence":
            # vLLM holds a stop text back while it may become one, and cuts it off.
            text = _without_stop("".join(tokens), body)
            shown = [text] if text else []
        events = []
        if is_chat and self.kind is ServerKind.OPENAI:
            first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            events.append(sse(head | {"choices": [first]}))
        for place, text in enumerate([*shown, ""]):
            last = place == len(shown)
            choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": None}
            if last:
                choice["finish_reason"] = self._chat_reason(reason)
            if is_chat:
                choice["delta"] = {"role": "assistant", "content": text}
                if body.get("logprobs") and not last:
                    choice["logprobs"] = self._chat_log_probabilities([text], body)
            else:
                choice["text"] = text
                if "logprobs" in body and not last:
                    choice["logprobs"] = self._completion_log_probabilities([text], body["logprobs"])
            events.append(sse(head | {"choices": [choice], "usage": None}))
        if body.get("stream_options", {}).get("include_usage"):
            count = len(tokens) + (reason == "eos_token")
            events.append(sse(head | {"choices": [], "usage": self._usage(count)}))
        return [*events, b"data: [DONE]\n\n"]

    def _chat_reason(self, reason: str) -> str:
        if self.kind is ServerKind.OPENAI:
            return "length" if reason == "length" else "stop"
        return "stop" if reason == "eos_token" else reason

    def _usage(self, count: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": count,
            "total_tokens": self.prompt_tokens + count,
        }

    def _chat_log_probabilities(self, tokens: list[str], body: dict[str, Any]) -> dict[str, Any]:
        top = [{"token": one["text"], "logprob": one["logprob"]} for one in likely(body.get("top_logprobs") or 0)]
        return {"content": [{"token": text, "logprob": -0.5, "top_logprobs": top} for text in tokens]}

    def _completion_log_probabilities(self, tokens: list[str], count: int) -> dict[str, Any]:
        top = {one["text"]: one["logprob"] for one in likely(count)}
        return {
            "tokens": tokens,
            "token_logprobs": [-0.5] * len(tokens),
            "top_logprobs": [top for _ in tokens],
            "text_offset": [0] * len(tokens),
        }

    def _facts(self, path: str) -> web.Response:
        if path == "/health":
            if self.well:
                return web.Response()
            return web.json_response({"error": "unhealthy", "error_type": "healthcheck"}, status=503)
        if path == "/v1/models" and self.kind is ServerKind.OPENAI:
            model = {
                "id": "tiny",
                "object": "model",
                "created": 1762000000,
                "owned_by": self.engine,
                "max_model_len": 4096,
            }
            return web.json_response({"object": "list", "data": [model]})
        if path == "/info" and self.kind is not ServerKind.OPENAI:
            return web.json_response(
                {
                    "model_id": "/data/tiny",
                    "model_sha": None,
                    "model_pipeline_tag": None,
                    "max_concurrent_requests": 128,
                    "max_best_of": 2,
                    "max_stop_sequences": 4,
                    "max_input_tokens": 1023,
                    "max_total_tokens": 2048,
                    "validation_workers": 2,
                    "max_client_batch_size": 4,
                    "router": "text-generation-router",
                    "version": "3.3.7",
                    "sha": None,
                    "docker_label": None,
                }
            )
        return web.json_response({"error": "no such route"}, status=404)


def is_stream(path: str, body: dict[str, Any]) -> bool:
    return path == "/generate_stream" or bool(body.get("stream"))


def sse(event: dict[str, Any]) -> bytes:
    return b"data:" + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def token_of(number: int, text: str, *, special: bool = False) -> dict[str, Any]:
    return {"id": number, "text": text, "logprob": -0.5, "special": special}


def likely(count: int) -> list[dict[str, Any]]:
    return [token_of(place, f"t{place}") | {"logprob": -0.5 - place} for place in range(count)]


def _without_stop(text: str, body: dict[str, Any]) -> str:
    return next((text[: -len(stop)] for stop in body.get("stop", ()) if text.endswith(stop)), text)


async def begin_stream(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


# Faults.


def replies(status: int, body: dict[str, Any] | str | bytes, **headers: str) -> Fault:
    """A reply that is no answer."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        if isinstance(body, dict):
            return web.json_response(body, status=status, headers=headers)
        raw = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=raw, headers={"Content-Type": "text/html"} | headers)

    return fault


def cut_after(count: int, *, cleanly: bool = False) -> Fault:
    """A stream that ends after `count` events: the connection breaks, or (`cleanly`) the body ends as if that were all."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        response = await begin_stream(request)
        for event in server.events(request.path, asked)[:count]:
            await response.write(event)
        if cleanly:
            await response.write_eof()
        else:
            await asyncio.sleep(0.05)
            _abort(request)
        return response

    return fault


def breaks_whole() -> Fault:
    """Half of a whole answer, then the connection breaks."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        raw = json.dumps(server.whole(request.path, asked)).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(raw)), "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(raw[: len(raw) // 2])
        await asyncio.sleep(0.05)
        _abort(request)
        return response

    return fault


def error_event_after(count: int, payload: dict[str, Any]) -> Fault:
    """A stream with an error in the place of event `count`."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        response = await begin_stream(request)
        for event in server.events(request.path, asked)[:count]:
            await response.write(event)
        await response.write(sse(payload))
        if not request.path.startswith("/generate") and request.path != "/":
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return fault


def silent_after(count: int) -> Fault:
    """A stream that goes on no more after `count` events, for as long as the client waits; 0: not even a status."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if count:
            await response.prepare(request)
            for event in server.events(request.path, asked)[:count]:
                await response.write(event)
        await asyncio.Event().wait()
        return response

    return fault


def held() -> Fault:
    """The answer once `released` is set."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        await server.released.wait()
        return await server.answer(request, asked)

    return fault


def endless(beginning: bytes, chunk: bytes) -> Fault:
    """A 200 that never ends."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        is_event_stream = is_stream(request.path, asked)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream" if is_event_stream else "application/json"}
        )
        await response.prepare(request)
        await response.write(beginning)
        while True:
            await response.write(chunk)

    return fault


def streams(*parts: bytes) -> Fault:
    """A 200 of exactly these parts, written one by one."""

    async def fault(server: StubModelServer, request: web.BaseRequest, asked: dict[str, Any]) -> web.StreamResponse:
        response = await begin_stream(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.01)
        await response.write_eof()
        return response

    return fault


@asynccontextmanager
async def running_stub(kind: ServerKind) -> AsyncIterator[StubModelServer]:
    """A stub on a free port of its own."""
    stub = StubModelServer(kind)
    # As real servers do, it stops generating when its client has gone.
    server = web.Server(stub.handle, access_log=None, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.root = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        await runner.cleanup()
