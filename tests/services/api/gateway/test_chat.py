"""POST /v1/chat/completions through OpenAI's own client."""

import asyncio
import json
import logging
from typing import Any

import httpx2
import openai
import pytest

from services.api.state import ApiState
from shared.domain.deployments import DeploymentState
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
from shared.llm.servers.protocol import Grammar, Piece, TokenLogProbability, TokenUsage
from shared.metadata.repositories.serving import ServingRepository
from tests.services.api.gateway.support import (
    ADDRESS,
    USAGE,
    FakeServers,
    deploy,
    eventually,
    move,
)
from tests.services.api.support import ADMIN_KEY
from tests.services.api.trainings import register, training_job

HELLO: list[Any] = [{"role": "user", "content": "Hello?"}]
ELSEWHERE = "http://127.0.0.1:10"


def error_of(error: openai.APIStatusError) -> Any:
    """The whole error in OpenAI's shape."""
    body = error.response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    return body["error"]


async def test_an_answer_in_one_piece(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    deployment = await deploy(state, "whole")

    raw = await ai.chat.completions.with_raw_response.create(model="whole", messages=HELLO)

    answer = raw.parse()
    assert raw.headers["x-request-id"] == answer.id
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "whole")
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good morning.")
    assert (choice.finish_reason, choice.logprobs) == ("stop", None)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.model_extra == {
        "multifacet": {
            "system": None,
            "profile": None,
            "answered_by": "model_of_a_test",
            "deployment": deployment,
            "revision": 1,
        }
    }


async def test_an_answer_as_a_stream(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    deployment = await deploy(state, "streamed")

    chunks = [chunk async for chunk in await ai.chat.completions.create(model="streamed", messages=HELLO, stream=True)]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["Good ", "morn", "ing."]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {
        (chunks[0].id, "streamed", "chat.completion.chunk")
    }
    assert chunks[-1].model_extra["multifacet"]["deployment"] == deployment  # type: ignore[index]
    assert all(chunk.usage is None for chunk in chunks)


async def test_the_usage_is_a_chunk_of_its_own_where_it_was_asked_for(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    await deploy(state, "counted")

    stream = await ai.chat.completions.create(
        model="counted", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *_, finished, last = [chunk async for chunk in stream]

    assert finished.choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 10
    assert last.model_extra["multifacet"]["revision"] == 1  # type: ignore[index]


async def test_the_sync_client_answers_alike(url: str, state: ApiState) -> None:
    await deploy(state, "sync")

    def ask() -> tuple[str | None, list[str]]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
            whole = client.chat.completions.create(model="sync", messages=HELLO)
            stream = client.chat.completions.create(model="sync", messages=HELLO, stream=True)
            return whole.choices[0].message.content, [chunk.choices[0].delta.content or "" for chunk in stream]

    whole, pieces = await asyncio.to_thread(ask)

    assert whole == "Good morning."
    assert "".join(pieces) == whole


async def test_log_probabilities_of_tokens(ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers) -> None:
    await deploy(state, "likely")
    other = TokenLogProbability(2, "ö", -2.5)
    tokens = (TokenLogProbability(1, "ü", -0.5, top=(TokenLogProbability(1, "ü", -0.5), other)),)
    end = (TokenLogProbability(0, "</s>", -0.1, special=True),)
    servers.pieces = [Piece("ü", tokens), Piece("", end, "stop", USAGE)]
    asked: dict[str, Any] = {"model": "likely", "messages": HELLO, "logprobs": True, "top_logprobs": 2}

    whole = await ai.chat.completions.create(**asked)
    chunks = [chunk async for chunk in await ai.chat.completions.create(**asked, stream=True)]

    assert whole.choices[0].logprobs is not None
    (token,) = whole.choices[0].logprobs.content or []
    assert (token.token, token.logprob, token.bytes) == ("ü", -0.5, [195, 188])
    assert [(top.token, top.logprob) for top in token.top_logprobs] == [("ü", -0.5), ("ö", -2.5)]
    streamed = [token for chunk in chunks if (told := chunk.choices[0].logprobs) for token in told.content or []]
    assert streamed == [token]
    assert servers.calls[0].parameters.log_probabilities
    assert servers.calls[0].parameters.top_tokens == 2


async def test_parameters_reach_the_model_server(ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers) -> None:
    await deploy(state, "parameters")
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}}

    await ai.chat.completions.create(
        model="parameters",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        ],
        max_completion_tokens=50,
        max_tokens=60,
        temperature=0.7,
        top_p=0.9,
        seed=-1,
        stop=["END"],
        frequency_penalty=0.5,
        response_format={"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}},
        user="somebody",
        n=1,
        tools=[],
        extra_body={"repetition_penalty": 1.1, "top_k": 40, "a_field_nobody_knows": {"x": 1}},
    )

    (call,) = servers.calls
    assert call.messages == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "One.\nTwo."},
    ]
    parameters = call.parameters
    assert (parameters.max_new_tokens, parameters.temperature, parameters.top_p, parameters.top_k) == (50, 0.7, 0.9, 40)
    assert (parameters.seed, parameters.stop) == (2**63 - 1, ("END",))
    assert (parameters.frequency_penalty, parameters.repetition_penalty) == (0.5, 1.1)
    assert parameters.grammar == Grammar("json", schema)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
        ({"preferences": [{"pole": "brief"}]}, "preferences[0]"),
        ({"preferences": [{"seed": "no seed has this name"}]}, "preferences[0].seed"),
        ({"preferences": [{"seed": "x"}], "profile": "ada"}, "profile"),
        ({"profile": "nobody"}, "profile"),
        ({"model": None}, "model"),
    ],
)
async def test_what_cannot_be_done_is_refused_naming_the_field(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers, fields: dict[str, Any], param: str
) -> None:
    await deploy_once(state, "refuses")
    body = {"model": "refuses", "messages": HELLO} | fields

    with pytest.raises(openai.BadRequestError) as refused:
        await ai.post("/chat/completions", body=body, cast_to=object)

    error = error_of(refused.value)
    assert error["param"] == param, error
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert servers.calls == []


