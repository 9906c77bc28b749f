"""The provider in bad shape does what its plan says, by the seed, and lets everything else through untouched."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from aiohttp import web

from tests.chaos.faulty_endpoint import EndpointFault, FaultyEndpoint, Plan


async def _served(application: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[FaultyEndpoint, str, list[bytes]]]:
    reached: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        reached.append(await request.read())
        return web.json_response({"told": request.headers["x-class"]})

    upstream = web.Application()
    upstream.router.add_post("/v1/chat/completions", answer)
    behind, address = await _served(upstream)
    made = FaultyEndpoint(address)
    before, url = await _served(made.application())
    yield made, f"{url}/v1/chat/completions", reached
    await before.cleanup()
    await behind.cleanup()


async def _ask(url: str, body: str = "please") -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=0.5) as client:
        return await client.post(url, content=body, headers={"x-class": "respond", "Authorization": "Bearer sk-told"})


@pytest.mark.parametrize(
    ("fault", "status", "holds"),
    [
        (EndpointFault.RATE_LIMITED, 429, "slow down"),
        (EndpointFault.SERVER_ERROR, 500, "Bearer sk-told asked please"),
        (EndpointFault.HTML_502, 502, "<html>"),
        (EndpointFault.MALFORMED_JSON, 200, "never whole"),
        (EndpointFault.ERROR_IN_200, 200, "overloaded"),
        (EndpointFault.EMPTY_200, 200, ""),
        (EndpointFault.UNAUTHORIZED, 401, "sk-told"),
        (EndpointFault.REFUSED, 400, "please"),
        (EndpointFault.REDIRECT, 307, ""),
    ],
)
async def test_answers_that_are_none(
    endpoint: tuple[FaultyEndpoint, str, list[bytes]], fault: EndpointFault, status: int, holds: str
) -> None:
    made, url, reached = endpoint
    made.plan = Plan(faults=(fault,), tries=1, retry_after="7")
    answer = await _ask(url)
    assert answer.status_code == status
    assert holds in answer.text
    assert answer.headers.get("Retry-After") == ("7" if fault is EndpointFault.RATE_LIMITED else None)
    assert reached == []
    assert (await _ask(url)).json() == {"told": "respond"}  # the second try of this body passes
    assert reached == [b"please"]
    assert made.struck == {fault.value: 1}


@pytest.mark.parametrize(
    "fault",
    [
        EndpointFault.HANG,
        EndpointFault.DRIP,
        EndpointFault.RESET,
        EndpointFault.RESET_IN_BODY,
        EndpointFault.ENDLESS,
    ],
)
async def test_answers_that_do_not_end(endpoint: tuple[FaultyEndpoint, str, list[bytes]], fault: EndpointFault) -> None:
    made, url, reached = endpoint
    made.plan = Plan(faults=(fault,))

    async def read_for_a_while() -> None:
        size = 0
        async with httpx2.AsyncClient(timeout=0.15) as client, client.stream("POST", url, content="please") as answer:
            async for chunk in answer.aiter_bytes():
                size += len(chunk)
                if size > 1 << 20:
                    raise TimeoutError("it goes on and on")

    with pytest.raises((httpx2.HTTPError, TimeoutError)):
        await read_for_a_while()
    assert reached == []


async def test_the_seed_decides_whom_a_share_meets(endpoint: tuple[FaultyEndpoint, str, list[bytes]]) -> None:
    made, _, _ = endpoint

    def met(seed: int) -> list[bool]:
        made.plan = Plan(faults=(EndpointFault.RESET,), share=0.3, seed=seed)
        made.seen.clear()
        return [made.decide(b"%d" % number) is not None for number in range(500)]

    assert met(1) == met(1) != met(2)
    assert 100 < sum(met(3)) < 200
