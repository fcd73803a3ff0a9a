"""No list entry ends a worker: the malformed ones are quarantined, and the lanes continue.

``OKASIE_RANDOM_MESSAGES=100000`` sends more of them; see CONTRIBUTING.md.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import redis

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.quarantine import Quarantine
from okasie_tasks.worker.settings import QUEUE_OF
from tests.celery.random_messages import ARGUMENTS, encoded, messages, real
from tests.support import Place, Up, poll

pytestmark = pytest.mark.system

COUNT = int(os.environ.get("OKASIE_RANDOM_MESSAGES", "2000"))
SEED = int(os.environ.get("OKASIE_RANDOM_SEED", "1"))
AT_ONCE = 5_000
QUEUES = sorted(set(QUEUE_OF.values()))


class Running:
    """A running system whose queues a test writes to."""

    def __init__(self, place: Place, up: Up, client: redis.Redis) -> None:
        self.place, self.up, self.client = place, up, client
        self._workers = self.workers()

    def workers(self) -> dict[str, int]:
        """Name -> process id."""
        found = {}
        for process in psutil.Process(self.up.process.pid).children():
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                command = process.cmdline()
                if "worker" in command:
                    found[command[command.index("-n") + 1]] = process.pid
        return found

    def put(self, queue: str, *entries: bytes) -> None:
        self.client.lpush(queue, *entries)

    def worked_off(self, seconds: float = 120) -> None:
        """Wait until nothing is queued or held."""
        keys = [key for queue in QUEUES for key in (queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9)))]

        def empty() -> bool:
            self.alive()
            return not any(self.client.llen(key) for key in keys) and not self.client.hlen("unacked")

        poll(empty, seconds=seconds, what="empty queues")

    def alive(self) -> None:
        """Each worker is the process that it was, and never had to connect again."""
        assert self.workers() == self._workers, self.up.said()
        for worker in ("control", "urgent", "api", "diff"):
            assert "Connection to broker lost" not in self.log(worker)

    def quarantines(self, queue: str, raw: bytes, what: str) -> None:
        before = self.quarantined()
        self.put(queue, raw)
        poll(lambda: self.quarantined() > before, seconds=60, what=f"the quarantine of {what!r} from {queue}")

    def quarantined(self) -> int:
        return Quarantine(self.client, prefix="okasie:").total()

    def quarantine(self) -> dict[str, Any]:
        answer = self.place.okasie("status", "--json")
        assert answer.status == 0, answer.text
        document: dict[str, Any] = answer.document["quarantine"]
        return document

    def log(self, worker: str) -> str:
        return (self.place.folder / ".okasie" / "logs" / f"{worker}.log").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = Place(tmp_path_factory.mktemp("random"))
    with Sandbox([Key("a-secret-key", "dex")], limit=0, burst_per_second=100_000) as sandbox:
        write_csv(place.folder / "feed.csv", cars(12, seed=1))
        quota = "requests_per_minute = 1000000\nburst_per_second = 100000\n"
        place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="a-secret-key", extra=quota)
        with Up(place) as up:
            url = find_embedded(place.folder / ".okasie")
            assert url is not None
            with redis.Redis.from_url(url) as client:
                assert place.sync("dex", "--full")[0] == 0
                yield Running(place, up, client)


DEEP = json.loads("[" * 80 + "]" * 80)
WRONG: dict[str, Any] = {
    "no JSON": b"\xff\xfenot json",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "no properties": b'{"body": "", "headers": {}}',
    "deep": b"[" * 100_000,
    "a long number": b"9" * 100_000,
    "a type of kombu": b'{"__type__": "uuid", "__value__": 7}',
    "timelimit of text": {"headers": {"timelimit": "x"}},
    "timelimit of nothing": {"headers": {"timelimit": [0.001, 0.001]}},
    "an empty eta": {"headers": {"eta": ""}},
    "eta of text": {"headers": {"eta": "soon"}},
    "eta in the year 9999": {"headers": {"eta": "9999-12-31T23:59:59"}},
    "expires in the year 1": {"headers": {"expires": "0001-01-01T00:00:00+14:00"}},
    "retries of text": {"headers": {"retries": "x"}},
    "no id": {"headers": {"id": None}},
    "an id that is no text": {"headers": {"id": "\ud800"}},
    "an unknown task": {"headers": {"task": "nobody.knows"}},
    "a task of Celery": {"headers": {"task": "celery.chord_unlock"}},
    "a header that hides an attribute": {"headers": {"called_directly": True}},
    "properties of text": {"properties": "x"},
    "no delivery_tag": {"properties": {"delivery_tag": None}},
    "delivery_tag of a number": {"properties": {"delivery_tag": 7}},
    "delivery_info of text": {"properties": {"delivery_info": "x"}},
    "priority without end": {"properties": {"priority": float("inf")}},
    "body_encoding": {"properties": {"body_encoding": "x"}},
    "body is no base64": {"body": "[[], {}, {}]"},
    "body of a number": {"body": 7},
    "body of another shape": {"body": [1, 2]},
    "arguments that do not fit": {"body": [[], {"colour": "red"}, {}]},
    "deep arguments": {"body": [[], {"account": DEEP}, {}]},
    "chord of a number": {"body": [[], {"account": "dex"}, {"chord": 7}]},
    "content-type": {"content-type": "application/x-python-serialize"},
    "content-encoding": {"content-encoding": 7},
    "compression": {"headers": {"compression": "zlib"}},
}


def entry(wrong: Any) -> bytes:
    if isinstance(wrong, bytes):
        return wrong
    message = real("okasie.send_urgent", {"account": "dex"})
    for name, value in wrong.items():
        if isinstance(value, dict):
            message[name] |= value
        else:
            message[name] = value
    return encoded(message)


def test_each_malformed_message_is_quarantined_with_its_reason_and_the_lanes_continue(running: Running) -> None:
    for name, wrong in WRONG.items():
        for queue in QUEUES:
            running.quarantines(queue, entry(wrong), name)
    running.worked_off()
    assert_works(running)
    found = running.quarantine()
    assert found["total"] == len(WRONG) * len(QUEUES)
    assert len(found["last"]) == 5
    assert found["last"][0]["queue"] == QUEUES[-1]
    assert found["last"][0]["reason"] == "compressed with 'zlib', which is not in use here"
    assert "malformed message quarantined" in running.log("urgent")
    text = running.place.okasie("status").stdout
    assert f"quarantine: {found['total']} malformed messages" in text


def assert_works(running: Running) -> None:
    running.alive()
    status, document = running.place.sync("dex", "--full")
    assert (status, document["state"]) == (0, "done")
    answer = running.place.okasie("push", "dex", "DG-00001", "--json")
    assert (answer.status, answer.document["error"]) == (0, None)


@pytest.mark.timeout(7_200)
def test_random_messages_end_no_worker(running: Running) -> None:
    assert set(ARGUMENTS) == set(QUEUE_OF)
    batch: dict[str, list[bytes]] = {}
    for number, (queue, raw) in enumerate(messages(SEED, COUNT), 1):
        batch.setdefault(queue, []).append(raw)
        if number % AT_ONCE == 0 or number == COUNT:
            for name, entries in batch.items():
                running.put(name, *entries)
            batch.clear()
            running.worked_off(seconds=600)
    running.worked_off()
    assert_works(running)
    assert running.quarantine()["total"] > COUNT / 3


def test_a_malformed_broadcast_ends_no_worker(running: Running) -> None:
    for raw in (b"null", b"[]", b"{}", b"7", b"[" * 100_000, b'{"properties": {}}', b"\xff"):
        assert running.client.publish("/0.celery.pidbox", raw) >= len(running.workers())
    poll(lambda: "malformed broadcast ignored" in running.log("control"), what="the log line")
    assert_works(running)


def test_a_malformed_entry_of_unacked_stops_no_restore(running: Running) -> None:
    """A message whose worker died returns, in spite of those beside it."""
    good = real("okasie.watchdog", {})
    tag = good["properties"]["delivery_tag"]
    running.client.hset("unacked", mapping={
        "1": b"null", "2": b"\xff", "3": b'[null, "", "okasie.control"]', "4": b'[{"headers": {}, "properties": {"delivery_info": {}}}, "nobody", "x"]',
        tag: b'[%s, "okasie.control", "okasie.control"]' % encoded(good),
    })  # fmt: skip
    theirs = b'[{"body": 7, "headers": {}, "properties": {"delivery_info": {}}}, "", "of another application"]'
    running.client.hset("unacked", "5", theirs)
    before = running.quarantine()["total"]
    running.client.zadd("unacked_index", dict.fromkeys(("1", "2", "3", "4", "5", tag), 1))
    running.worked_off()
    assert running.client.llen("of another application") == 1
    assert running.client.zcard("unacked_index") == 0
    poll(lambda: good["headers"]["id"] in running.log("control"), what="the restored message")
    assert running.quarantine()["total"] == before + 4
    assert_works(running)


def test_a_message_that_names_another_queue_returns_to_its_own(running: Running) -> None:
    message = real("okasie.watchdog", {})
    message["properties"]["delivery_info"] = {"exchange": "nobody", "routing_key": "nowhere"}
    message["headers"]["eta"] = "2000-01-01T00:00:00"
    running.put("okasie.control", encoded(message))
    poll(lambda: message["headers"]["id"] in running.log("control"), what="the message")
    running.worked_off()
