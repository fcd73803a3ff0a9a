"""What `Client.outcome` and `Client.wait` report of pushes, sells and syncs that real workers execute."""

from __future__ import annotations

import pytest
import redis

from okasie_tasks.client import Client, RequestState
from okasie_tasks.core.requests import KEEP_REQUEST_SECONDS
from okasie_tasks.settings.redis_url import find_embedded
from tests.support import faults, held, poll, release
from tests.system.conftest import Fleet

pytestmark = pytest.mark.system
ACCOUNT = "awaited"
SECONDS = 120.0
CAR = {
    "externalReference": "CLIENT-1", "status": "active", "title": "Handed in", "price": 9_500, "mileage": 1_000,
    "dealerLocationCode": "DEMO-GENT", "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
}  # fmt: skip


@pytest.fixture
def okasie(fleet: Fleet) -> Client:
    url = find_embedded(fleet.place.folder / ".okasie")
    assert url is not None
    return Client(url, name="dms")


def words(state: RequestState) -> dict[str, str]:
    assert state.state == "done"
    return {reference: outcome.outcome for reference, outcome in state.outcomes.items()}


def test_every_request_of_a_client_has_an_outcome_with_its_reason(fleet: Fleet, okasie: Client) -> None:
    synced = okasie.wait(okasie.sync(ACCOUNT, "full"), timeout=SECONDS)
    assert (synced.kind, synced.account, synced.by, synced.state, synced.error) == (
        "sync",
        ACCOUNT,
        "dms",
        "done",
        None,
    )
    assert fleet.place.okasie("run", str(synced.run), "--json").document["state"] == "done"

    pushed = okasie.wait(okasie.push(ACCOUNT, ["DG-00001", "NOT-THERE"]), timeout=SECONDS)
    assert words(pushed) == {"DG-00001": "updated", "NOT-THERE": "not_found"}
    assert "the source does not have it" in str(pushed.outcomes["NOT-THERE"].message)

    invalid = CAR | {"externalReference": "CLIENT-2", "price": "cheap"}
    given = okasie.wait(okasie.push(ACCOUNT, listings=[CAR, invalid, {"price": 1}]), timeout=SECONDS)
    assert words(given) == {"CLIENT-1": "created", "CLIENT-2": "rejected", "listing 3": "rejected"}
    assert given.outcomes["CLIENT-2"].fields == ("price",)

    sold = okasie.wait(okasie.sell(ACCOUNT, ["CLIENT-1"]), timeout=SECONDS)
    assert words(sold) == {"CLIENT-1": "sold"}


def test_an_unknown_account_is_an_outcome(okasie: Client) -> None:
    pushed = okasie.wait(okasie.push("nobody", ["A"]), timeout=SECONDS)
    assert words(pushed) == {"A": "failed"}
    assert "does not know the account 'nobody'" in str(pushed.outcomes["A"].message)
    synced = okasie.wait(okasie.sync("nobody"), timeout=SECONDS)
    assert (synced.state, synced.run) == ("done", None)
    assert "'nobody'" in str(synced.error)


def test_a_request_waits_until_its_last_listing_has_an_answer(fleet: Fleet, okasie: Client) -> None:
    okasie.wait(okasie.sync(ACCOUNT, "full"), timeout=SECONDS)
    faults(fleet.sandbox, held("put", ACCOUNT))
    push = okasie.push(ACCOUNT, listings=[CAR | {"externalReference": "CLIENT-3"}, {"price": 1}])
    early = poll(lambda: (found := okasie.outcome(push)).outcomes and found, what="the outcome of the invalid listing")
    assert (early.state, set(early.outcomes)) == ("waiting", {"listing 2"})
    assert okasie.wait(push, timeout=0).state == "waiting"
    release(fleet.sandbox)
    assert words(okasie.wait(push, timeout=SECONDS)) == {"CLIENT-3": "created", "listing 2": "rejected"}


def test_a_record_is_kept_for_a_day(fleet: Fleet, okasie: Client) -> None:
    sell = okasie.sell(ACCOUNT, ["NEVER-LISTED"])
    okasie.wait(sell, timeout=SECONDS)
    url = find_embedded(fleet.place.folder / ".okasie")
    with redis.Redis.from_url(str(url)) as connection:
        assert 0 < connection.ttl(f"okasie:push:{sell}") <= KEEP_REQUEST_SECONDS
