"""Retry-After, jitter, and connections that fell silent. The wire itself is tested with the models."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web

from shared.llm.transport import Transport, TransportFailed, backoff_seconds, parse_retry_after
from tests.chaos.link import Link

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 12:00:07 GMT", 7.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_backoff_spreads_over_a_growing_range_with_an_end() -> None:
    for retry in range(200):
        assert 0 <= backoff_seconds(retry) <= min(20.0, 0.25 * 2 ** min(retry, 16))
    assert len({backoff_seconds(5) for _ in range(20)}) > 10


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """Leads to a server that answers what its address says, after so many seconds."""

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.match_info["seconds"]))
        return web.Response(text=request.match_info["seconds"])

    application = web.Application()
    application.router.add_post("/{seconds}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = Link(("127.0.0.1", runner.addresses[0][1]))
    yield made
    made.close()
    await runner.cleanup()


async def test_after_one_silent_connection_no_other_idle_one_is_tried(link: Link) -> None:
    transport = Transport(8)
    await transport.start()
    url = f"http://127.0.0.1:{link.port}"

    async def post(seconds: float, patience: float) -> bytes:
        return (await transport.post(f"{url}/{seconds}", b"{}", {}, patience)).body

    await asyncio.gather(*(post(0.2, 30) for _ in range(6)))  # so many connections lie idle now
    link.hold()
    link.open()
    with pytest.raises(TransportFailed, match="no answer within"):
        await post(0, 1)
    assert await post(0, 30) == b"0"
    await transport.close()


async def test_calls_that_are_open_beside_a_silent_one_are_still_answered(link: Link) -> None:
    transport = Transport(8)
    await transport.start()
    url = f"http://127.0.0.1:{link.port}"
    slow = asyncio.create_task(transport.post(f"{url}/2.5", b"{}", {}, 30))
    with pytest.raises(TransportFailed, match="no answer within"):
        await transport.post(f"{url}/20", b"{}", {}, 0.5)
    assert (await transport.post(f"{url}/0", b"{}", {}, 30)).body == b"0"
    assert (await slow).body == b"2.5"
    assert not transport._retired, "the last call of the old connections has closed them"
    await transport.close()
