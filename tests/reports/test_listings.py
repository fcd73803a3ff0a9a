"""The search of listings: what it finds, in which order and state, and what the catalogue behind it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okasie_tasks.core.catalog import SHELVES, Titled, folded, pack_shelf, titled, unpack_shelf
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.listings import listings_document
from okasie_tasks.store.catalog import Catalog
from okasie_tasks.urgent.accept import accept_push
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, HttpScenario, varied

CARS = 60
_numbers = count()


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=varied(CARS, seed=3)) as found:
        yield found


def found(scenario: HttpScenario, search: str = "", **how: Any) -> list[str]:
    return [one["reference"] for one in listings_document(scenario.ctx, search=search, **how)["listings"]]


def titles(scenario: HttpScenario) -> dict[str, str]:
    return {row.reference: row.listing.title for row in scenario.ctx.source().rows() if row.listing and row.reference}


def test_a_listing_is_found_by_a_part_of_its_title_vin_or_reference(scenario: HttpScenario) -> None:
    scenario.good_run()
    ours = titles(scenario)
    reference, title = next(iter(ours.items()))
    word = title.split()[1]
    assert found(scenario, word.upper()) == sorted(name for name, text in ours.items() if word.lower() in text.lower())
    assert reference in found(scenario, reference[-4:].lower())
    assert found(scenario, "no such car") == []
    everything = listings_document(scenario.ctx, limit=25)
    assert everything["count"] == CARS
    pages = [everything]
    while pages[-1]["next"] and len(pages) < CARS:
        pages.append(listings_document(scenario.ctx, limit=25, after=pages[-1]["next"]))
    listed = [one for page in pages for one in page["listings"]]
    assert [one["reference"] for one in listed] == sorted(ours)
    assert {one["reference"]: one["title"] for one in listed} == ours
    assert {one["state"] for one in listed} == {"live"}
    assert all(one["price"] for one in listed)


def test_the_state_says_what_a_person_must_know(scenario: HttpScenario) -> None:
    scenario.good_run()
    sold, refused = scenario.rows.pop()["stock_no"], scenario.rows[0]
    refused["price_eur"] = "not a price"
    scenario.run()
    assert found(scenario, status=["sold"]) == [sold]
    assert found(scenario, status=["rejected"]) == [refused["stock_no"]]
    why = why_document(scenario.ctx, refused["stock_no"])
    assert (why["state"], why["title"]) == ("rejected", titles(scenario).get(refused["stock_no"], why["title"]))
    assert why["title"]
    assert len(found(scenario, status=["live"], limit=100)) == CARS - 2


def test_a_reject_that_was_never_listed_is_found_by_its_title(scenario: HttpScenario) -> None:
    scenario.rows[0] |= {"price_eur": "not a price", "version": "Unobtainium"}
    scenario.run()
    (one,) = listings_document(scenario.ctx, search="unobtainium")["listings"]
    assert (one["state"], one["reference"], one["status"]) == ("rejected", scenario.rows[0]["stock_no"], None)


def test_a_pushed_listing_is_found(scenario: HttpScenario) -> None:
    scenario.good_run()
    body = {**next(iter(scenario.wanted().values())), "externalReference": "INLINE-1", "title": "Citroën Méhari"}
    accept_push(scenario.ctx, "push-1", listings=[body])
    (one,) = listings_document(scenario.ctx, search="citroen mehari")["listings"]
    assert (one["reference"], one["state"]) == ("INLINE-1", "waiting")


def test_listings_from_before_the_catalogue_are_caught_up_once(scenario: HttpScenario) -> None:
    scenario.good_run()
    scenario.good_run()  # reads back what it wrote: from now on the rows are unchanged
    client = scenario.services.redis
    client.delete(f"{scenario.prefix}catalog:{ACCOUNT}")
    word = next(iter(titles(scenario).values())).split()[0]
    assert found(scenario, word) == []
    assert len(found(scenario, limit=100)) == CARS, "without a title they are still listed"
    scenario.rows[0]["price_eur"] = "4321"
    scenario.sandbox.faults.add([{"kind": "answer", "status": 500, "match": {"path": "bulk"}, "times": 3}])
    assert scenario.run("incremental").state != "done", "a run that cannot send catches up as well"
    scenario.sandbox.faults.clear()
    assert found(scenario, word)
    before = client.hgetall(f"{scenario.prefix}catalog:{ACCOUNT}")
    rewritten = Catalog(client, prefix=scenario.prefix, account=ACCOUNT)
    assert rewritten.is_whole
    scenario.good_run("incremental")
    assert client.hgetall(f"{scenario.prefix}catalog:{ACCOUNT}") == before


def test_a_changed_title_replaces_the_old_one_and_a_dry_run_writes_none(scenario: HttpScenario) -> None:
    scenario.good_run()
    row = scenario.rows[0]
    row["make"] = "Zastava"
    scenario.run(plan_only=True)
    assert found(scenario, "zastava") == []
    scenario.good_run("incremental")
    assert found(scenario, "zastava") == [row["stock_no"]]


def test_a_listing_that_was_never_sent_leaves_the_search_with_its_row(tmp_path: Path, redis_url: str) -> None:
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=3)) as scenario:
        scenario.good_run()
        client = scenario.services.redis
        ours, scenario.rows = scenario.rows, [row | {"stock_no": f"R-{row['stock_no']}"} for row in scenario.rows]
        foreign = {row["stock_no"] for row in scenario.rows}
        assert scenario.ask().state == "held", "the stock under other references"
        assert {*found(scenario, status=["held"], limit=500)} >= foreign
        scenario.rows = ours
        body, pushed = next(iter(scenario.wanted().values())), [f"INLINE-{number:02}" for number in range(40)]
        kept = [{**body, "externalReference": name, "title": "A push that waits"} for name in pushed]
        accept_push(scenario.ctx, "push-1", listings=kept)
        scenario.ask()
        assert not foreign.intersection(found(scenario, limit=500))
        assert found(scenario, "that waits") == pushed
        assert len(found(scenario, limit=500)) == CARS + len(pushed)
        scenario.ask()
        before = client.hgetall(f"{scenario.prefix}catalog:{ACCOUNT}")
        scenario.ask()
        assert client.hgetall(f"{scenario.prefix}catalog:{ACCOUNT}") == before


# -- the catalogue -------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=30)
ROWS = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and text == text.strip()),
    st.tuples(TEXT, TEXT),
    max_size=30,
)


@given(ROWS)
def test_a_shelf_comes_back(rows: dict[str, tuple[str, str]]) -> None:
    shelf = {name: titled(*row) for name, row in rows.items()}
    assert unpack_shelf(pack_shelf(shelf)) == shelf


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.data())
def test_the_search_finds_what_a_plain_scan_finds(
    scenario: HttpScenario, rows: dict[str, tuple[str, str]], data: st.DataObject
) -> None:
    shelf = {name: titled(*row) for name, row in rows.items()}
    ctx = scenario.ctx._replace(ledger=type(scenario.ctx.ledger)(
        scenario.services.redis, prefix=f"{scenario.prefix}{next(_numbers)}:", account=ACCOUNT
    ))  # fmt: skip
    ctx.ledger.catalog.put(shelf)
    some = sorted(shelf)[::2]
    ctx.ledger.swap((name, None, Entry(status="active", flags=Flag.OWNED)) for name in some)
    texts = [text for name, row in shelf.items() for text in (name, *row)] or [""]
    text = data.draw(st.sampled_from(texts))
    start = data.draw(st.integers(0, max(0, len(text) - 1)))
    needle = data.draw(st.sampled_from([text[start : start + 4], text.upper(), text.swapcase(), "e", "\t"]))
    needle = folded(" ".join(needle.split()))
    expected = [name for name, row in shelf.items() if any(needle in folded(one) for one in (name, *row))]
    document = listings_document(ctx, search=needle, limit=500)
    assert [one["reference"] for one in document["listings"]] == sorted(expected)
    assert document["count"] == len(expected)


def test_two_writers_of_one_shelf_lose_nothing(client: redis.Redis) -> None:
    one, other = (Catalog(client, prefix="two:", account="dex") for _ in range(2))
    names = [f"A-{number}" for number in range(SHELVES * 3)]
    read = one._read

    def read_then_overtaken(shelves: Any) -> list[bytes]:
        values = read(shelves)
        other.put({name: Titled("theirs") for name in names[::2]})
        one._read = read  # type: ignore[method-assign]
        return values

    one._read = read_then_overtaken  # type: ignore[method-assign]
    one.put({name: Titled("ours") for name in names[1::2]})
    assert one.get(names) == {name: Titled("ours" if at % 2 else "theirs") for at, name in enumerate(names)}


def test_bytes_of_another_format_are_unknown_titles(client: redis.Redis) -> None:
    catalog = Catalog(client, prefix="odd:", account="dex")
    catalog.put({"A-1": Titled("Fiat Panda")})
    for shelf in client.hkeys("odd:catalog:dex"):
        client.hset("odd:catalog:dex", shelf, b"\x7fsomething newer")
    assert catalog.get(["A-1"]) == {}
    assert json.dumps(catalog.texts(range(SHELVES))) == json.dumps([""] * SHELVES)
    catalog.put({"A-1": Titled("Fiat Panda")})
    assert catalog.get(["A-1"]) == {"A-1": Titled("Fiat Panda")}
