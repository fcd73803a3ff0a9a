"""Whether a message waits for a slot, in a worker of threads and in a prefork child, which reads only the queue."""

from __future__ import annotations

import pytest
from celery.concurrency.prefork import TaskPool as Prefork
from celery.concurrency.thread import TaskPool as Threads
from celery.worker import state

from okasie_tasks.tasks.part_runner import PoolSlots


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def threads(count: int, clock: Clock) -> PoolSlots:
    slots = PoolSlots(clock)
    slots.bind(Threads(limit=count))
    return slots


def at_work(patch: pytest.MonkeyPatch, active: int, waiting: int = 0) -> None:
    patch.setattr(state, "active_requests", range(active))
    patch.setattr(state, "reserved_requests", range(active + waiting))


@pytest.mark.parametrize(
    ("active", "in_worker", "in_queue", "contended"),
    [
        (4, 1, False, True),
        (4, 0, True, True),
        (4, 0, False, False),
        (3, 0, True, False),
        (3, 1, False, False),  # it is about to begin
    ],
)
def test_a_slot_is_contended_when_all_are_taken_and_a_message_waits(
    monkeypatch: pytest.MonkeyPatch, active: int, in_worker: int, *, in_queue: bool, contended: bool
) -> None:
    at_work(monkeypatch, active, in_worker)
    assert threads(4, Clock()).contended("walk", lambda _: in_queue) is contended


def test_a_child_of_a_prefork_pool_reads_only_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work(monkeypatch, 0, 3)  # what its parent had when it forked
    slots = PoolSlots(Clock())
    slots.bind(Prefork.__new__(Prefork))
    assert not slots.contended("walk", lambda _: False)
    assert slots.contended("load", lambda _: True)


def test_each_queue_is_read_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work(monkeypatch, 4)
    clock, reads = Clock(), list[str]()
    slots = threads(4, clock)
    for clock.seconds in (0.0, 0.05, 0.09, 0.1, 0.15):
        slots.contended("walk", lambda queue: bool(reads.append(queue)))
    slots.contended("load", lambda queue: bool(reads.append(queue)))
    assert reads == ["walk", "walk", "load"]


@pytest.mark.parametrize(
    ("should_stop", "stopping"), [(None, False), (False, False), (0, True), (1, True), (True, True)]
)
def test_a_worker_stops_when_celery_says_so(
    monkeypatch: pytest.MonkeyPatch, should_stop: object, *, stopping: bool
) -> None:
    monkeypatch.setattr(state, "should_stop", should_stop)
    assert PoolSlots.stopping() is stopping
