"""The history in Redis: the newest five of each listing, for some months, in few bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.history import Event
from okasie_tasks.core.records import bucket_of
from okasie_tasks.core.snapshot import Snapshot
from okasie_tasks.store.history import CONFLICTS_KEPT, EVENTS_PER_LISTING, KEEP_HISTORY_SECONDS, History

RUN, REQUEST = "01J9ZZZZZZ0123456789ABCDEF", "0123456789abcdef0123456789abcdef"


def at(month: int, day: int = 1) -> int:
    return int(datetime(2026, month, day, tzinfo=UTC).timestamp() * 1000)


NOW = at(6, 15)


@pytest.fixture
def history(client: redis.Redis) -> History:
    return History(client, prefix="okasie:", account="dex")


def event(number: int = 0, at_ms: int = NOW) -> Event:
    return Event(at_ms + number, "updated", "changed in the source", RUN, REQUEST, (("price", number, number + 1),))


def snapshot(price: int) -> bytes:
    return Snapshot(price=price, mileage=1, status="active", hashes={"title": b"ab"}).pack()


def test_events_come_back_newest_first_and_the_oldest_are_forgotten(history: History) -> None:
    for number in range(EVENTS_PER_LISTING + 2):
        history.add([("A", event(number)), ("B", event(number))])
    assert history.get("A", now_ms=NOW) == [event(number) for number in (6, 5, 4, 3, 2)]
    assert history.latest(["A", "nobody"], now_ms=NOW) == {"A": event(6)}
    assert history.get("nobody", now_ms=NOW) == []


def test_the_same_event_twice_is_one_and_puts_no_older_snapshot_back(history: History) -> None:
    history.sent([("A", event(0), snapshot(1))])
    history.sent([("A", event(1), snapshot(2))])
    history.sent([("A", event(0), snapshot(1))])  # a client's retry, late
    assert history.get("A", now_ms=NOW) == [event(1), event(0)]
    assert history.snapshots(["A"], now_ms=NOW)["A"].price == 2


def test_an_event_without_a_snapshot_keeps_the_one_that_is_held(history: History) -> None:
    history.sent([("A", event(0), snapshot(7))])
    history.add([("A", event(1))])
    assert history.snapshots(["A", "nobody"], now_ms=NOW) == {"A": Snapshot.unpack(snapshot(7))}


def test_months_are_apart_three_are_read_and_all_expire(history: History, client: redis.Redis) -> None:
    for month in (1, 4, 5, 6):
        history.sent([("A", event(at_ms=at(month)), snapshot(month))])
    history.add([("A", event(1, at_ms=at(6)))])
    assert [found.at_ms for found in history.get("A", now_ms=NOW)] == [at(6) + 1, at(6), at(5), at(4)]
    assert history.snapshots(["A"], now_ms=at(5))["A"].price == 5
    assert history.get("A", now_ms=at(9)) == []
    keys = [key.decode() for key in client.keys("okasie:*")]
    assert sorted(keys) == [f"okasie:history:dex:2026{month:02}:{bucket_of('A')}" for month in (1, 4, 5, 6)]
    assert all(KEEP_HISTORY_SECONDS - 60 < client.ttl(key) <= KEEP_HISTORY_SECONDS for key in keys)


def test_the_year_before_is_read_too(history: History) -> None:
    december = int(datetime(2025, 12, 31, tzinfo=UTC).timestamp() * 1000)
    history.add([("A", event(at_ms=december))])
    assert len(history.get("A", now_ms=at(2))) == 1
    assert history.get("A", now_ms=at(3)) == []


def test_without_a_time_redis_is_asked_for_it(history: History, client: redis.Redis) -> None:
    now = client.time()[0] * 1000
    history.sent([("A", event(at_ms=now), snapshot(1))])
    assert history.get("A") == [event(at_ms=now)]
    assert set(history.snapshots(["A"])) == set(history.latest(["A"])) == {"A"}
    assert history.snapshots([]) == history.latest([]) == {}


def test_many_at_once_are_all_kept(history: History) -> None:
    names = [f"A-{number}" for number in range(2_500)]
    history.sent((name, event(number), snapshot(number)) for number, name in enumerate(names))
    assert {name: found.price for name, found in history.snapshots(names, now_ms=NOW).items()} == {
        name: number for number, name in enumerate(names)
    }
    history.add([])


def test_accounts_are_apart(history: History, client: redis.Redis) -> None:
    history.add([("A", event())])
    history.conflict([("A", event())])
    other = History(client, prefix="okasie:", account="dax")
    assert (other.get("A", now_ms=NOW), other.conflicts(10)) == ([], [])


def test_the_log_of_conflicts_is_newest_first_and_never_grows_over(history: History, client: redis.Redis) -> None:
    for number in range(CONFLICTS_KEPT + 5):
        history.conflict([(f"A-{number}", event(number)), (f"A-{number}", event(number))])
    assert history.conflicts(2) == [("A-204", event(204)), ("A-203", event(203))]
    assert len(history.conflicts(1_000)) == client.llen("okasie:conflicts:dex") == CONFLICTS_KEPT
    history.conflict([])


def test_a_created_listing_costs_at_most_250_bytes(history: History, client: redis.Redis) -> None:
    rare = (
        "customType",
        "variant",
        "latitude",
        "longitude",
        "dealerProfileId",
        "interiorMaterial",
        "paintType",
        "weight",
    )
    filled = [name for name in FIELDS if name not in (*rare, "externalReference", "price", "mileage", "status")]
    hashes = dict.fromkeys(filled, b"ab")
    sent = Snapshot(price=12_500, mileage=88_200, status="active", hashes=hashes).pack()
    created = Event(NOW, "created", "new in the source", RUN, REQUEST)
    count = 20_000
    history.sent((f"DG-{number:05}", created, sent) for number in range(count))
    used = sum(int(client.memory_usage(key, samples=0) or 0) for key in client.keys("okasie:history:*"))
    print(f"{used / count:.0f} bytes for each of {count}, its snapshot has {len(sent)}")
    assert used / count <= 250
