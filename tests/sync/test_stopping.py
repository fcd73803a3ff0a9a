"""A run is cancelled, an account is paused, in the middle of whatever: what was sent is known, the rest goes out later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import redis

from okasie_tasks.errors import NoPermit, RetryLater
from okasie_tasks.marketplace.client import Door
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.runs import pause_hint, run_document
from okasie_tasks.services import current_run
from okasie_tasks.store.records import Run
from okasie_tasks.sync import finish as ending
from okasie_tasks.sync import phases, watchdog
from okasie_tasks.sync.context import Part
from okasie_tasks.sync.executor import perform
from okasie_tasks.urgent import accept
from tests.sync.driver import finish
from tests.sync.guarded_world import GuardedWorld
from tests.sync.http_world import ACCOUNT, varied

CARS = 130
"""Two bulk calls."""


@pytest.fixture
def world(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedWorld]:
    with GuardedWorld(tmp_path, redis_url, rows=varied(CARS, seed=1)) as found:
        yield found


def start(world: GuardedWorld, mode: str = "full") -> str:
    world._write_feed()
    asked, _ = world.tools.runs.request(ACCOUNT, mode)
    assert world.tools.runs.begin(ACCOUNT) == asked
    return asked


def do(world: GuardedWorld, part: Part) -> str:
    token = current_run.set(part.run)
    try:
        while True:
            try:
                return perform(world.tools, part, chance=Random(0))
            except NoPermit:  # this machine was busy for longer than a permit is good
                continue
    finally:
        current_run.reset(token)


def until(world: GuardedWorld, run: str, stage: str) -> Part:
    """Do the run's parts until one of ``stage`` is published; that one, not done."""
    for _ in range(200):
        record = world.tools.runs.get(run)
        assert record is not None
        for name, numbers in phases.windows(world.tools, run, record.stage):
            for number in numbers:
                part = Part(run, name, number, uuid4().hex)
                if name == stage:
                    return part
                do(world, part)
        phases.advance(world.tools, run)
    raise AssertionError(f"no part of {stage}")


def in_flight(monkeypatch: pytest.MonkeyPatch, call: str, happens: Callable[[], object]) -> None:
    """``happens`` once while a request of this kind is under way: the marketplace has it, we do not have its answer."""
    plain, done = getattr(Door, call), []

    def meanwhile(self: Door, *arguments: Any, **named: Any) -> Any:
        answer = plain(self, *arguments, **named)
        if not done:
            done.append(happens())
        return answer

    monkeypatch.setattr(Door, call, meanwhile)


def go_on(world: GuardedWorld, run: str) -> Run:
    """What `okasie.resume` publishes is done, then the rest of the run."""
    for name, stage, parts in list(watchdog.open_again(world.tools, run)):
        for number in parts:
            do(world, Part(name, stage, number, uuid4().hex))
    return finish(world.tools, run)


# -- cancel --------------------------------------------------------------------------------------------------------


