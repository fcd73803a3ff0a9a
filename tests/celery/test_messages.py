"""What the check of messages lets through: the messages of every producer, unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.serialization import prepare_accept_content

from okasie_tasks.worker.messages import LONGEST_BYTES, MalformedMessage, Rules, UnknownTask, checked
from tests.celery.random_messages import encoded, real

QUEUE = "okasie.control"


def watchdog(every_seconds: float = 1.0) -> None:
    """The arguments of the one task that is known here."""
    del every_seconds


@pytest.fixture
def check() -> Iterator[Callable[[bytes], bytes]]:
    rules = Rules({"okasie.watchdog": watchdog}, prepare_accept_content(["json"]))
    with Connection("memory://") as connection:
        channel = connection.channel()
        yield lambda raw: checked(raw, queue=QUEUE, exchange=QUEUE, channel=channel, rules=rules)


def test_a_message_of_celery_is_not_changed(check: Callable[[bytes], bytes]) -> None:
    stamps = {"stamped_headers": ["run"], "stamps": {"run": ["1"]}, "traceparent": "00-1", "retries": 3}
    message = real("okasie.watchdog", {"every_seconds": 5}, eta="2026-01-01T00:00:00+00:00", **stamps)
    message["headers"]["expires"] = "2999-01-01T00:00:00"
    message["headers"]["timelimit"] = [300, 240.5]
    assert check(raw := encoded(message)) == raw


def test_a_message_that_celery_publishes_passes(check: Callable[[bytes], bytes]) -> None:
    with Celery("theirs", broker="memory://", set_as_current=False) as app, app.connection_for_write() as connection:
        app.send_task(
            "okasie.watchdog", kwargs={"every_seconds": 5}, queue=QUEUE, countdown=10, expires=60, connection=connection,
            link=app.signature("okasie.watchdog"), chain=[app.signature("okasie.watchdog")],
            chord=app.signature("okasie.watchdog"), headers={"mine": [1]}, priority=3, soft_time_limit=9,
        )  # fmt: skip
        message = connection.default_channel._get(QUEUE)
    check(json.dumps(message).encode())


def test_the_shortest_message_of_the_manual_passes(check: Callable[[bytes], bytes]) -> None:
    message: dict[str, Any] = {
        "body": "[[], {}, {}]", "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "okasie.watchdog", "id": "1"},
        "properties": {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": QUEUE}},
    }  # fmt: skip
    assert check(raw := json.dumps(message).encode()) == raw


def test_a_message_is_restored_to_the_queue_it_came_from(check: Callable[[bytes], bytes]) -> None:
    """By its ``delivery_info``, which may name another one that nobody consumes."""
    message = real("okasie.watchdog", {})
    message["properties"]["delivery_info"] = {"exchange": "nobody", "routing_key": "nowhere", "redelivered": True}
    delivered = json.loads(check(encoded(message)))
    assert delivered["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE, "redelivered": True}
    assert delivered["headers"] == message["headers"]


@pytest.mark.parametrize("name", ["id", "root_id", "group"])
def test_an_id_is_any_text_that_can_be_a_key(check: Callable[[bytes], bytes], name: str) -> None:
    for good in ("a b", "é", "x" * 255):
        assert check(encoded(real("okasie.watchdog", {}, **{name: good})))
    for bad in ("", "a\n", "\x7f", "\ud800", "x" * 256, 7):
        with pytest.raises(MalformedMessage):
            check(encoded(real("okasie.watchdog", {}, **{name: bad})))


def test_a_message_that_is_too_long_is_not_read(check: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedMessage, match="longer than"):
        check(b" " * (LONGEST_BYTES + 1))


def test_a_deeply_nested_message_of_an_unknown_task_is_not_one_of_another_release(
    check: Callable[[bytes], bytes],
) -> None:
    """It would be encoded to be put back, where the depth raises in the worker's main thread."""
    value: Any = 1
    for _ in range(70):
        value = [value]
    message = real("okasie.watchdog", {}, newer=[1])
    message["headers"]["task"] = "okasie.newer"
    with pytest.raises(UnknownTask):
        check(encoded(message))
    message["headers"]["newer"] = value
    with pytest.raises(MalformedMessage, match="levels deep"):
        check(encoded(message))
