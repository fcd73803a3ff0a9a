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
from okasie_tasks.marketplace.client import PermittedCall
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
    asked, _ = world.ctx.runs.request(ACCOUNT, mode)
    assert world.ctx.runs.begin(ACCOUNT) == asked
    return asked


def do(world: GuardedWorld, part: Part) -> str:
    token = current_run.set(part.run)
    try:
        while True:
            try:
                return perform(world.ctx, part, rng=Random(0))
            except NoPermit:  # this machine was busy for longer than a permit is good
                continue
    finally:
        current_run.reset(token)


def until(world: GuardedWorld, run: str, stage: str) -> Part:
    """Do the run's parts until one of ``stage`` is published; that one, not done."""
    for _ in range(200):
        record = world.ctx.runs.get(run)
        assert record is not None
        for name, numbers in phases.windows(world.ctx, run, record.stage):
            for number in numbers:
                part = Part(run, name, number, uuid4().hex)
                if name == stage:
                    return part
                do(world, part)
        phases.advance(world.ctx, run)
    raise AssertionError(f"no part of {stage}")


def in_flight(monkeypatch: pytest.MonkeyPatch, call: str, happens: Callable[[], object]) -> None:
    """``happens`` once while a request of this kind is under way: the marketplace has it, we do not have its answer."""
    plain, done = getattr(PermittedCall, call), []

    def meanwhile(self: PermittedCall, *arguments: Any, **named: Any) -> Any:
        answer = plain(self, *arguments, **named)
        if not done:
            done.append(happens())
        return answer

    monkeypatch.setattr(PermittedCall, call, meanwhile)


def go_on(world: GuardedWorld, run: str) -> Run:
    """What `okasie.resume` publishes is done, then the rest of the run."""
    for name, stage, parts in list(watchdog.open_again(world.ctx, run)):
        for number in parts:
            do(world, Part(name, stage, number, uuid4().hex))
    return finish(world.ctx, run)


# -- cancel --------------------------------------------------------------------------------------------------------


def test_the_request_in_flight_is_finished_and_settled_and_the_cursor_stays(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = world.ctx, start(world)
    follow_up, _ = ctx.runs.request(ACCOUNT, "incremental")
    part = until(world, run, "upsert")

    def cancelled() -> None:
        assert ctx.runs.controls.cancel(run, ACCOUNT) == "running"
        assert phases.advance(ctx, run) is None, "a request is under way"
        assert phases.windows(ctx, run, "apply") == []
        assert ctx.runs.begin(ACCOUNT) is None

    in_flight(monkeypatch, "bulk_upsert", cancelled)
    assert do(world, part) == "closed"
    record = phases.advance(ctx, run)
    assert record is not None
    document = run_document(ctx.runs, record)
    assert (document["state"], document["cursor"], document["listings"]["created"]) == ("cancelled", None, 100)
    assert "cancelled by an operator" in document["notes"][0]
    assert ctx.ledger.count() == len(world.stored()) == 100
    assert do(world, part._replace(number=1, token="late")) == "nothing"
    assert ctx.runs.begin(ACCOUNT) == follow_up
    after = run_document(ctx.runs, finish(ctx, follow_up))
    assert (after["state"], after["listings"]["created"], after["listings"]["unchanged"]) == ("done", 30, 100), after
    assert world.requests().count("bulk") == 2


def test_what_was_sent_is_settled_also_when_the_run_has_ended_meanwhile(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = world.ctx, start(world)
    part = until(world, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: ending.stop(ctx, run, "unauthorized", "the key was refused", ""))
    do(world, part)
    assert ctx.runs.state(run) == "failed"
    assert ctx.ledger.count() == len(world.stored()) == 100
    assert world.good_run()["listings"]["created"] == 30


def test_a_sell_in_flight_is_settled_too(world: GuardedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.good_run()
    gone = world.remove(world.rows[:3])
    run = start(world, "incremental")
    part = until(world, run, "sell")
    in_flight(monkeypatch, "delete", lambda: world.ctx.runs.controls.cancel(run, ACCOUNT))
    do(world, part)
    record = phases.advance(world.ctx, run)
    assert record is not None
    assert (record.state, len(world.sold())) == ("cancelled", 1)
    assert world.good_run()["listings"]["sold"] == 2
    assert world.sold() == gone
    assert world.requests().count("delete") == 3


def test_a_part_that_finds_the_run_cancelled_ends_it(world: GuardedWorld) -> None:
    run = start(world)
    part = until(world, run, "load")
    world.ctx.runs.controls.cancel(run, ACCOUNT)
    assert do(world, part) == "stopped"
    assert world.ctx.runs.state(run) == "cancelled"
    assert world.ctx.runs.begin(ACCOUNT) is None, "nothing waits"


def test_a_request_that_is_to_be_tried_again_is_not(world: GuardedWorld) -> None:
    run = start(world)
    part = until(world, run, "upsert")
    world.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "bulk"}, "times": 1})
    with pytest.raises(RetryLater):
        do(world, part)
    world.ctx.runs.controls.cancel(run, ACCOUNT)
    assert do(world, part) == "stopped"
    assert world.ctx.runs.state(run) == "cancelled"


def test_the_watchdog_ends_a_cancelled_run_that_nobody_works_on(world: GuardedWorld) -> None:
    run = start(world)
    world.ctx.runs.controls.pause(ACCOUNT)
    world.ctx.runs.controls.cancel(run, ACCOUNT)
    world.ctx.runs.note(run, progress_ms=1)
    assert list(watchdog.look(world.ctx, ACCOUNT)) == []
    assert world.ctx.runs.state(run) == "cancelled"


