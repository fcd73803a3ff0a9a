"""Everything in Redis lost: the next full run learns anew what stands, sells nothing and rewrites nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.core.ledger_entry import Flag
from tests.sync.http_world import RENDERING, HttpWorld, varied

CARS = 120
_PAGES = {"page_rows": 50}


@pytest.fixture
def world(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpWorld]:
    with HttpWorld(tmp_path, redis_url, rows=varied(CARS, seed=9), quirks=_PAGES) as found:
        yield found


def lost(world: HttpWorld, client: redis.Redis) -> None:
    """Two runs, so that every echo was read, and then nothing in Redis any more."""
    world.good_run()
    world.good_run()
    client.flushall()


@pytest.mark.parametrize("mode", ["full", "incremental"])
@pytest.mark.parametrize("quirk", ["faithful", *RENDERING, "all"])
def test_the_ledger_is_rebuilt_without_a_write(world: HttpWorld, client: redis.Redis, quirk: str, mode: str) -> None:
    on: dict[str, Any] = RENDERING if quirk == "all" else {quirk: True} if quirk in RENDERING else {}
    world.quirks(**_PAGES, **on)
    lost(world, client)
    before = len(world.writes)
    document = world.good_run(mode)
    sent = world.writes[before:]
    assert sent == [], f"{len(sent)} of {CARS} listings written: {document['listings']}"
    assert document["listings"]["unchanged"] == CARS
    entries = world.ctx.ledger.get([row["stock_no"] for row in world.rows])
    assert len(entries) == CARS
    assert {entry.flags & Flag.OWNED for entry in entries.values()} == {Flag.OWNED}
    _goes_on_as_ever(world)


def _goes_on_as_ever(world: HttpWorld) -> None:
    """What was rebuilt serves as a ledger does: one change, one send; one car gone, one sell."""
    before = len(world.writes)
    world.good_run("incremental")
    world.good_run("full")
    assert world.writes[before:] == []
    gone = world.rows.pop()["stock_no"]
    world.rows[0]["price_eur"] = "4321"
    world.good_run("incremental")
    found = [(write.reference, write.outcome) for write in world.writes[before:]]
    assert sorted(found) == sorted([(world.rows[0]["stock_no"], "updated"), (gone, "sold")])
    assert world.standing() == world.wanted()


def test_what_differs_is_sent_and_what_left_meanwhile_is_sold(world: HttpWorld, client: redis.Redis) -> None:
    lost(world, client)
    left = {world.rows.pop()["stock_no"] for _ in range(3)}
    world.rows[4]["price_eur"] = "4321"
    world.rows[5]["photos"] += "|https://photos.invalid/new.jpg"
    world.rows += varied(2, seed=9, first=CARS + 1)
    before = len(world.writes)
    for mode in ("full", "incremental", "full"):
        world.good_run(mode)
    names = [row["stock_no"] for row in world.rows]
    assert {(write.reference, write.outcome) for write in world.writes[before:]} == {
        (names[4], "updated"), (names[5], "updated"), (names[-2], "created"), (names[-1], "created"),
        *((name, "sold") for name in left),
    }  # fmt: skip
    assert len(world.writes) == before + 7, "each once"
    assert world.standing() == world.wanted()


def test_a_photo_exchanged_while_the_ledger_is_lost_is_not_seen(world: HttpWorld, client: redis.Redis) -> None:
    """Reads return addresses of the marketplace's own, so that images can only be counted; told in the design."""
    lost(world, client)
    world.rows[5]["photos"] = world.rows[5]["photos"].replace("/0.jpg", "/other.jpg")
    before = len(world.writes)
    world.good_run()
    assert world.writes[before:] == []
