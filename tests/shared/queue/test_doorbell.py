"""Doorbells over a real Redis: published in order, heard at most `slots` at once, a lost broker never ends a worker."""

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import redis

from services.cli.embedded.redis import EmbeddedRedis
from shared.metadata.repositories.scheduling import DoorbellRow
from shared.queue.celery_app import RUN_STEP, create_app
from shared.queue.doorbell import DoorbellPublisher
from shared.queue.doorbell_worker import DoorbellWorker
from shared.telemetry.tracing import TRACEPARENT
from tests.support.servers import free_port


def doorbells(queue: str, count: int, first: int = 0) -> list[DoorbellRow]:
    return [DoorbellRow(n, f"step_{n}", n + 1, queue) for n in range(first, first + count)]


def test_doorbells_are_published_to_their_queues_in_order(redis_url: str) -> None:
    publisher = DoorbellPublisher(redis_url)
    one, two = f"q{uuid4().hex}", f"q{uuid4().hex}"
    assert publisher.publish([*doorbells(one, 3), *doorbells(two, 1, first=7)]) == [0, 1, 2, 7]
    publisher.close()
    client = redis.Redis.from_url(redis_url)
    assert (client.llen(one), client.llen(two)) == (3, 1)


def test_an_unreachable_broker_publishes_nothing_and_raises_nothing() -> None:
    publisher = DoorbellPublisher(f"redis://127.0.0.1:{free_port()}/0")
    assert publisher.publish(doorbells("q", 2)) == []
    publisher.close()


def test_a_broker_that_was_away_is_rung_again_when_it_is_back(tmp_path: Path) -> None:
    broker = EmbeddedRedis(free_port(), tmp_path / "redis.log")
    publisher = DoorbellPublisher(broker.url)
    queue = f"q{uuid4().hex}"
    broker.start()
    try:
        assert publisher.publish(doorbells(queue, 1)) == [0]
        broker.stop()
        for _ in range(12):  # more often than Celery keeps connections
            assert publisher.publish(doorbells(queue, 2, first=1)) == []
        broker.start()
        assert publisher.publish(doorbells(queue, 2, first=1)) == [1, 2]
        assert redis.Redis.from_url(broker.url).llen(queue) == 2
    finally:
        publisher.close()
        broker.stop()


def test_a_worker_hears_at_most_its_slots_at_once_and_survives_a_flushed_broker(redis_url: str) -> None:
    queue = f"q{uuid4().hex}"
    client = redis.Redis.from_url(redis_url)
    heard: list[str] = []
    running, most = 0, 0
    lock = threading.Lock()

    def answer(step_id: str, dispatch_no: int, trace: str | None) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
            heard.append(f"{step_id}/{dispatch_no}")

    worker = DoorbellWorker(redis_url, [queue], 2, "test", answer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    publisher = DoorbellPublisher(redis_url)
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join, 30)
        stack.callback(worker.stop)
        publisher.publish(doorbells(queue, 6))
        await_length(heard, 6)
        client.flushall()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        # What was lost is rung again by the controller; here we ring until it is heard.
        deadline = time.monotonic() + 60
        while "step_9/10" not in heard:
            assert time.monotonic() < deadline
            publisher.publish(doorbells(queue, 1, first=9))
            time.sleep(0.3)
    publisher.close()
    assert heard[:6]
    assert sorted(heard[:6]) == [f"step_{n}/{n + 1}" for n in range(6)]
    assert most == 2
    assert not thread.is_alive()


def test_slots_beyond_the_capacity_stay_empty_until_it_grows(redis_url: str) -> None:
    queue = f"q{uuid4().hex}"
    heard: list[str] = []
    leave = threading.Event()
    capacity = [1]

    def answer(step_id: str, _: int, __: str | None) -> None:
        heard.append(step_id)
        leave.wait(60)

    worker = DoorbellWorker(redis_url, [queue], 3, "test", answer, lambda: capacity[0])
    thread = threading.Thread(target=worker.run)
    thread.start()
    publisher = DoorbellPublisher(redis_url)
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join, 30)
        stack.callback(worker.stop)
        stack.callback(leave.set)
        publisher.publish(doorbells(queue, 5))
        await_length(heard, 1)
        time.sleep(1.5)
        assert len(heard) == 1
        capacity[0] = 2
        worker.look_again()
        await_length(heard, 2)
        capacity[0] = 9
        worker.look_again()
        await_length(heard, 3)
        time.sleep(1.5)
        assert len(heard) == 3  # never more than there are slots
    publisher.close()


def test_the_trace_of_a_doorbell_comes_with_it_and_any_other_header_means_none(redis_url: str) -> None:
    queue = f"q{uuid4().hex}"
    trace = f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"
    heard: list[tuple[str, str | None]] = []
    worker = DoorbellWorker(redis_url, [queue], 1, "test", lambda step_id, _, trace: heard.append((step_id, trace)))
    thread = threading.Thread(target=worker.run)
    thread.start()
    publisher = DoorbellPublisher(redis_url)
    app = create_app(redis_url, ())
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join, 30)
        stack.callback(worker.stop)
        publisher.publish([DoorbellRow(0, "traced", 1, queue, trace), DoorbellRow(1, "plain", 1, queue)])
        app.send_task(
            RUN_STEP, kwargs={"step_id": "odd", "dispatch_no": 1}, queue=queue, headers={TRACEPARENT: {"not": "a text"}}
        )
        await_length(heard, 3)
    app.close()
    publisher.close()
    assert heard == [("traced", trace), ("plain", None), ("odd", None)]


def await_length(items: Sequence[object], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(items) < count:
        assert time.monotonic() < deadline, items
        time.sleep(0.02)