def test_nothing_is_published_of_a_run_that_is_to_end_or_rests(world: GuardedWorld) -> None:
    ctx, run = world.ctx, start(world)
    ctx.runs.controls.pause(ACCOUNT)
    assert phases.windows(ctx, run, "first") == []
    ctx.runs.controls.resume(ACCOUNT)
    assert phases.windows(ctx, run, "first") == [("first", range(1))], "it was not handed out before"
    do(world, Part(run, "first", 0, "a"))
    do(world, until(world, run, "spool"))
    ctx.runs.controls.cancel(run, ACCOUNT)
    assert phases.windows(ctx, run, "apply") == []


# -- pause ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["first", "load", "diff", "spool", "upsert"])
def test_a_paused_run_stands_still_in_any_stage_and_goes_on_to_the_same_end(world: GuardedWorld, stage: str) -> None:
    ctx, run = world.ctx, start(world)
    part = until(world, run, stage)
    since = ctx.runs.controls.pause(ACCOUNT)
    sent = len(world.requests())
    assert do(world, part) == "nothing"
    record = ctx.runs.get(run)
    assert record is not None
    assert phases.windows(ctx, run, record.stage) == []
    ctx.runs.note(run, progress_ms=1)
    assert list(watchdog.look(ctx, ACCOUNT)) == [], "the watchdog leaves it alone"
    assert len(world.requests()) == sent
    assert world.status()["paused_since"] is not None
    assert f"okasie resume {ACCOUNT}" in pause_hint(ctx)
    assert ctx.runs.controls.resume(ACCOUNT) == since
    document = run_document(ctx.runs, go_on(world, run))
    assert (document["state"], document["listings"]["created"], document["error"]) == ("done", CARS, None), document
    assert world.requests() == ["list", "bulk", "bulk"]
    assert (world.status()["paused_since"], pause_hint(ctx)) == (None, "")


def test_a_request_in_flight_when_the_account_is_paused_is_settled(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = world.ctx, start(world)
    part = until(world, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: ctx.runs.controls.pause(ACCOUNT))
    assert do(world, part) == "closed"
    assert ctx.ledger.count() == 100
    ctx.runs.controls.resume(ACCOUNT)
    assert go_on(world, run).state == "done"
    assert world.requests().count("bulk") == 2


def test_ticks_while_paused_are_one_run_that_begins_when_it_goes_on(world: GuardedWorld) -> None:
    ctx = world.ctx
    world.good_run()
    ctx.runs.controls.pause(ACCOUNT)
    asked = {ctx.runs.request(ACCOUNT, mode)[0] for mode in ("incremental", "full", "incremental")}
    assert len(asked) == 1
    assert ctx.runs.begin(ACCOUNT) is None
    assert not watchdog.may_begin(ctx, ACCOUNT)
    ctx.runs.controls.resume(ACCOUNT)
    assert watchdog.may_begin(ctx, ACCOUNT)
    assert {ctx.runs.begin(ACCOUNT)} == asked


def test_pushes_and_sells_are_kept_while_paused_and_sent_after(world: GuardedWorld) -> None:
    world.good_run()
    ctx, sent = world.ctx, len(world.requests())
    ctx.runs.controls.pause(ACCOUNT)
    new_price, sold = world.rows[0]["stock_no"], world.rows[1]["stock_no"]
    world.rows[0]["price_eur"] = "4321"
    world.push_reference(new_price)
    world.sell(sold)
    assert len(world.requests()) == sent
    assert ctx.urgent_queue.count() == 2
    assert f"okasie resume {ACCOUNT}" in why_document(ctx, new_price)["next"]
    ctx.runs.controls.resume(ACCOUNT)
    world._send()
    assert sorted(world.requests(sent)) == ["delete", "put"]
    assert (world.sold(), world.standing()[new_price]["price"]) == ({sold}, 4321)


def test_a_pause_between_two_requests_of_the_urgent_lane_stops_the_second(
    world: GuardedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good_run()
    ctx, sent = world.ctx, len(world.requests())
    for row in world.rows[:2]:
        accept.accept_sell(ctx, uuid4().hex, references=[row["stock_no"]])
    in_flight(monkeypatch, "delete", lambda: ctx.runs.controls.pause(ACCOUNT))
    world._send()
    assert (world.requests(sent), ctx.urgent_queue.count()) == (["delete"], 1)
    ctx.runs.controls.resume(ACCOUNT)
    world._send()
    assert (world.requests(sent), ctx.urgent_queue.count()) == (["delete", "delete"], 0)


def test_a_wish_that_waited_through_a_long_pause_is_not_given_up_at_its_first_failure(world: GuardedWorld) -> None:
    ctx = world.ctx
    ctx.runs.controls.pause(ACCOUNT)
    world.push_reference(world.rows[0]["stock_no"])
    ((raw, wish),) = ctx.urgent_queue.first(1)
    two_hours_old = msgspec.structs.replace(wish, seen_ms=wish.seen_ms - 2 * 3600 * 1000)
    ctx.urgent_queue.swap([(raw, two_hours_old)])
    ctx.runs.controls.resume(ACCOUNT)
    world.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "put"}, "times": 1})
    with pytest.raises(RetryLater):
        world._send()
    assert ctx.urgent_queue.count() == 1