def test_the_request_in_flight_is_finished_and_settled_and_the_cursor_stays(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, run = world.tools, start(world)
    follow_up, _ = tools.runs.request(ACCOUNT, "incremental")
    part = until(world, run, "upsert")

    def cancelled() -> None:
        assert tools.runs.stops.cancel(run, ACCOUNT) == "running"
        assert phases.advance(tools, run) is None, "a request is under way"
        assert phases.windows(tools, run, "apply") == []
        assert tools.runs.begin(ACCOUNT) is None

    in_flight(monkeypatch, "bulk_upsert", cancelled)
    assert do(world, part) == "closed"
    record = phases.advance(tools, run)
    assert record is not None
    document = run_document(tools.runs, record)
    assert (document["state"], document["cursor"], document["listings"]["created"]) == ("cancelled", None, 100)
    assert "cancelled by a person" in document["notes"][0]
    assert tools.ledger.count() == len(world.stored()) == 100
    assert do(world, part._replace(number=1, token="late")) == "nothing"
    assert tools.runs.begin(ACCOUNT) == follow_up
    after = run_document(tools.runs, finish(tools, follow_up))
    assert (after["state"], after["listings"]["created"], after["listings"]["unchanged"]) == ("done", 30, 100), after
    assert world.requests().count("bulk") == 2


def test_what_was_sent_is_settled_also_when_the_run_has_ended_meanwhile(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, run = world.tools, start(world)
    part = until(world, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: ending.stop(tools, run, "unauthorized", "the key was refused", ""))
    do(world, part)
    assert tools.runs.state(run) == "failed"
    assert tools.ledger.count() == len(world.stored()) == 100
    assert world.good_run()["listings"]["created"] == 30


def test_a_sell_in_flight_is_settled_too(world: GuardedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.good_run()
    gone = world.remove(world.rows[:3])
    run = start(world, "incremental")
    part = until(world, run, "sell")
    in_flight(monkeypatch, "delete", lambda: world.tools.runs.stops.cancel(run, ACCOUNT))
    do(world, part)
    record = phases.advance(world.tools, run)
    assert record is not None
    assert (record.state, len(world.sold())) == ("cancelled", 1)
    assert world.good_run()["listings"]["sold"] == 2
    assert world.sold() == gone
    assert world.requests().count("delete") == 3


def test_a_part_that_finds_the_run_cancelled_ends_it(world: GuardedWorld) -> None:
    run = start(world)
    part = until(world, run, "load")
    world.tools.runs.stops.cancel(run, ACCOUNT)
    assert do(world, part) == "stopped"
    assert world.tools.runs.state(run) == "cancelled"
    assert world.tools.runs.begin(ACCOUNT) is None, "nothing waits"


def test_a_request_that_is_to_be_tried_again_is_not(world: GuardedWorld) -> None:
    run = start(world)
    part = until(world, run, "upsert")
    world.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "bulk"}, "times": 1})
    with pytest.raises(RetryLater):
        do(world, part)
    world.tools.runs.stops.cancel(run, ACCOUNT)
    assert do(world, part) == "stopped"
    assert world.tools.runs.state(run) == "cancelled"


def test_the_watchdog_ends_a_cancelled_run_that_nobody_works_on(world: GuardedWorld) -> None:
    run = start(world)
    world.tools.runs.stops.pause(ACCOUNT)
    world.tools.runs.stops.cancel(run, ACCOUNT)
    world.tools.runs.note(run, progress_ms=1)
    assert list(watchdog.look(world.tools, ACCOUNT)) == []
    assert world.tools.runs.state(run) == "cancelled"


def test_nothing_is_published_of_a_run_that_is_to_end_or_rests(world: GuardedWorld) -> None:
    tools, run = world.tools, start(world)
    tools.runs.stops.pause(ACCOUNT)
    assert phases.windows(tools, run, "first") == []
    tools.runs.stops.resume(ACCOUNT)
    assert phases.windows(tools, run, "first") == [("first", range(1))], "it was not handed out before"
    do(world, Part(run, "first", 0, "a"))
    do(world, until(world, run, "spool"))
    tools.runs.stops.cancel(run, ACCOUNT)
    assert phases.windows(tools, run, "apply") == []


