"""Doorbells are rung for at most twice the free slots, whoever hears which queues."""

from hypothesis import given
from hypothesis import strategies as st

from services.controller.dispatch import Room
from shared.metadata.repositories.workers import LiveWorker

QUEUES = ["curation", "augmentation", "composition", "generation"]

workers = st.builds(
    LiveWorker,
    id=st.just("w"),
    roles=st.lists(st.sampled_from(QUEUES), min_size=1, unique=True).map(tuple),
    slots=st.just(8),
    free=st.integers(0, 5),
)


@given(st.lists(workers, max_size=5), st.dictionaries(st.sampled_from(QUEUES), st.integers(0, 20)), st.data())
def test_never_more_than_twice_the_free_slots_in_total_and_per_queue(
    live: list[LiveWorker], outstanding: dict[str, int], data: st.DataObject
) -> None:
    room = Room(live, outstanding)
    taken = [queue for queue in data.draw(st.lists(st.sampled_from(QUEUES), max_size=60)) if room.take(queue)]
    for queue in QUEUES:
        hearing = 2 * sum(worker.free for worker in live if queue in worker.roles)
        if taken.count(queue):
            assert taken.count(queue) + outstanding.get(queue, 0) <= hearing
    assert len(taken) <= 2 * sum(worker.free for worker in live)
    assert set(taken) <= {role for worker in live if worker.free for role in worker.roles}


def test_specialists_are_rung_for_before_those_who_hear_everything() -> None:
    versatile = LiveWorker("a", tuple(QUEUES), 1, 1)
    specialist = LiveWorker("b", ("generation",), 1, 1)
    room = Room([versatile, specialist], {})
    assert [room.take("generation"), room.take("generation")] == [True, True]
    assert [room.take("curation"), room.take("curation"), room.take("curation")] == [True, True, False]


def test_without_free_slots_no_queue_has_room() -> None:
    assert Room([LiveWorker("a", tuple(QUEUES), 2, 0)], {}).queues == []
    assert Room([], {"curation": 3}).queues == []