async def deploy_once(state: ApiState, name: str) -> None:
    """The tests of a module share a database."""
    async with state.transaction() as session:
        found = await ServingRepository(session).find("default", name)
    if found is None:
        await deploy(state, name)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "tool_choice": "none", "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"logit_bias": {}, "modalities": ["text"], "functions": [], "presence_penalty": 0, "audio": None},
        {"response_format": {"type": "text"}, "stop": None, "seed": None, "top_logprobs": 0},
        {"service_tier": "auto", "metadata": {"a": "b"}, "store": True, "parallel_tool_calls": True},
    ],
)
async def test_what_changes_nothing_is_taken(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers, fields: dict[str, Any]
) -> None:
    await deploy_once(state, "takes")
    answer = await ai.post(
        "/chat/completions", body={"model": "takes", "messages": HELLO} | fields, cast_to=openai.BaseModel
    )
    assert answer.model_extra is not None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'{"model": "x", "messages": [{"role": "user", "content": "\\ud800"}]}', "invalid_json"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b"[]", "invalid_type"),
    ],
)
async def test_a_body_that_is_no_request(url: str, body: bytes, code: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{url}/v1/chat/completions", content=body, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("failure", "kind", "status", "code"),
    [
        (PromptTooLong("no room", by_tokens=1234), openai.BadRequestError, 400, "context_length_exceeded"),
        (InvalidRequest("no such thing"), openai.BadRequestError, 400, "invalid_request"),
        (Unauthorized("key"), openai.InternalServerError, 502, "unauthorized"),
        (GenerationFailed("x"), openai.InternalServerError, 502, "generation_failed"),
        (GenerationIncomplete("x"), openai.InternalServerError, 502, "generation_incomplete"),
        (Overloaded("x", retry_after=3.2), openai.InternalServerError, 503, "overloaded"),
        (ServerUnavailable("x"), openai.InternalServerError, 503, "server_unavailable"),
        (ServerTimedOut("x"), openai.InternalServerError, 504, "server_timed_out"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_before_the_answer_have_their_status(
    ai: openai.AsyncOpenAI,
    state: ApiState,
    servers: FakeServers,
    failure: ModelServerError,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    stream: bool,
) -> None:
    await deploy_once(state, "fails")
    servers.pieces = [failure]

    with pytest.raises(kind) as failed:
        await ai.chat.completions.create(model="fails", messages=HELLO, stream=stream, max_tokens=5)

    error = error_of(failed.value)
    assert (failed.value.status_code, error["code"]) == (status, code)
    if isinstance(failure, PromptTooLong):
        assert "1,234 tokens" in error["message"]
    if isinstance(failure, Overloaded):
        assert failed.value.response.headers["retry-after"] == "4"


async def test_an_error_in_mid_stream_is_an_event_that_ends_it(
    ai: openai.AsyncOpenAI, url: str, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "breaks")
    servers.pieces = [Piece("Good "), GenerationIncomplete("the server died")]
    stream = await ai.chat.completions.create(model="breaks", messages=HELLO, stream=True)
    seen = [(await anext(stream)).choices[0].delta.content for _ in range(2)]

    with pytest.raises(openai.APIError) as broken:
        await anext(stream)

    assert seen == ["", "Good "]
    assert broken.value.code == "generation_incomplete"
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{url}/v1/chat/completions",
            json={"model": "breaks", "messages": HELLO, "stream": True},
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *_, last, nothing = answer.text.split("\n\n")
    assert json.loads(last.removeprefix("data: ")).keys() == {"error"}
    assert nothing == ""
    assert "[DONE]" not in answer.text


async def test_a_stream_that_ends_without_a_reason_is_an_error(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "stops")
    servers.pieces = [Piece("Good ")]
    stream = await ai.chat.completions.create(model="stops", messages=HELLO, stream=True)
    for _ in range(2):
        await anext(stream)
    with pytest.raises(openai.APIError, match="broke off"):
        await anext(stream)


async def test_a_client_that_goes_away_ends_the_call(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "left")
    servers.hold = asyncio.Event()

    stream = await ai.chat.completions.create(model="left", messages=HELLO, stream=True)
    await anext(stream)
    await stream.close()
    await eventually(lambda: len(servers.ended) == 1)

    waiting = asyncio.create_task(ai.chat.completions.create(model="left", messages=HELLO))
    await eventually(lambda: len(servers.calls) == 2)
    waiting.cancel()
    await eventually(lambda: len(servers.ended) == 2)
    assert servers.ended == ["CancelledError", "CancelledError"]


async def test_a_server_that_moved_is_found_again(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    deployment = await deploy(state, "moves")
    await ai.chat.completions.create(model="moves", messages=HELLO)  # its address is remembered now
    servers.gone[ADDRESS] = ServerUnavailable("connection refused")
    await move(state, deployment, ELSEWHERE)

    chunks = [chunk async for chunk in await ai.chat.completions.create(model="moves", messages=HELLO, stream=True)]

    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [call.address for call in servers.calls] == [ADDRESS, ADDRESS, ELSEWHERE]


async def test_a_server_that_is_gone_is_asked_twice_and_no_more(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy_once(state, "gone")
    servers.gone[ADDRESS] = ServerUnavailable("connection refused")
    with pytest.raises(openai.InternalServerError) as failed:
        await ai.chat.completions.create(model="gone", messages=HELLO)
    assert len(servers.calls) == 2
    assert failed.value.status_code == 503
    assert "retry-after" in failed.value.response.headers


async def test_an_unknown_model_is_told_with_those_that_serve(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    await deploy(state, "serves")
    await deploy(state, "elsewhere", project_id="other")
    with pytest.raises(openai.NotFoundError) as missing:
        await ai.chat.completions.create(model="elsewhere", messages=HELLO)
    error = error_of(missing.value)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "serves" in error["message"].split("these serve: ")[1]
    assert "elsewhere" not in error["message"].split("these serve: ")[1]


@pytest.mark.parametrize("deployed", [DeploymentState.WAITING, DeploymentState.STARTING, DeploymentState.FAILED])
async def test_a_deployment_without_a_server_says_what_it_does(
    ai: openai.AsyncOpenAI, state: ApiState, deployed: DeploymentState
) -> None:
    name = f"is-{deployed.value}"
    await deploy(state, name, address=None, deployment_state=deployed, detail="the reason")
    with pytest.raises(openai.InternalServerError) as refused:
        await ai.chat.completions.create(model=name, messages=HELLO)
    assert refused.value.status_code == 503
    assert error_of(refused.value)["code"] == "model_not_ready"
    assert "the reason" in error_of(refused.value)["message"]
    assert ("retry-after" in refused.value.response.headers) == (deployed is not DeploymentState.FAILED)


async def test_a_reward_model_does_not_chat(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    model = await register(state, await training_job(state), method="rm")
    await deploy(state, "judge", registry=model)
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.chat.completions.create(model="judge", messages=HELLO)
    assert error_of(refused.value)["code"] == "model_not_for_chat"


async def test_preferences_become_the_system_message_before_that_of_the_request(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "personal")
    preferences = [{"description": "Wants answers in rhyme."}]

    answer = await ai.chat.completions.create(
        model="personal",
        messages=[{"role": "system", "content": "You sell boats."}, *HELLO],
        extra_body={"preferences": preferences},
    )
    alone = await ai.chat.completions.create(model="personal", messages=HELLO, extra_body={"preferences": preferences})

    first, second = servers.calls
    assert answer.model_extra is not None
    assert alone.model_extra is not None
    composed = alone.model_extra["multifacet"]["system"]
    assert "rhyme" in composed
    assert first.messages[0] == {"role": "system", "content": f"{composed}\n\nYou sell boats."}
    assert answer.model_extra["multifacet"]["system"] == first.messages[0]["content"]
    assert second.messages == [{"role": "system", "content": composed}, *HELLO]


async def test_an_answer_without_a_limit_is_bounded_by_ours_where_the_server_has_a_larger_one(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "small", total_tokens=2048)
    await deploy(state, "large", total_tokens=100_000)
    for name in ("small", "large"):
        await ai.chat.completions.create(model=name, messages=HELLO)
    assert [call.parameters.max_new_tokens for call in servers.calls] == [None, 8192]


async def test_a_limit_that_was_ours_is_lowered_to_what_fits(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy(state, "tight", total_tokens=10_000)
    servers.pieces = [PromptTooLong("no room", by_tokens=1_000)]
    with pytest.raises(openai.BadRequestError):
        await ai.chat.completions.create(model="tight", messages=HELLO)
    assert [call.parameters.max_new_tokens for call in servers.calls] == [8192, 7192]


async def test_too_many_characters_are_refused_saying_how_many(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    await deploy_once(state, "short")
    with pytest.raises(openai.BadRequestError, match="5 more than the 400,000"):
        await ai.chat.completions.create(model="short", messages=[{"role": "user", "content": "x" * 400_005}])


async def test_a_text_with_lone_surrogates_does_not_break_the_answer(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers
) -> None:
    await deploy_once(state, "broken")
    servers.pieces = [Piece("a\ud800b"), Piece("", finish_reason="stop", usage=TokenUsage(1, 1))]
    answer = await ai.chat.completions.create(model="broken", messages=HELLO)
    assert answer.choices[0].message.content == "a?b"


async def test_a_fault_of_ours_is_a_bare_500_that_logs_no_text(
    ai: openai.AsyncOpenAI, state: ApiState, servers: FakeServers, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy_once(state, "faulty")
    servers.pieces = [RuntimeError("the text of Hello?")]
    with caplog.at_level(logging.DEBUG), pytest.raises(openai.InternalServerError) as failed:
        await ai.chat.completions.create(model="faulty", messages=HELLO)
    assert error_of(failed.value)["code"] == "internal_error"
    assert "Hello" not in failed.value.response.text
    assert "Hello" not in caplog.text


async def test_models_that_serve_are_listed(ai: openai.AsyncOpenAI, state: ApiState) -> None:
    deployment = await deploy(state, "listed")
    await deploy(state, "not-yet", address=None, deployment_state=DeploymentState.STARTING)
    await deploy(state, "foreign", project_id="other-project")

    listed = {model.id: model async for model in await ai.models.list()}
    one = await ai.models.retrieve("listed")

    assert "listed" in listed
    assert not {"not-yet", "foreign"} & listed.keys()
    assert one == listed["listed"]
    assert (one.object, one.owned_by) == ("model", "default")
    assert one.created > 1_700_000_000
    assert one.model_extra is not None
    told = one.model_extra["multifacet"]
    assert (told["state"], told["deployment"], told["revision"]) == ("ready", deployment, 1)
    assert (told["answered_by"], told["chats"], told["maximum_total_tokens"]) == ("model_of_a_test", True, 2048)
    with pytest.raises(openai.NotFoundError) as missing:
        await ai.models.retrieve("foreign")
    assert error_of(missing.value)["code"] == "model_not_found"
