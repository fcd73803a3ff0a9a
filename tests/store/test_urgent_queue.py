"""The urgent lane's inbox and the records of pushes, on a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from okasie_tasks.core.pending import Outcome
from okasie_tasks.store.urgent_queue import Inbox, Pushes
from tests.core.test_pending import wish


@pytest.fixture
def inbox(client: redis.Redis) -> Inbox:
    return Inbox(client, prefix="okasie:", account="dex")


@pytest.fixture
def pushes(client: redis.Redis) -> Pushes:
    return Pushes(client, prefix="okasie:")


def test_the_newest_wish_stands_whatever_the_order_of_arrival(inbox: Inbox) -> None:
    for seen in (200, 300, 100):
        inbox.put([wish(seen, waiters=(f"p{seen}",))])
    ((_, stands),) = inbox.first(10)
    assert stands.seen_ms == 300
    assert set(stands.waiters) == {"p100", "p200", "p300"}


def test_wishes_put_at_the_same_time_are_all_heard(inbox: Inbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: inbox.put([wish(n, waiters=(f"p{n}",))]), range(1, 41)))
    ((_, stands),) = inbox.first(10)
    assert stands.seen_ms == 40
    assert len(stands.waiters) == 40


def test_who_has_waited_longest_is_first_also_after_a_change(inbox: Inbox) -> None:
    import msgspec

    inbox.put([msgspec.structs.replace(wish(100 + n), reference=f"R-{n}") for n in (3, 1, 2)])
    inbox.put([msgspec.structs.replace(wish(900), reference="R-1")])
    assert [found.reference for _, found in inbox.first(2)] == ["R-1", "R-2"]
    assert inbox.count() == 3


def test_what_came_while_a_wish_was_sent_is_not_taken_out_with_it(inbox: Inbox) -> None:
    inbox.put([wish(100)])
    sent = inbox.first(1)
    inbox.put([wish(200)])
    assert inbox.take(sent) == ["A-1"]
    ((_, left),) = inbox.first(1)
    assert left.seen_ms == 200
    assert inbox.take(inbox.first(1)) == []
    assert (inbox.count(), inbox.waiting(["A-1"])) == (0, {})


def test_taking_out_twice_is_taking_out_once(inbox: Inbox) -> None:
    inbox.put([wish(100)])
    sent = inbox.first(1)
    assert inbox.take(sent) == inbox.take(sent) == []


def test_one_sender_at_a_time_and_none_leaves_while_something_waits(inbox: Inbox) -> None:
    assert inbox.lead("one")
    assert not inbox.lead("two")
    assert inbox.lead("one"), "the sender itself stays"
    inbox.put([wish(100)])
    assert not inbox.leave("one", if_empty=True)
    assert not inbox.lead("two")
    inbox.take(inbox.first(1))
    assert inbox.leave("one", if_empty=True)
    assert inbox.lead("two")
    assert inbox.leave("one", if_empty=True), "somebody else is at it: nothing more to do"
    assert not inbox.lead("three")


def test_a_wish_that_is_due_without_a_sender_is_noticed(inbox: Inbox) -> None:
    import msgspec

    assert not inbox.unattended(1_000)
    inbox.put([msgspec.structs.replace(wish(100), not_before_ms=500)])
    assert not inbox.unattended(499)
    assert inbox.unattended(500)
    inbox.lead("one")
    assert not inbox.unattended(500)


def test_a_push_keeps_the_moment_of_its_first_delivery(pushes: Pushes, client: redis.Redis) -> None:
    first = pushes.receive("p")
    before = client.time()
    while client.time()[1] // 1000 == before[1] // 1000:
        pass
    assert pushes.receive("p") == first > 0


def test_a_withdrawn_push_is_not_accepted_later(pushes: Pushes) -> None:
    pushes.withdraw("p")
    assert pushes.receive("p") == 0
    assert pushes.get("p").at_ms == 0


def test_outcomes_are_told_to_every_push_and_kept_for_a_while(pushes: Pushes, client: redis.Redis) -> None:
    done = Outcome(outcome="updated", at_ms=5)
    waiting = Outcome(outcome="waiting", at_ms=3, message="HTTP 500", fields=("price",))
    pushes.tell({"p1": {"A-1": waiting, "B": done}, "p2": {"A-1": waiting}})
    pushes.tell({"p1": {"A-1": done}})
    assert pushes.get("p1").outcomes == {"A-1": done, "B": done}
    assert pushes.get("p2").outcomes == {"A-1": waiting}
    assert 0 < client.ttl("okasie:push:p2") <= 12 * 3600
    pushes.fail("p2", "the source cannot be read")
    assert pushes.get("p2").error == "the source cannot be read"
