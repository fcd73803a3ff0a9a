"""Control totals: the marketplace's own counts against ours, once a day; two differences in a row ask for a full run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from okasie_tasks.sync import control_totals
from tests.sync.guarded_world import GuardedWorld
from tests.sync.http_world import ACCOUNT, varied


@pytest.fixture
def world(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedWorld]:
    with GuardedWorld(tmp_path, redis_url, rows=varied(20, seed=1)) as found:
        found.good_run()
        yield found


def a_day_later(world: GuardedWorld) -> None:
    """As if the last count were a day old: Redis keeps the time, and no test waits for it."""
    counted_ms = world.ctx.runs.account(ACCOUNT).counted_ms
    world.ctx.runs.note_account(ACCOUNT, counted_ms=counted_ms - control_totals.EVERY_MS)


def counts(world: GuardedWorld) -> int:
    return world.requests().count("locations")


def test_it_costs_one_request_a_day_in_a_full_run(world: GuardedWorld) -> None:
    for mode in ("full", "incremental"):
        world.good_run(mode)
    assert counts(world) == 0, "the first day"
    a_day_later(world)
    world.good_run("incremental")
    assert counts(world) == 0
    for _ in range(2):
        world.good_run("full")
        assert counts(world) == 1


def test_what_we_believe_is_what_they_count(world: GuardedWorld) -> None:
    world.edit({"reference": "OTHER", "create": {"title": "Theirs", "price": 5}})
    world.edit({"create": {"title": "Nameless", "price": 5}})
    world.sell(world.rows[0]["stock_no"])
    world.remove(world.rows[1:3])
    world.rows += varied(2, seed=1, first=90)
    a_day_later(world)
    document = world.good_run("full")
    assert document["control"] == {"ours": 21, "theirs": 21}, document
    assert document["notes"] == []


def test_two_differences_in_a_row_ask_for_a_full_run(world: GuardedWorld) -> None:
    world.quirks(count_error=1)
    a_day_later(world)
    document = world.good_run("full")
    assert (document["control"]["theirs"] - document["control"]["ours"]) > 0
    assert "the marketplace counts" in document["notes"][0]
    assert world.ctx.runs.waiting(ACCOUNT) is None, "one may be a push that came between"
    a_day_later(world)
    world.good_run("full")
    waiting = world.ctx.runs.waiting(ACCOUNT)
    assert waiting is not None
    run = world.ctx.runs.get(waiting)
    assert run is not None
    assert run.mode == "full"


def test_a_count_that_is_right_again_forgets_the_difference(world: GuardedWorld) -> None:
    for error in (1, 0, 1):
        world.quirks(count_error=error)
        a_day_later(world)
        world.good_run("full")
    assert world.ctx.runs.waiting(ACCOUNT) is None


def test_a_key_that_may_not_read_locations_is_no_fault(world: GuardedWorld) -> None:
    world.lose_scope("read:locations")
    a_day_later(world)
    document = world.good_run("full")
    assert (document["control"], counts(world)) == (None, 1)
