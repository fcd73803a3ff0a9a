"""What a run costs: an incremental run with nothing changed is one request, and no run costs more than it must."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import Place, Workers, stored

FAST = "requests_per_minute = 100000\nburst_per_second = 10000\n"
VEHICLES = 450


class SteppedClock:
    """The sandbox's clock: goes on by itself, and jumps when told, so that no test waits for time to pass."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def sandbox(clock: SteppedClock) -> Iterator[Sandbox]:
    with Sandbox([Key("fewest-secret", "dex")], limit=0, burst_per_second=100_000, clock=clock) as found:
        yield found


@pytest.mark.system
def test_every_scenario_costs_the_minimum(
    tmp_path: Path, redis_url: str, client: object, sandbox: Sandbox, clock: SteppedClock
) -> None:
    place = Place(tmp_path)
    place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="fewest-secret", extra=FAST)
    place.env["OKASIE_REDIS__URL"] = redis_url
    rows = cars(VEHICLES, seed=3)
    feed = tmp_path / "feed.csv"

    def run(*options: str) -> tuple[int, ...]:
        write_csv(feed, rows)
        clock.ahead += 600  # older than the overlap: what was written before is no news any more
        status, document = place.sync("dex", *options)
        assert (status, document["state"]) == (0, "done"), document
        sent = document["requests"]
        assert sum(sent[kind] for kind in ("list", "bulk", "put", "delete")) == sent["minimum"]
        assert sent["retried"] == sent["rate_limited"] == 0
        return sent["list"], sent["bulk"], sent["delete"]

    with Workers(place, ["okasie.control,okasie.urgent,okasie.diff", "okasie.api"]):
        assert run("--full") == (1, 5, 0), "450 creates in 5 bulk calls, on an empty marketplace"
        assert run() == (3, 0, 0), "the echo of our own 450 writes"
        assert run() == (1, 0, 0), "nothing changed anywhere"
        rows[7]["price_eur"] = str(int(rows[7]["price_eur"]) - 500)
        assert run() == (1, 1, 0), "one price"
        assert run() == (1, 0, 0), "the echo of one price is on the one page that is read anyway"
        del rows[11:14]
        assert run() == (1, 0, 3), "three cars gone"
        rows += cars(2, seed=3, first=VEHICLES + 1)
        rows[20]["km"] = str(int(rows[20]["km"]) + 1000)
        del rows[30]
        assert run() == (1, 1, 1), "a mixed day"
        edit = {"reference": rows[40]["stock_no"], "set": {"price": 1}}
        requests.post(f"{sandbox.admin_url}/listings", json={"key": "dex", "edits": [edit]}, timeout=60)
        assert run() == (1, 1, 0), "one listing edited on the marketplace: ours is sent again"
        assert run() == (1, 0, 0)
        assert run("--full") == (3, 0, 0), "452 listings, sold ones included, on 3 pages; no write"
    there = {reference for reference, row in stored(sandbox, "dex").items() if row["status"] == "active"}
    assert there == {row["stock_no"] for row in rows}
    assert stored(sandbox, "dex")[rows[40]["stock_no"]]["body"]["price"] == int(rows[40]["price_eur"])
