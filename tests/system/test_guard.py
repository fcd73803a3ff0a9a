"""What never happens by itself: many sells at once, an empty list, somebody else's listings."""

from __future__ import annotations

import pytest
import redis
import requests

from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from tests.support import state, stored
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


def active(fleet: Fleet, name: str) -> set[str]:
    return {reference for reference, row in stored(fleet.sandbox, name).items() if row["status"] == "active"}


def test_more_sells_than_the_guard_allows_are_held_and_the_rest_goes_out(fleet: Fleet) -> None:
    rows = cars(CARS, seed=1)
    assert fleet.place.sync("guarded", "--full")[0] == 0
    rows[0]["price_eur"] = "1234"
    write_csv(feed(fleet.place, "guarded"), [*rows[:5], *cars(1, seed=1, first=CARS + 1)])
    status, document = fleet.place.sync("guarded")
    assert (status, document["state"]) == (3, "held"), document
    assert document["listings"]["held"] == CARS - 5
    assert (document["listings"]["updated"], document["listings"]["created"], document["listings"]["sold"]) == (1, 1, 0)
    assert "shrank from 12 to 6" in document["held"][0]["reason"]
    assert len(active(fleet, "guarded")) == CARS + 1
    status, document = fleet.place.sync("guarded")
    assert (status, document["state"], document["listings"]["sold"]) == (3, "held", 0), "still cut, still held"
    assert fleet.place.okasie("status", "guarded").status == 0, "a held plan is no fault of the system"
    assert fleet.place.okasie("plan", "guarded").status == 3
    write_csv(feed(fleet.place, "guarded"), [*rows[:CARS], *cars(1, seed=1, first=CARS + 1)])
    status, document = fleet.place.sync("guarded")
    assert (status, document["state"], document["listings"]["held"]) == (0, "done", 0), "the feed was whole again"
    assert state(fleet.sandbox, "guarded")["listings"]["sold"] == 0


def test_an_empty_feed_sells_nothing_not_even_a_few(fleet: Fleet) -> None:
    write_csv(feed(fleet.place, "empty"), cars(3, seed=1))
    assert fleet.place.sync("empty", "--full")[0] == 0
    write_csv(feed(fleet.place, "empty"), [])
    status, document = fleet.place.sync("empty")
    assert (status, document["held"][0]["reason"]) == (3, "the source is empty")
    assert len(active(fleet, "empty")) == 3


def test_listings_that_are_not_ours_are_left_alone(fleet: Fleet) -> None:
    edits = [
        {"create": {"title": "Theirs", "price": 5}, "reference": "THEIRS-1"},
        {"create": {"title": "Nameless", "price": 5}},
    ]
    requests.post(f"{fleet.sandbox.admin_url}/listings", json={"key": "foreign", "edits": edits}, timeout=60)
    status, document = fleet.place.sync("foreign", "--full")
    assert (status, document["listings"]["foreign"], document["listings"]["created"]) == (0, 2, CARS)
    write_csv(feed(fleet.place, "foreign"), cars(CARS, seed=1)[1:])
    status, document = fleet.place.sync("foreign", "--full")
    assert (status, document["listings"]["sold"], document["listings"]["foreign"]) == (0, 1, 2)
    there = stored(fleet.sandbox, "foreign")
    assert (there["THEIRS-1"]["status"], there[None]["status"]) == ("active", "active")  # type: ignore[index]


def test_a_ledger_of_another_marketplace_is_not_used(fleet: Fleet) -> None:
    """A dealer who tried a sandbox and then turns to the real marketplace must not start from the sandbox's ledger."""
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    with redis.Redis.from_url(url) as client:
        client.hset("okasie:account:moved", "market", "https://www.okasie.be/api/external/v1")
        status, document = fleet.place.sync("moved", "--full")
        assert (status, document["state"], document["error"]["where"]) == (1, "failed", "accounts.moved.base_url")
        assert "the ledger in Redis is of https://www.okasie.be" in document["error"]["message"]
        assert document["requests"]["list"] == 0
        client.delete("okasie:account:moved")
    assert fleet.place.sync("moved", "--full")[0] == 0


def test_a_lost_ledger_is_rebuilt_without_rewriting_what_is_equal(fleet: Fleet) -> None:
    """Everything Redis knew of the account is gone: a full run adopts what it finds equal, and sells nothing."""
    assert fleet.place.sync("forgotten", "--full")[0] == 0
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    with redis.Redis.from_url(url) as client:
        keys = [*client.scan_iter("okasie:ledger:forgotten:*"), *client.scan_iter("okasie:account:forgotten*")]
        assert keys
        client.delete(*keys)
    rows = cars(CARS, seed=1)
    rows[3]["price_eur"] = "4321"
    write_csv(feed(fleet.place, "forgotten"), rows)
    status, document = fleet.place.sync("forgotten")
    assert (status, document["listings"]["updated"], document["requests"]["bulk"]) == (0, 1, 1)
    assert document["listings"]["unchanged"] == CARS - 1
    assert stored(fleet.sandbox, "forgotten")[rows[3]["stock_no"]]["body"]["price"] == 4321


def test_re_keyed_stock_is_held_and_an_approval_sends_both_sides(fleet: Fleet) -> None:
    name, rows = "rekeyed", cars(30, seed=5)
    write_csv(feed(fleet.place, name), rows)
    assert fleet.place.sync(name, "--full")[0] == 0
    old = active(fleet, name)
    renamed = [{**row, "stock_no": f"NEW-{row['stock_no']}"} for row in rows]
    write_csv(feed(fleet.place, name), renamed)
    status, held = fleet.place.sync(name)
    assert (status, held["listings"]["held"], held["held"][0]["guard"]) == (3, 60, "rekeyed"), held
    assert active(fleet, name) == old
    shown = fleet.place.okasie("status", name).stdout
    assert "30 new references appear to be 30 listings that vanished" in shown, shown
    answer = fleet.place.okasie("approve", held["run"], "--json", seconds=400)
    assert (answer.status, answer.document["listings"]["created"], answer.document["listings"]["sold"]) == (0, 30, 30)
    assert active(fleet, name) == {row["stock_no"] for row in renamed}
