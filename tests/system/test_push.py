"""Pushes and sells, from the command to the marketplace: what goes out, in how many requests, and what stands after."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.core.pending import Push
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.urgent_queue import UrgentQueue
from tests.support import Place, faults, poll, state, stored
from tests.system.conftest import DRIPPING, Fleet, feed

pytestmark = pytest.mark.system

CAR = {
    "status": "active", "title": "Handed in", "price": 9_500, "mileage": 1_000, "dealerLocationCode": "DEMO-GENT",
    "postalCode": "9000", "city": "Gent", "province": "Oost-Vlaanderen",
}  # fmt: skip


def client(fleet: Fleet) -> Client:
    return Client(url(fleet))


def url(fleet: Fleet) -> str:
    found = find_embedded(fleet.place.folder / ".okasie")
    assert found is not None
    return found


def settled(fleet: Fleet, push: str) -> Push:
    """A push once all its outcomes are there."""
    with redis.Redis.from_url(url(fleet)) as connection:
        pushes = Requests(connection, prefix="okasie:")
        return poll(lambda: (found := pushes.get(push)).outcomes and found, what=f"an outcome of {push}")


def change(place: Place, account: str, edit: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Rewrite an account's feed in one step, as an export does."""
    path = feed(place, account)
    rows = list(csv.DictReader(io.StringIO(path.read_text()), delimiter=";"))
    names = list(rows[0])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter=";")
    writer.writeheader()
    writer.writerows(edit(rows))
    fresh = path.with_suffix(".new")
    fresh.write_text(text.getvalue())
    fresh.replace(path)


