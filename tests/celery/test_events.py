"""Task events leave together, a few times a second, and none is lost when the worker stops."""

from __future__ import annotations

import json
import signal
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from okasie_tasks.worker.events import BatchedEvents
from tests.celery.scenario import Scenario
from tests.support import poll

TASKS = 5


class Hub:
    """A hub of which the test decides when something is called."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, do: Callable[[], None]) -> None:
        self.soon.append(do)

    def call_later(self, seconds: float, do: Callable[[], None]) -> None:
        assert 0 < seconds < 1
        self.later.append(do)


@pytest.fixture
def consumer() -> SimpleNamespace:
    """A worker's consumer with a dispatcher, which counts its flushes."""
    flushed: list[int] = []
    dispatcher = SimpleNamespace(on_send_buffered=None, flush=lambda: flushed.append(1))
    found = SimpleNamespace(hub=Hub(), event_dispatcher=dispatcher, _flush_events=dispatcher.flush, flushed=flushed)
    step: Any = object.__new__(BatchedEvents)
    step.start(found)
    found.step = step
    return found


def test_many_events_are_one_flush_and_the_next_ones_another(consumer: SimpleNamespace) -> None:
    hub, buffered = consumer.hub, consumer.event_dispatcher.on_send_buffered
    for turn in range(1, 4):
        for _ in range(10):
            buffered()
        (do,), hub.soon = hub.soon, []
        assert len(consumer.flushed) == turn - 1, "not before its time"
        do()
        buffered()
        (flush,), hub.later = hub.later, []
        flush()
        assert (len(consumer.flushed), hub.soon) == (turn, [])


def test_a_worker_that_stops_flushes(consumer: SimpleNamespace) -> None:
    consumer.event_dispatcher.on_send_buffered()
    consumer.step.stop(consumer)
    assert consumer.flushed == [1]


def test_a_pool_without_an_event_loop_has_no_buffer(consumer: SimpleNamespace) -> None:
    consumer.hub, consumer.event_dispatcher.on_send_buffered = None, None
    consumer.step.start(consumer)
    assert consumer.event_dispatcher.on_send_buffered is None


@pytest.mark.parametrize("like", ["ours-threads", "ours-prefork"])
def test_no_event_is_lost_when_the_worker_stops(scenario: Scenario, like: str) -> None:
    """They arrive in messages of several."""
    client = scenario.clients["ours"]
    with client.pubsub() as listener:
        listener.psubscribe("*celeryev*")
        poll(listener.get_message, what="the subscription")
        node = scenario.beside(like)
        for number in range(4 * TASKS):
            scenario.send(like, "jobs.part", name="events", number=number)
        poll(lambda: scenario.idle(like), what="all tasks done")
        node.signal(signal.SIGTERM)
        poll(lambda: not node.child.alive, what="its end")
        kinds: Counter[str] = Counter()
        sizes: list[int] = []
        while (message := listener.get_message(timeout=1)) is not None:
            body = json.loads(b64decode(json.loads(message["data"])["body"]))
            events = body if isinstance(body, list) else [body]
            mine = [event["type"] for event in events if event["hostname"].startswith(f"{like}-2@")]
            kinds.update(kind for kind in mine if kind.startswith("task-"))
            sizes.append(sum(kind.startswith("task-") for kind in mine))
    assert kinds["task-received"] == kinds["task-started"] == kinds["task-succeeded"] > 0
    assert max(sizes) > 1
