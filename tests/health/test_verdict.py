"""The judgement of a heartbeat, by tables: no clock, no process."""

from __future__ import annotations

from typing import Any

import pytest

from okasie_tasks.health.files import Heartbeat
from okasie_tasks.health.operations import Operations, Slot
from okasie_tasks.health.verdict import MOST_LOOKS, STALL_SECONDS, STUCK_SECONDS, WAIT_SECONDS, problems

NOW = 10_000.0
LATE = NOW - STALL_SECONDS - 1
LONG = NOW - 10 * STALL_SECONDS


def heartbeat(**more: Any) -> Heartbeat:
    facts: dict[str, Any] = {
        "worker": "api@node", "host": "node", "pid": 1, "started": "1", "queues": ("okasie.api",), "version": "1",
        "configuration": "c", "state": "consuming", "written_at": NOW, "looped_at": NOW, "unpolled": 0,
        "unprobed": 0, "concurrency": 2,
    }  # fmt: skip
    return Heartbeat(**facts | more)


BUSY = Slot("okasie.fetch_page", "GET list", LONG, NOW - STUCK_SECONDS)
STUCK = Slot("okasie.fetch_page", "GET list", LONG, NOW - STUCK_SECONDS - 1)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"written_at": NOW - STALL_SECONDS, "looped_at": NOW - STALL_SECONDS - 2},
        {"looped_at": NOW - STALL_SECONDS},
        {"unpolled": MOST_LOOKS, "unprobed": MOST_LOOKS, "slots": (BUSY, BUSY)},
        # A Redis that is away, and a worker that finishes its tasks.
        {"state": "connecting", "looped_at": NOW - WAIT_SECONDS, "unpolled": 99, "unprobed": 99},
        {"state": "waiting", "looped_at": NOW - WAIT_SECONDS, "unpolled": 99, "unprobed": 99},
        {"state": "migrating", "looped_at": NOW - WAIT_SECONDS, "waits_for": "old@node"},
        {"state": "stopping", "looped_at": LONG, "unpolled": 99, "slots": (BUSY,)},
    ],
)
def test_a_worker_that_works_is_healthy(facts: dict[str, Any]) -> None:
    assert list(problems(heartbeat(**facts), NOW)) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"written_at": LATE}, "no heartbeat"),
        ({"looped_at": LATE}, "event loop"),
        ({"unpolled": MOST_LOOKS + 1}, "does not ask its queues"),
        ({"unprobed": MOST_LOOKS + 1}, "with a free slot"),
        ({"state": "connecting", "looped_at": NOW - WAIT_SECONDS - 1}, "without an attempt"),
        ({"state": "waiting", "looped_at": NOW - WAIT_SECONDS - 1}, "without an attempt or an answer"),
        ({"state": "migrating", "looped_at": NOW - WAIT_SECONDS - 1}, "without an attempt or an answer"),
        ({"slots": (BUSY, STUCK)}, "okasie.fetch_page, GET list"),
        ({"slots": (STUCK,), "state": "stopping"}, "after its deadline"),
        ({"slots": (STUCK,), "state": "connecting"}, "after its deadline"),
    ],
)
def test_what_is_wrong_is_named(facts: dict[str, Any], words: str) -> None:
    (problem,) = problems(heartbeat(**facts), NOW)
    assert words in problem


def test_the_file_ages_although_nothing_writes_it() -> None:
    """A stopped process cannot report itself."""
    assert list(problems(heartbeat(), NOW + STALL_SECONDS + 1))


def test_a_slot_has_the_deadline_of_its_operation() -> None:
    now = [100.0]
    operations = Operations(clock=lambda: now[0])
    operations.begin_task("okasie.fetch_page")
    with operations.operation("GET list", 20):
        now[0] += 5
        (slot,) = operations.slots()
        assert slot == Slot("okasie.fetch_page", "GET list", 100.0, 120.0)
    (slot,) = operations.slots()
    assert (slot.operation, slot.since) == ("", 105.0), "a slot batch of any length is no stuck slot"
    operations.end_task()
    assert operations.slots() == ()
    with operations.operation("GET list", 20):
        assert operations.slots() == (), "a command is no worker"