def price(reference: str, euro: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    return lambda rows: [row | {"price_eur": euro} if row["stock_no"] == reference else row for row in rows]


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {row["reference"]: row["outcome"] for row in document["listings"]}


def requests_of(fleet: Fleet, account: str) -> dict[str, int]:
    found: dict[str, int] = state(fleet.sandbox, account)["requests"]
    return found


def test_a_price_is_pushed_with_one_put_and_the_next_run_has_nothing_to_do(fleet: Fleet) -> None:
    fleet.place.sync("pushed", "--full")
    change(fleet.place, "pushed", price("DG-00001", "4321"))
    answer = fleet.place.okasie("push", "pushed", "DG-00001", "--json")
    assert (answer.status, outcomes(answer.document)) == (0, {"DG-00001": "updated"})
    assert answer.document["listings"][0]["seconds"] > 0
    assert stored(fleet.sandbox, "pushed")["DG-00001"]["body"]["price"] == 4321
    assert requests_of(fleet, "pushed") == {"list:200": 1, "bulk:200": 1, "put:200": 1}
    _, document = fleet.place.sync("pushed")
    assert (document["requests"]["list"], document["requests"]["bulk"]) == (1, 0), document


def test_thirty_pushes_that_wait_together_are_one_request(fleet: Fleet) -> None:
    """However slow the machine: the account rests until all are in. What the sender waits for is a test of its own."""
    fleet.place.okasie("pause", "many")
    sender = client(fleet)
    pushes = [
        sender.push("many", listings=[CAR | {"externalReference": f"NEW-{number}", "price": 9_000 + number}])
        for number in range(30)
    ]
    with redis.Redis.from_url(url(fleet)) as connection:
        urgent_queue = UrgentQueue(connection, prefix="okasie:", account="many")
        poll(lambda: urgent_queue.count() == 30, what="all of them in the urgent queue")
    fleet.place.okasie("resume", "many")
    for push in pushes:
        (told,) = settled(fleet, push).outcomes.values()
        assert told.outcome == "created"
    assert requests_of(fleet, "many") == {"bulk:200": 1}
    assert stored(fleet.sandbox, "many")["NEW-29"]["body"]["price"] == 9_029


def test_the_last_of_several_pushes_of_one_listing_stands(fleet: Fleet) -> None:
    sender = client(fleet)
    pushes = [
        sender.push("many", listings=[CAR | {"externalReference": "LAST", "price": euro}]) for euro in range(1, 21)
    ]
    assert [settled(fleet, push).outcomes["LAST"].outcome for push in pushes]
    assert stored(fleet.sandbox, "many")["LAST"]["body"]["price"] == 20


def test_an_older_version_of_the_callers_own_is_not_sent(fleet: Fleet) -> None:
    sender = client(fleet)
    settled(fleet, sender.push("many", listings=[CAR | {"externalReference": "OWN", "price": 2}], version=2_000))
    late = sender.push("many", listings=[CAR | {"externalReference": "OWN", "price": 1}], version=1_000)
    assert settled(fleet, late).outcomes["OWN"].outcome == "overtaken"
    assert stored(fleet.sandbox, "many")["OWN"]["body"]["price"] == 2


@pytest.mark.parametrize("version", [-1, 2**48, True, "new"])
def test_a_version_that_is_none_is_refused_with_what_was_expected(fleet: Fleet, version: Any) -> None:
    before = requests_of(fleet, "many")
    push = client(fleet).push("many", listings=[CAR | {"externalReference": "OWN"}], version=version)
    with redis.Redis.from_url(url(fleet)) as connection:
        pushes = Requests(connection, prefix="okasie:")
        said = poll(lambda: pushes.get(push).error, what="the error")
    assert "expected version to be ms since the epoch" in said
    assert requests_of(fleet, "many") == before


def test_a_car_that_was_pushed_and_is_not_in_the_feed_stands(fleet: Fleet) -> None:
    settled(fleet, client(fleet).push("beside", listings=[CAR | {"externalReference": "ONLY-PUSHED"}]))
    for options in (["--full"], [], ["--full"]):
        status, document = fleet.place.sync("beside", *options)
        assert (status, document["listings"]["sold"]) == (0, 0)
    assert stored(fleet.sandbox, "beside")["ONLY-PUSHED"]["status"] == "active"


def test_a_car_sold_by_hand_stays_sold_while_its_row_stands_until_somebody_pushes_it(fleet: Fleet) -> None:
    fleet.place.sync("sold", "--full")
    answer = fleet.place.okasie("sell", "sold", "DG-00002", "--json")
    assert (answer.status, outcomes(answer.document)) == (0, {"DG-00002": "sold"})
    change(fleet.place, "sold", price("DG-00002", "99"))
    for options in ([], ["--full"]):
        assert fleet.place.sync("sold", *options)[0] == 0
        assert stored(fleet.sandbox, "sold")["DG-00002"]["status"] == "sold"
    assert fleet.place.okasie("push", "sold", "DG-00002").status == 0
    assert stored(fleet.sandbox, "sold")["DG-00002"]["status"] == "active"
    assert fleet.place.sync("sold")[1]["listings"]["sold"] == 0


def test_a_car_sold_before_it_was_ever_listed_is_not_created_by_a_run(fleet: Fleet) -> None:
    change(fleet.place, "sold", lambda rows: [*rows, rows[0] | {"stock_no": "DG-NEW"}])
    answer = fleet.place.okasie("sell", "sold", "DG-NEW", "--json")
    assert (answer.status, outcomes(answer.document)) == (1, {"DG-NEW": "not_found"})
    fleet.place.sync("sold", "--full")
    assert "DG-NEW" not in stored(fleet.sandbox, "sold")


def test_what_cannot_be_sent_is_told_for_each_reference_and_stops_no_other(fleet: Fleet) -> None:
    change(fleet.place, "pushed", price("DG-00003", "on request"))
    answer = fleet.place.okasie("push", "pushed", "DG-00003", "DG-00004", "--json")
    assert (answer.status, outcomes(answer.document)) == (4, {"DG-00003": "rejected", "DG-00004": "updated"})
    (rejected,) = [row for row in answer.document["listings"] if row["outcome"] == "rejected"]
    assert rejected["fields"] == ["price"]
    assert "on request" in rejected["message"]
    missing = fleet.place.okasie("push", "pushed", "DG-99999", "--json")
    assert (missing.status, outcomes(missing.document)) == (1, {"DG-99999": "not_found"})


def test_what_the_marketplace_refuses_is_a_reject_and_its_neighbours_go_out(fleet: Fleet) -> None:
    faults(fleet.sandbox, {"kind": "400", "match": {"key": "many", "path": "bulk"}, "times": 1})
    wrong = CAR | {"externalReference": "WRONG", "dealerProfileId": "5b1c2d3e-0000-4000-8000-00000000d999"}
    wrong.pop("dealerLocationCode")
    push = client(fleet).push("many", listings=[wrong, CAR | {"externalReference": "RIGHT"}])
    found = poll(lambda: (p := settled(fleet, push)) and len(p.outcomes) == 2 and p, what="both outcomes")
    assert {name: told.outcome for name, told in found.outcomes.items()} == {"WRONG": "rejected", "RIGHT": "created"}


def test_a_failing_api_is_asked_again_and_the_price_arrives(fleet: Fleet) -> None:
    faults(fleet.sandbox, {"kind": "500", "match": {"key": "pushed_500", "path": "put"}, "times": 2})
    answer = fleet.place.okasie("push", "pushed_500", "DG-00001", "--json")
    assert (answer.status, outcomes(answer.document)) == (0, {"DG-00001": "created"})
    assert requests_of(fleet, "pushed_500") == {"put:500": 2, "put:201": 1}


def test_a_key_that_is_not_accepted_is_said_and_the_push_is_kept(fleet: Fleet) -> None:
    answer = fleet.place.okasie("push", "pushed_wrong_key", "DG-00001", "--json")
    assert answer.status == 1
    (told,) = answer.document["listings"]
    assert told["outcome"] == "failed"
    assert "401" in told["message"]
    with redis.Redis.from_url(url(fleet)) as connection:
        assert connection.hlen("okasie:urgent:pushed_wrong_key:changes") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["push", "nobody", "DG-00001"], 2, "no account"),
        (["sell", "pushed", "x" * 65], 2, "1 to 64"),
        (["push", "pushed"], 2, "REF"),
    ],
)
def test_a_command_that_makes_no_sense_sends_nothing(
    fleet: Fleet, arguments: list[str], status: int, said: str
) -> None:
    answer = fleet.place.okasie(*arguments)
    assert (answer.status, said in answer.text) == (status, True), answer.text