# -- pause ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["first", "load", "diff", "spool", "upsert"])
def test_a_paused_run_stands_still_in_any_stage_and_goes_on_to_the_same_end(world: GuardedWorld, stage: str) -> None:
    tools, run = world.tools, start(world)
    part = until(world, run, stage)
    since = tools.runs.stops.pause(ACCOUNT)
    sent = len(world.requests())
    assert do(world, part) == "nothing"
    record = tools.runs.get(run)
    assert record is not None
    assert phases.windows(tools, run, record.stage) == []
    tools.runs.note(run, progress_ms=1)
    assert list(watchdog.look(tools, ACCOUNT)) == [], "the watchdog leaves it alone"
    assert len(world.requests()) == sent
    assert world.status()["paused_since"] is not None
    assert f"okasie resume {ACCOUNT}" in pause_hint(tools)
    assert tools.runs.stops.resume(ACCOUNT) == since
    document = run_document(tools.runs, go_on(world, run))
    assert (document["state"], document["listings"]["created"], document["error"]) == ("done", CARS, None), document
    assert world.requests() == ["list", "bulk", "bulk"]
    assert (world.status()["paused_since"], pause_hint(tools)) == (None, "")


def test_a_request_in_flight_when_the_account_is_paused_is_settled(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, run = world.tools, start(world)
    part = until(world, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: tools.runs.stops.pause(ACCOUNT))
    assert do(world, part) == "closed"
    assert tools.ledger.count() == 100
    tools.runs.stops.resume(ACCOUNT)
    assert go_on(world, run).state == "done"
    assert world.requests().count("bulk") == 2


def test_ticks_while_paused_are_one_run_that_begins_when_it_goes_on(world: GuardedWorld) -> None:
    tools = world.tools
    world.good_run()
    tools.runs.stops.pause(ACCOUNT)
    asked = {tools.runs.request(ACCOUNT, mode)[0] for mode in ("incremental", "full", "incremental")}
    assert len(asked) == 1
    assert tools.runs.begin(ACCOUNT) is None
    assert not watchdog.may_begin(tools, ACCOUNT)
    tools.runs.stops.resume(ACCOUNT)
    assert watchdog.may_begin(tools, ACCOUNT)
    assert {tools.runs.begin(ACCOUNT)} == asked


def test_pushes_and_sells_are_kept_while_paused_and_sent_after(world: GuardedWorld) -> None:
    world.good_run()
    tools, sent = world.tools, len(world.requests())
    tools.runs.stops.pause(ACCOUNT)
    new_price, sold = world.rows[0]["stock_no"], world.rows[1]["stock_no"]
    world.rows[0]["price_eur"] = "4321"
    world.push_reference(new_price)
    world.sell(sold)
    assert len(world.requests()) == sent
    assert tools.inbox.count() == 2
    assert f"okasie resume {ACCOUNT}" in why_document(tools, new_price)["next"]
    tools.runs.stops.resume(ACCOUNT)
    world._send()
    assert sorted(world.requests(sent)) == ["delete", "put"]
    assert (world.sold(), world.standing()[new_price]["price"]) == ({sold}, 4321)


def test_a_pause_between_two_requests_of_the_urgent_lane_stops_the_second(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good_run()
    tools, sent = world.tools, len(world.requests())
    for row in world.rows[:2]:
        accept.accept_sell(tools, uuid4().hex, references=[row["stock_no"]])
    in_flight(monkeypatch, "delete", lambda: tools.runs.stops.pause(ACCOUNT))
    world._send()
    assert (world.requests(sent), tools.inbox.count()) == (["delete"], 1)
    tools.runs.stops.resume(ACCOUNT)
    world._send()
    assert (world.requests(sent), tools.inbox.count()) == (["delete", "delete"], 0)


def test_a_wish_that_waited_through_a_long_pause_is_not_given_up_at_its_first_failure(world: GuardedWorld) -> None:
    tools = world.tools
    tools.runs.stops.pause(ACCOUNT)
    world.push_reference(world.rows[0]["stock_no"])
    ((raw, wish),) = tools.inbox.first(1)
    two_hours_old = msgspec.structs.replace(wish, seen_ms=wish.seen_ms - 2 * 3600 * 1000)
    tools.inbox.swap([(raw, two_hours_old)])
    tools.runs.stops.resume(ACCOUNT)
    world.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "put"}, "times": 1})
    with pytest.raises(RetryLater):
        world._send()
    assert tools.inbox.count() == 1
