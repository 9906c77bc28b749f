"""Ringing goes on when the broker is back, however it was away."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis

from services.cli.embedded.redis import EmbeddedRedis
from shared.metadata.repositories.scheduling import DoorbellRow
from shared.queue.doorbell import DoorbellPublisher
from tests.chaos.link import Link


@pytest.fixture
def link(redis_server: EmbeddedRedis) -> Iterator[Link]:
    made = Link(("127.0.0.1", redis_server.port))
    yield made
    made.close()


def refuse(link: Link) -> None:
    link.refuse()


def cut(link: Link) -> None:
    link.cut()


def hold(link: Link) -> None:
    link.hold()


@pytest.mark.parametrize("before", [False, True], ids=["never reached before", "reached before"])
@pytest.mark.parametrize("away", [refuse, cut, hold])
async def test_doorbells_are_published_once_the_broker_is_back(
    link: Link, redis_server: EmbeddedRedis, away: Callable[[Link], None], before: bool
) -> None:
    queue = f"queue-{uuid4().hex[:8]}"
    publisher = DoorbellPublisher(f"redis://127.0.0.1:{link.port}/0")
    client = redis.Redis(port=redis_server.port)

    def ring(number: int) -> list[int]:
        return publisher.publish([DoorbellRow(id=number, step_id=f"step_{number}", dispatch_no=1, queue=queue)])

    rung = 0
    if before:
        assert await asyncio.to_thread(ring, 1) == [1]
        rung += 1
    away(link)
    for number in (2, 3):
        rung += len(await asyncio.to_thread(ring, number))
    link.open()
    assert await asyncio.to_thread(ring, 4) == [4]
    assert await asyncio.to_thread(ring, 5) == [5]
    assert client.llen(queue) == rung + 2
    client.close()
    await asyncio.to_thread(publisher.close)
