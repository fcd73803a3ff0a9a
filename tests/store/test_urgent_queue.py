"""The urgent lane's urgent queue and the records of pushes, on a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from okasie_tasks.core.pending import PushOutcome
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.urgent_queue import UrgentQueue
from tests.core.test_pending import pending_change


@pytest.fixture
def urgent_queue(client: redis.Redis) -> UrgentQueue:
    return UrgentQueue(client, prefix="okasie:", account="dex")


@pytest.fixture
def pushes(client: redis.Redis) -> Requests:
    return Requests(client, prefix="okasie:")


def test_the_newest_wish_stands_whatever_the_order_of_arrival(urgent_queue: UrgentQueue) -> None:
    for seen in (200, 300, 100):
        urgent_queue.put([pending_change(seen, waiters=(f"p{seen}",))])
    ((_, stands),) = urgent_queue.first(10)
    assert stands.seen_ms == 300
    assert set(stands.waiters) == {"p100", "p200", "p300"}


def test_wishes_put_at_the_same_time_are_all_heard(urgent_queue: UrgentQueue) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: urgent_queue.put([pending_change(n, waiters=(f"p{n}",))]), range(1, 41)))
    ((_, stands),) = urgent_queue.first(10)
    assert stands.seen_ms == 40
    assert len(stands.waiters) == 40


def test_who_has_waited_longest_is_first_also_after_a_change(urgent_queue: UrgentQueue) -> None:
    import msgspec

    urgent_queue.put([msgspec.structs.replace(pending_change(100 + n), reference=f"R-{n}") for n in (3, 1, 2)])
    urgent_queue.put([msgspec.structs.replace(pending_change(900), reference="R-1")])
    assert [found.reference for _, found in urgent_queue.first(2)] == ["R-1", "R-2"]
    assert urgent_queue.count() == 3


def test_what_came_while_a_wish_was_sent_is_not_taken_out_with_it(urgent_queue: UrgentQueue) -> None:
    urgent_queue.put([pending_change(100)])
    sent = urgent_queue.first(1)
    urgent_queue.put([pending_change(200)])
    assert urgent_queue.take(sent) == ["A-1"]
    ((_, left),) = urgent_queue.first(1)
    assert left.seen_ms == 200
    assert urgent_queue.take(urgent_queue.first(1)) == []
    assert (urgent_queue.count(), urgent_queue.waiting(["A-1"])) == (0, {})


def test_taking_out_twice_is_taking_out_once(urgent_queue: UrgentQueue) -> None:
    urgent_queue.put([pending_change(100)])
    sent = urgent_queue.first(1)
    assert urgent_queue.take(sent) == urgent_queue.take(sent) == []


def test_one_sender_at_a_time_and_none_leaves_while_something_waits(urgent_queue: UrgentQueue) -> None:
    assert urgent_queue.lead("one")
    assert not urgent_queue.lead("two")
    assert urgent_queue.lead("one"), "the sender itself stays"
    urgent_queue.put([pending_change(100)])
    assert not urgent_queue.leave("one", if_empty=True)
    assert not urgent_queue.lead("two")
    urgent_queue.take(urgent_queue.first(1))
    assert urgent_queue.leave("one", if_empty=True)
    assert urgent_queue.lead("two")
    assert urgent_queue.leave("one", if_empty=True), "somebody else is at it: nothing more to do"
    assert not urgent_queue.lead("three")


def test_a_wish_that_is_due_without_a_sender_is_noticed(urgent_queue: UrgentQueue) -> None:
    import msgspec

    assert not urgent_queue.unattended(1_000)
    urgent_queue.put([msgspec.structs.replace(pending_change(100), not_before_ms=500)])
    assert not urgent_queue.unattended(499)
    assert urgent_queue.unattended(500)
    urgent_queue.lead("one")
    assert not urgent_queue.unattended(500)


def test_a_push_keeps_the_moment_of_its_first_delivery(pushes: Requests, client: redis.Redis) -> None:
    first = pushes.receive("p")
    before = client.time()
    while client.time()[1] // 1000 == before[1] // 1000:
        pass
    assert pushes.receive("p") == first > 0


def test_a_push_is_as_old_as_its_request_however_late_it_is_delivered(pushes: Requests, client: redis.Redis) -> None:
    now = pushes.receive("sold")
    client.hset("okasie:push:late", "made", now - 4_000)
    client.hset("okasie:push:forged", "made", now + 3_600_000)
    assert pushes.receive("late") == now - 4_000, "the sell came later and stays the newer one"
    assert now <= pushes.receive("forged") < now + 3_600_000


def test_a_withdrawn_push_is_not_accepted_later(pushes: Requests) -> None:
    pushes.withdraw("p")
    assert pushes.receive("p") == 0
    assert pushes.get("p").at_ms == 0


def test_outcomes_are_told_to_every_push_and_kept_for_a_while(pushes: Requests, client: redis.Redis) -> None:
    done = PushOutcome(outcome="updated", at_ms=5)
    waiting = PushOutcome(outcome="waiting", at_ms=3, message="HTTP 500", fields=("price",))
    pushes.record({"p1": {"A-1": waiting, "B": done}, "p2": {"A-1": waiting}})
    pushes.record({"p1": {"A-1": done}})
    assert pushes.get("p1").outcomes == {"A-1": done, "B": done}
    assert pushes.get("p2").outcomes == {"A-1": waiting}
    assert 0 < client.ttl("okasie:push:p2") <= 24 * 3600
    pushes.fail("p2", "the source cannot be read")
    assert pushes.get("p2").error == "the source cannot be read"