def test_without_workers_a_push_is_refused_and_never_sent_later(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    with Sandbox([Key("secret", "dex")]) as sandbox:
        place = Place(tmp_path)
        place.env["OKASIE_REDIS__URL"] = redis_url
        write_csv(tmp_path / "dex.csv", cars(3, seed=1))
        place.account("dex", feed="dex.csv", base_url=sandbox.base_url, key="secret")
        for command in ("push", "sell"):
            answer = place.okasie(command, "dex", "DG-00001", "--json")
            assert answer.status == 5
            assert answer.document["error"]["code"] == "not_reachable"
    withdrawn = [key for key in client.keys("okasie:push:*") if client.hexists(key, "withdrawn")]
    assert len(withdrawn) == 2


def test_a_source_that_drips_keeps_no_other_account_from_pushing(fleet: Fleet) -> None:
    """More pushes than the lane has threads wait for it. Then they share a few reads."""
    held, log = fleet.place.folder / "dripping.held", fleet.place.folder / "dripping.reads"
    held.touch()
    sender = client(fleet)
    waiting = [sender.push(DRIPPING, [f"DRIP-{number}"]) for number in range(24)]
    poll(log.exists, what="a read of the dripping source")
    for number in range(3):
        change(fleet.place, "beside", lambda rows: [row | {"price_eur": "7777"} for row in rows])
        other = settled(fleet, sender.push("beside", [f"DEX-{number + 1:05d}"]))
        assert other.outcomes
    with redis.Redis.from_url(url(fleet)) as connection:
        pushes = Requests(connection, prefix="okasie:")
        assert not any(pushes.get(push).outcomes for push in waiting)
    held.unlink()
    for push in waiting:
        assert [outcome.outcome for outcome in settled(fleet, push).outcomes.values()] == ["not_found"]
    assert len(log.read_text().splitlines()) <= len(waiting) / 2, "without sharing, one each"
