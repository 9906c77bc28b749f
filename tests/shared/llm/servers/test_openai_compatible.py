"""What only servers with OpenAI's routes need: extensions, configuration, and the simulator as one of them."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from services.simulator.server import Simulator
from shared.domain.deployments import DeploymentTarget, ServingModel
from shared.llm.providers import Providers
from shared.llm.servers.addresses import address_of
from shared.llm.servers.errors import InvalidRequest, Overloaded, ServerUnavailable
from shared.llm.servers.opening import CallPolicy, Connections, open_server
from shared.llm.servers.protocol import GenerationParameters, Grammar, ServerAddress, ServerKind
from tests.shared.llm.servers.conftest import POLICY, Opener
from tests.shared.llm.servers.test_contract import MESSAGES, pieces_of
from tests.support.stub_model_servers import StubModelServer, error_event_after, replies

pytestmark = pytest.mark.parametrize("kind", [ServerKind.OPENAI], indirect=True)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_extensions_are_sent_to_engines_that_say_they_have_them(
    stub: StubModelServer, opened: Opener, engine: str
) -> None:
    stub.engine = engine
    server = opened(stub)
    for _ in range(2):
        await server.chat(MESSAGES, GenerationParameters(top_k=3, repetition_penalty=1.1))
        assert (stub.body["top_k"], stub.body["repetition_penalty"]) == (3, 1.1)
    assert stub.paths.count("/v1/models") == 1


@pytest.mark.parametrize("parameters", [GenerationParameters(top_k=3), GenerationParameters(repetition_penalty=1.1)])
async def test_extensions_are_refused_where_a_server_might_pass_over_them(
    stub: StubModelServer, opened: Opener, parameters: GenerationParameters
) -> None:
    stub.engine = "openai"
    with pytest.raises(InvalidRequest, match="owned_by"):
        await opened(stub).chat(MESSAGES, parameters)
    assert stub.calls == []


async def test_a_limit_is_called_as_the_provider_calls_it(stub: StubModelServer, opened: Opener) -> None:
    server = opened(stub, {"output_limit_parameter": "max_completion_tokens"})
    await server.chat(MESSAGES, GenerationParameters(max_new_tokens=2))
    assert stub.body["max_completion_tokens"] == 2
    assert "max_tokens" not in stub.body


async def test_a_schema_is_refused_by_a_provider_configured_without(stub: StubModelServer, opened: Opener) -> None:
    server = opened(stub, {"structured_output": False})
    with pytest.raises(InvalidRequest, match="json_schema"):
        await server.chat(MESSAGES, GenerationParameters(grammar=Grammar("json", {"type": "object"})))


async def test_a_model_that_the_server_does_not_have_is_named(stub: StubModelServer, opened: Opener) -> None:
    with pytest.raises(InvalidRequest, match="has no model other; it has: tiny"):
        await opened(stub, {"model": "other"}).info()


async def test_a_hosted_server_is_well_when_it_lists_its_models(stub: StubModelServer, opened: Opener) -> None:
    stub.engine = "openai"
    stub.well = False
    await opened(stub).health()
    assert "/health" not in stub.paths


async def test_an_answer_without_usage_is_counted_by_its_characters(stub: StubModelServer, opened: Opener) -> None:
    body = {"choices": [{"message": {"content": "x" * 40}, "finish_reason": "stop"}]}
    stub.faults.append(replies(200, body))
    answer = await opened(stub).chat([{"role": "user", "content": "y" * 20}], GenerationParameters())
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 10)


async def test_an_overload_before_the_first_piece_is_tried_again_and_later_is_not(
    stub: StubModelServer, opened: Opener
) -> None:
    overloaded = {"error": {"message": "slow down", "type": "rate_limit_error"}}
    server = opened(stub, tries=3)
    stub.faults.extend([replies(429, overloaded), error_event_after(1, overloaded)])
    pieces = await pieces_of(server, "chat", GenerationParameters())
    assert "".join(piece.text for piece in pieces) == "Once upon a time"
    assert len(stub.calls) == 3
    stub.faults.append(error_event_after(3, overloaded))
    with pytest.raises(Overloaded):
        await pieces_of(server, "chat", GenerationParameters())
    assert len(stub.calls) == 4


def test_a_provider_s_configuration_is_in_its_address(kind: ServerKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "k")
    providers = Providers.model_validate(
        {
            "providers": {
                "p": {
                    "base_url": "http://h/v1/",
                    "api_key_env": "THE_KEY",
                    "output_limit_parameter": "max_completion_tokens",
                    "structured_output": "prompt",
                    "models": {"m": None},
                }
            }
        }
    )
    serving = ServingModel(
        name="n",
        project_id="p",
        deployment_id="d",
        revision=1,
        state="ready",
        target=DeploymentTarget(provider="p", model="m"),
        server_kind=None,
        server_address=None,
        method=None,
    )
    address = address_of(serving, providers)
    assert address == ServerAddress(
        kind, "http://h/v1", "m", "k", output_limit_parameter="max_completion_tokens", structured_output=False
    )


@pytest.fixture
async def simulator_url() -> AsyncIterator[str]:
    runner = web.AppRunner(Simulator(seed=3).application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def test_the_simulator_is_spoken_to_like_any_other_server(
    kind: ServerKind, simulator_url: str, connections: Connections
) -> None:
    server = open_server(ServerAddress(kind, simulator_url, "simulator-small"), CallPolicy(**POLICY), connections)
    await server.health()
    assert (await server.info()).model == "simulator-small"
    answer = await server.chat(MESSAGES, GenerationParameters(seed=5))
    assert (bool(answer.text), answer.finish_reason) == (True, "stop")
    pieces = [piece async for piece in server.chat_stream(MESSAGES, GenerationParameters(seed=5))]
    assert len(pieces) > 2
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.prompt_tokens == answer.usage.prompt_tokens
    with pytest.raises(InvalidRequest, match="repetition_penalty"):
        await server.chat(MESSAGES, GenerationParameters(repetition_penalty=1.03))


async def test_a_provider_that_is_gone_is_unavailable(kind: ServerKind, connections: Connections) -> None:
    server = open_server(ServerAddress(kind, "http://localhost:1/v1", "m"), CallPolicy(**POLICY), connections)
    with pytest.raises(ServerUnavailable):
        await server.chat(MESSAGES, GenerationParameters())
