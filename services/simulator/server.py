"""The HTTP side: routes, faults below the answer, streaming."""

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256

import orjson
from aiohttp import web

from services.simulator.answers import Answer, body_digest, count_tokens, make_answer, prompt_tokens
from services.simulator.chance import digest_of
from services.simulator.faults import Decision, Fault, FaultInjector, FaultPlan, FaultPlanRefused, parse_fault_plan
from services.simulator.labels import LabelStore
from services.simulator.requests import BadRequest, ChatRequest, RequestClass, class_of, parse_request
from services.simulator.statistics import Statistics

FINGERPRINT = "multifacet-simulator"
STAMP_HEADER = "x-multifacet-simulator"
CLASS_HEADER = "x-multifacet-request-class"
DEFAULT_MODELS = ("simulator-large", "simulator-small")
MAXIMUM_BODY_BYTES = 32 << 20
CREATED = 1_760_000_000
"""`created` of every completion: fixed, so that the same request gives the same bytes."""
STREAM_PIECE = 24
"""Characters in one piece of a stream."""

_HTML = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>multifacet-simulator</center></body>
</html>
"""
_STAMP = {STAMP_HEADER: "1"}
_JSON_HEADERS = {STAMP_HEADER: "1", "Content-Type": "application/json"}


def _json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(data), status=status, headers={**_JSON_HEADERS, **(headers or {})})


def _error(status: int, message: str, kind: str, parameter: str | None = None, code: str | None = None) -> web.Response:
    return _json({"error": {"message": message, "type": kind, "param": parameter, "code": code}}, status)


class Simulator:
    """One simulated provider: its seed, models, fault plan and counts."""

    def __init__(self, *, seed: int = 0, plan: FaultPlan | None = None, models: Sequence[str] = DEFAULT_MODELS) -> None:
        self.seed = seed
        self.models = tuple(models)
        self.faults = FaultInjector(plan or FaultPlan())
        self.statistics = Statistics()
        self.labels = LabelStore()

    def application(self) -> web.Application:
        """The aiohttp application with all routes."""
        application = web.Application(client_max_size=MAXIMUM_BODY_BYTES)
        application.router.add_post("/v1/chat/completions", self.chat_completions)
        application.router.add_get("/v1/models", self.list_models)
        application.router.add_get("/v1/models/{model}", self.get_model)
        application.router.add_get("/health", self.health)
        application.router.add_get("/v1/simulator/faults", self.get_faults)
        application.router.add_put("/v1/simulator/faults", self.put_faults)
        application.router.add_get("/v1/simulator/statistics", self.get_statistics)
        application.router.add_delete("/v1/simulator/statistics", self.delete_statistics)
        application.router.add_get("/v1/simulator/labels", self.get_labels)
        application.router.add_delete("/v1/simulator/labels", self.delete_labels)
        return application

    async def health(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok", "simulator": True, "seed": self.seed})

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": CREATED, "owned_by": FINGERPRINT}

    async def list_models(self, _request: web.Request) -> web.Response:
        return _json({"object": "list", "data": [self._model(name) for name in self.models]})

    async def get_model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        return _json(self._model(name)) if name in self.models else self._unknown_model(name)

    def _unknown_model(self, name: str) -> web.Response:
        message = f"the model {name!r} does not exist here; known are {', '.join(self.models)}"
        return _error(404, message, "invalid_request_error", "model", "model_not_found")

    async def get_faults(self, _request: web.Request) -> web.Response:
        return _json(self.faults.plan.model_dump(mode="json"))

    async def put_faults(self, request: web.Request) -> web.Response:
        """A new plan; attempts per body and rate limits start again."""
        try:
            plan = parse_fault_plan(await request.read())
        except FaultPlanRefused as error:
            return _error(422, str(error), "invalid_request_error", None, "fault_plan_refused")
        self.faults = FaultInjector(plan)
        return _json(plan.model_dump(mode="json"))

    async def get_statistics(self, _request: web.Request) -> web.Response:
        return _json(self.statistics.as_builtins())

    async def delete_statistics(self, _request: web.Request) -> web.Response:
        self.statistics.reset()
        return web.Response(status=204, headers=_STAMP)

    async def get_labels(self, _request: web.Request) -> web.Response:
        return _json({"labels": self.labels.as_builtins()})

    async def delete_labels(self, _request: web.Request) -> web.Response:
        self.labels.clear()
        return web.Response(status=204, headers=_STAMP)

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """One completion, or the fault that the plan holds for it."""
        self.statistics.entered()
        name, status, fault = "unknown", "499", None
        try:
            data = await request.read()
            try:
                chat = parse_request(data)
                request_class = class_of(request.headers.get(CLASS_HEADER), chat)
            except BadRequest as error:
                status = str(error.status)
                return _error(error.status, str(error), "invalid_request_error", error.parameter, error.code)
            name = request_class.value
            if chat.model not in self.models:
                status = "404"
                return self._unknown_model(chat.model)
            digest = body_digest(data)
            decision = self.faults.decide(request_class, digest, time.monotonic())
            fault = decision.fault
            if decision.delay > 0:
                await asyncio.sleep(decision.delay)
            if fault is Fault.HANG or fault is Fault.CONNECTION_RESET:
                status = "hang" if fault is Fault.HANG else "reset"
                return await self._no_answer(request, decision)
            refused = self._refusal_of_transport(decision)
            if refused is not None:
                status = str(refused.status)
                return refused
            try:
                answers = self._answers(chat, request_class, fault, digest)
            except BadRequest as error:
                status = str(error.status)
                return _error(error.status, str(error), "invalid_request_error", error.parameter, error.code)
            response = await self._send(request, chat, answers, fault, digest)
            status = "200"
            return response
        finally:
            self.statistics.left(name, status, fault.value if fault else None)

    def _answers(
        self, chat: ChatRequest, request_class: RequestClass, fault: Fault | None, digest: bytes
    ) -> list[Answer]:
        plan = self.faults.plan
        answers = [
            make_answer(chat, request_class, fault, self.seed, digest if index == 0 else digest_of(digest, index), plan)
            for index in range(chat.choices)
        ]
        for answer in answers:
            if answer.label is not None:
                content = sha256((answer.content or "").encode()).hexdigest()
                self.labels.add(request_class.value, content, digest.hex(), answer.label)
        return answers

    async def _no_answer(self, request: web.Request, decision: Decision) -> web.StreamResponse:
        """Wait if the call hangs (the wait ends when the client goes away), then drop the connection."""
        if decision.fault is Fault.HANG:
            await asyncio.sleep(decision.settings.hang_seconds)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=499)

    def _refusal_of_transport(self, decision: Decision) -> web.Response | None:
        """The HTTP error that stands for the fault, None where the fault is no HTTP error."""
        if decision.fault is Fault.RATE_LIMITED:
            response = _error(
                429, "simulated: rate limit reached, slow down", "rate_limit_error", None, "rate_limit_exceeded"
            )
            if decision.retry_after is not None:
                response.headers["Retry-After"] = f"{decision.retry_after:g}"
            return response
        if decision.fault is Fault.SERVER_ERROR:
            return _error(decision.settings.server_error_status, "simulated: server error", "server_error")
        if decision.fault is Fault.HTML_502:
            return web.Response(text=_HTML, status=502, content_type="text/html", headers=_STAMP)
        if decision.fault is Fault.UNAUTHORIZED:
            return _error(401, "simulated: incorrect API key", "invalid_request_error", None, "invalid_api_key")
        return None

    async def _send(
        self, request: web.Request, chat: ChatRequest, answers: list[Answer], fault: Fault | None, digest: bytes
    ) -> web.StreamResponse:
        before = prompt_tokens(chat)
        after = sum(count_tokens(answer.content or answer.refusal or "") for answer in answers)
        self.statistics.prompt_tokens += before
        self.statistics.completion_tokens += after
        usage = {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after}
        head = {
            "id": f"chatcmpl-{digest.hex()}",
            "created": CREATED,
            "model": chat.model,
            "system_fingerprint": FINGERPRINT,
        }
        if chat.stream:
            return await self._stream(request, chat, answers, fault, head, usage)
        body = orjson.dumps(
            {
                **head,
                "object": "chat.completion",
                "choices": [
                    {
                        "index": index,
                        "message": {"role": "assistant", "content": answer.content, "refusal": answer.refusal},
                        "finish_reason": answer.finish_reason,
                        "logprobs": None,
                    }
                    for index, answer in enumerate(answers)
                ],
                "usage": usage,
            }
        )
        if fault is Fault.TRUNCATED_BODY:
            # The announced length is that of the whole body: the client sees that it ended early.
            response = web.StreamResponse(headers={**_JSON_HEADERS, "Content-Length": str(len(body))})
            await response.prepare(request)
            await response.write(body[: len(body) * 2 // 3])
            _close(request)
            return response
        if fault is Fault.MALFORMED_BODY:
            body = body[: len(body) * 2 // 3] + b'"}'
        return web.Response(body=body, headers=_JSON_HEADERS)

    async def _stream(
        self,
        request: web.Request,
        chat: ChatRequest,
        answers: list[Answer],
        fault: Fault | None,
        head: dict[str, object],
        usage: dict[str, int],
    ) -> web.StreamResponse:
        def event(choices: list[dict[str, object]], **more: object) -> bytes:
            chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
            return b"data: " + orjson.dumps(chunk) + b"\n\n"

        response = web.StreamResponse(
            headers={**_STAMP, "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        pieces: list[bytes] = []
        for index, answer in enumerate(answers):
            pieces.append(
                event([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
            )
            field = "content" if answer.refusal is None else "refusal"
            text = answer.content if answer.refusal is None else answer.refusal
            for start in range(0, len(text or ""), STREAM_PIECE):
                delta = {field: (text or "")[start : start + STREAM_PIECE]}
                pieces.append(event([{"index": index, "delta": delta, "finish_reason": None}]))
            pieces.append(event([{"index": index, "delta": {}, "finish_reason": answer.finish_reason}]))
        if chat.include_usage:
            pieces.append(event([], usage=usage))
        if fault is Fault.TRUNCATED_BODY:
            for piece in pieces[: len(pieces) // 2]:
                await response.write(piece)
            _close(request)
            return response
        for piece in pieces:
            await response.write(piece)
        if fault is Fault.MALFORMED_BODY:
            await response.write(b'data: {"id": "chatcmpl-\n\n')
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _close(request: web.Request) -> None:
    """Close the connection once what was written is sent."""
    if request.transport is not None:
        request.transport.close()
