"""One writer per listing: locks that are taken whole or in part, renewed, and left to run out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from okasie_tasks.errors import ListingLocked, Unavailable
from okasie_tasks.store import write_locks
from okasie_tasks.store.write_locks import WriteLocks
from tests.support import poll


@pytest.fixture
def locks(client: redis.Redis) -> WriteLocks:
    return WriteLocks(client, prefix="okasie:", account="dex")


@pytest.fixture
def other(client: redis.Redis) -> WriteLocks:
    """Another worker's."""
    return WriteLocks(client, prefix="okasie:", account="dex")


def until(client: redis.Redis, reference: str) -> int:
    """How long the lock still holds, in ms."""
    value = client.hget("okasie:writing:dex", reference)
    if value is None:
        return 0
    seconds, micros = client.time()
    return int(value.split()[0]) - (seconds * 1000 + micros // 1000)


def test_a_bulk_call_holds_all_of_its_listings_or_none(locks: WriteLocks, other: WriteLocks) -> None:
    with locks.all(["A", "B"]):
        with pytest.raises(ListingLocked) as caught, other.all(["B", "C"]):
            raise AssertionError("B is held")
        assert not caught.value.counted
        with other.all(["C"]):
            pass
    with other.all(["B", "C"]):
        pass


def test_the_urgent_lane_takes_what_is_free(locks: WriteLocks, other: WriteLocks) -> None:
    with locks.all(["A", "B"]), other.free(["B", "C"]) as mine:
        assert mine == {"C"}
        with pytest.raises(ListingLocked), locks.all(["C"]):
            raise AssertionError("C is held")
    with other.free(["A", "B", "C"]) as mine:
        assert mine == {"A", "B", "C"}


def test_accounts_do_not_share_locks(client: redis.Redis, locks: WriteLocks) -> None:
    with locks.all(["A"]), WriteLocks(client, prefix="okasie:", account="gent").free(["A"]) as mine:
        assert mine == {"A"}


def test_what_a_dead_worker_held_is_free_when_its_lease_runs_out(client: redis.Redis, other: WriteLocks) -> None:
    client.hset("okasie:writing:dex", "A", "1000 long-dead")
    with other.free(["A"]) as mine:
        assert mine == {"A"}


def test_a_request_without_an_answer_keeps_its_listings_for_a_moment(client: redis.Redis, locks: WriteLocks) -> None:
    error = Unavailable("no answer within 120 s", seconds=0)
    error.in_doubt = True
    with pytest.raises(Unavailable), locks.all(["A"]):
        raise error
    assert 3_000 < until(client, "A") <= 5_000
    with pytest.raises(Unavailable), locks.all(["B"]):
        raise Unavailable("HTTP 500", seconds=0)
    assert until(client, "B") == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(write_locks, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(write_locks, "LEASE_SECONDS", 5.0)
    yield


def test_a_holder_can_tell_whether_it_was_given_up(client: redis.Redis, locks: WriteLocks) -> None:
    with locks.free(["A", "B"]) as mine:
        assert mine.still_held()
        client.hset("okasie:writing:dex", "B", "99999999999999 another")
        assert not mine.still_held()
        client.hdel("okasie:writing:dex", "B")
        assert not mine.still_held()


class Away:
    """A server that can be away: its Lua steps fail, before or after they were executed."""

    def __init__(self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses, self.loses_answers, self.tries = False, False, 0
        monkeypatch.setattr(client, "evalsha", self._broken(client.evalsha))

    def _broken(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(*arguments: Any) -> Any:
            self.tries += 1
            if self.refuses:
                raise redis.ConnectionError("away")
            answer = send(*arguments)
            if self.loses_answers:
                raise redis.TimeoutError("no answer")
            return answer

        return sent


@pytest.fixture
def away(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr(write_locks, "_AGAIN_SECONDS", 0.01)
    return Away(client, monkeypatch)


def test_what_could_not_be_let_go_while_redis_was_away_is_free_soon_after_it_is_back(
    client: redis.Redis, locks: WriteLocks, away: Away
) -> None:
    with locks.all(["A", "B"]):
        away.refuses = True
    tried = away.tries
    poll(lambda: away.tries > tried + 2, what="another try")
    assert client.hlen("okasie:writing:dex") == 2
    client.hset("okasie:writing:dex", "B", "99999999999999 another")
    away.refuses = False
    poll(lambda: not client.hexists("okasie:writing:dex", "A"), what="the letting go")
    assert client.hget("okasie:writing:dex", "B") == b"99999999999999 another", "not what others have by now"


def test_what_was_taken_without_an_answer_is_let_go(client: redis.Redis, locks: WriteLocks, away: Away) -> None:
    away.loses_answers = True
    with pytest.raises(redis.TimeoutError), locks.all(["A"]):
        raise AssertionError("nobody knows that it is held")
    away.loses_answers = False
    poll(lambda: not client.hexists("okasie:writing:dex", "A"), what="the letting go")


def test_letting_go_is_tried_for_no_longer_than_the_lease(
    locks: WriteLocks, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locks.all(["A"]):
        away.refuses = True
        monkeypatch.setattr(write_locks, "LEASE_SECONDS", 0.05)
    names = lambda: {thread.name for thread in threading.enumerate()}  # noqa: E731
    poll(lambda: "lets-go" not in names(), what="the end of the tries")


def test_a_long_call_renews_its_lease_and_stops_when_it_is_over(
    client: redis.Redis, locks: WriteLocks, quick: None
) -> None:
    with locks.all(["A"]):
        first = client.hget("okasie:writing:dex", "A")
        poll(lambda: client.hget("okasie:writing:dex", "A") != first, what="the renewal")
    assert client.hexists("okasie:writing:dex", "A") is False


def test_a_lock_that_somebody_else_has_by_now_is_left_alone(client: redis.Redis, locks: WriteLocks) -> None:
    with locks.all(["A"]):
        client.hset("okasie:writing:dex", "A", "99999999999999 another")
    assert client.hget("okasie:writing:dex", "A") == b"99999999999999 another"
