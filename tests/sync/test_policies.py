"""An edit on the marketplace under each policy: who wins, what is told of it, and what the source is offered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.reports.listing import why_document
from tests.sync.guarded_world import GuardedWorld
from tests.sync.http_world import varied

CAR = "DG-00003"
Make = Callable[[str], Any]


@pytest.fixture
def make(tmp_path: Path, redis_url: str, client: redis.Redis) -> Make:
    @contextmanager
    def world(policy: str) -> Iterator[GuardedWorld]:
        extra = f'conflict = "{policy}"\n'
        feed = '[accounts.dex.source.write_back]\nfile = "changes.jsonl"\n'
        with GuardedWorld(tmp_path, redis_url, rows=varied(20, seed=1), account=extra, more=feed) as found:
            found.good_run()
            yield found

    return world


def edit(world: GuardedWorld, price: int) -> None:
    """Somebody sets a price on the marketplace, after all that we sent."""
    world.clock.ahead += 3600
    world.edit({"reference": CAR, "set": {"price": price}})


def row(world: GuardedWorld) -> dict[str, str]:
    return next(row for row in world.rows if row["stock_no"] == CAR)


def price(world: GuardedWorld) -> int:
    return int(world.standing()[CAR]["price"])


def offers(world: GuardedWorld) -> list[dict[str, Any]]:
    file = world.folder / "changes.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(("policy", "ours_stands"), [("local", True), ("remote", False), ("newest", False)])
@pytest.mark.parametrize("mode", ["incremental", "full"])
@pytest.mark.parametrize("echo_read", [True, False])
def test_an_edit_there_while_our_row_stands(
    make: Make, policy: str, ours_stands: bool, mode: str, echo_read: bool
) -> None:
    with make(policy) as world:
        ours = price(world)
        if echo_read:
            world.good_run()
        edit(world, 1111)
        document = world.good_run(mode, step=False)
        assert document["listings"]["drifted"] == 1, document
        assert price(world) == (ours if ours_stands else 1111)
        events = why_document(world.ctx, CAR)["events"]
        assert [{"field": "price", "ours": ours, "theirs": 1111}] in [event["changes"] for event in events], events
        seen = world.status()["conflicts"][0]
        assert (seen["reference"], seen["changes"]) == (CAR, [{"field": "price", "ours": ours, "theirs": 1111}]), seen
        told = [] if ours_stands else [(CAR, {"price": {"ours": ours, "theirs": 1111}})]
        assert [(line["reference"], line["changes"]) for line in offers(world)] == told
        for again in ("full", "incremental", "full"):
            document = world.good_run(again)
            assert document["requests"]["bulk"] == 0, "decided once"
        assert len(offers(world)) == len(told), "offered once"


@pytest.mark.parametrize(
    ("policy", "hours", "stands"),
    [("local", -2, 2222), ("remote", -2, 1111), ("newest", -2, 2222), ("newest", 2, 1111), ("local", 2, 2222)],
)
def test_an_edit_on_both_sides(make: Make, policy: str, hours: int, stands: int) -> None:
    """Without a version of its own a row is as new as its reading: before or after their edit."""
    with make(policy) as world:
        world.good_run()  # reads the echo
        world.clock.ahead += hours * 3600
        world.edit({"reference": CAR, "set": {"price": 1111}})
        row(world)["price_eur"] = "2222"
        document = world.good_run("full", step=False)
        assert document["listings"]["conflicts"] == 1, document
        assert price(world) == stands
        assert len(offers(world)) == (stands == 1111)


def test_what_the_source_takes_over_ends_the_difference(make: Make) -> None:
    with make("remote") as world:
        edit(world, 1111)
        world.good_run(step=False)
        row(world)["price_eur"] = "1111"
        world.good_run()
        assert price(world) == 1111
        assert world.good_run()["requests"]["bulk"] == 0
        row(world)["price_eur"] = "3333"
        assert world.good_run("incremental")["listings"]["updated"] == 1
        assert price(world) == 3333


def test_an_offer_that_cannot_be_made_is_made_again(make: Make) -> None:
    with make("remote") as world:
        edit(world, 1111)
        target = world.folder / "changes.jsonl"
        target.mkdir()
        document = world.good_run(step=False)
        assert "could not be offered" in document["notes"][0]
        target.rmdir()
        assert world.good_run()["notes"] == []
        assert [line["reference"] for line in offers(world)] == [CAR]
