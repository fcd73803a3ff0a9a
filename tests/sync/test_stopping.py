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
from tests.sync.guarded_scenario import GuardedScenario
from tests.sync.http_scenario import ACCOUNT, varied

CARS = 130
"""Two bulk calls."""


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[GuardedScenario]:
    with GuardedScenario(tmp_path, redis_url, rows=varied(CARS, seed=1)) as found:
        yield found


def start(scenario: GuardedScenario, mode: str = "full") -> str:
    scenario._write_feed()
    asked, _ = scenario.ctx.runs.request(ACCOUNT, mode)
    assert scenario.ctx.runs.begin(ACCOUNT) == asked
    return asked


def do(scenario: GuardedScenario, part: Part) -> str:
    token = current_run.set(part.run)
    try:
        while True:
            try:
                return perform(scenario.ctx, part, rng=Random(0))
            except NoPermit:  # this machine was busy for longer than a permit is good
                continue
    finally:
        current_run.reset(token)


def until(scenario: GuardedScenario, run: str, stage: str) -> Part:
    """Do the run's parts until one of ``stage`` is published; that one, not done."""
    for _ in range(200):
        record = scenario.ctx.runs.get(run)
        assert record is not None
        for name, numbers in phases.windows(scenario.ctx, run, record.stage):
            for number in numbers:
                part = Part(run, name, number, uuid4().hex)
                if name == stage:
                    return part
                do(scenario, part)
        phases.advance(scenario.ctx, run)
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


def go_on(scenario: GuardedScenario, run: str) -> Run:
    """What `okasie.resume` publishes is done, then the rest of the run."""
    for name, stage, parts in list(watchdog.open_again(scenario.ctx, run)):
        for number in parts:
            do(scenario, Part(name, stage, number, uuid4().hex))
    return finish(scenario.ctx, run)


# -- cancel --------------------------------------------------------------------------------------------------------


def test_the_request_in_flight_is_finished_and_settled_and_the_cursor_stays(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = scenario.ctx, start(scenario)
    follow_up, _ = ctx.runs.request(ACCOUNT, "incremental")
    part = until(scenario, run, "upsert")

    def cancelled() -> None:
        assert ctx.runs.controls.cancel(run, ACCOUNT) == "running"
        assert phases.advance(ctx, run) is None, "a request is under way"
        assert phases.windows(ctx, run, "apply") == []
        assert ctx.runs.begin(ACCOUNT) is None

    in_flight(monkeypatch, "bulk_upsert", cancelled)
    assert do(scenario, part) == "closed"
    record = phases.advance(ctx, run)
    assert record is not None
    document = run_document(ctx.runs, record)
    assert (document["state"], document["cursor"], document["listings"]["created"]) == ("cancelled", None, 100)
    assert "cancelled by an operator" in document["notes"][0]
    assert ctx.ledger.count() == len(scenario.stored()) == 100
    assert do(scenario, part._replace(number=1, token="late")) == "nothing"
    assert ctx.runs.begin(ACCOUNT) == follow_up
    after = run_document(ctx.runs, finish(ctx, follow_up))
    assert (after["state"], after["listings"]["created"], after["listings"]["unchanged"]) == ("done", 30, 100), after
    assert scenario.requests().count("bulk") == 2


def test_what_was_sent_is_settled_also_when_the_run_has_ended_meanwhile(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = scenario.ctx, start(scenario)
    part = until(scenario, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: ending.stop(ctx, run, "unauthorized", "the key was refused", ""))
    do(scenario, part)
    assert ctx.runs.state(run) == "failed"
    assert ctx.ledger.count() == len(scenario.stored()) == 100
    assert scenario.good_run()["listings"]["created"] == 30


def test_a_sell_in_flight_is_settled_too(scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.good_run()
    gone = scenario.remove(scenario.rows[:3])
    run = start(scenario, "incremental")
    part = until(scenario, run, "sell")
    in_flight(monkeypatch, "delete", lambda: scenario.ctx.runs.controls.cancel(run, ACCOUNT))
    do(scenario, part)
    record = phases.advance(scenario.ctx, run)
    assert record is not None
    assert (record.state, len(scenario.sold())) == ("cancelled", 1)
    assert scenario.good_run()["listings"]["sold"] == 2
    assert scenario.sold() == gone
    assert scenario.requests().count("delete") == 3


def test_a_part_that_finds_the_run_cancelled_ends_it(scenario: GuardedScenario) -> None:
    run = start(scenario)
    part = until(scenario, run, "load")
    scenario.ctx.runs.controls.cancel(run, ACCOUNT)
    assert do(scenario, part) == "stopped"
    assert scenario.ctx.runs.state(run) == "cancelled"
    assert scenario.ctx.runs.begin(ACCOUNT) is None, "nothing waits"


def test_a_request_that_is_to_be_tried_again_is_not(scenario: GuardedScenario) -> None:
    run = start(scenario)
    part = until(scenario, run, "upsert")
    scenario.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "bulk"}, "times": 1})
    with pytest.raises(RetryLater):
        do(scenario, part)
    scenario.ctx.runs.controls.cancel(run, ACCOUNT)
    assert do(scenario, part) == "stopped"
    assert scenario.ctx.runs.state(run) == "cancelled"


def test_the_watchdog_ends_a_cancelled_run_that_nobody_works_on(scenario: GuardedScenario) -> None:
    run = start(scenario)
    scenario.ctx.runs.controls.pause(ACCOUNT)
    scenario.ctx.runs.controls.cancel(run, ACCOUNT)
    scenario.ctx.runs.note(run, progress_ms=1)
    assert list(watchdog.look(scenario.ctx, ACCOUNT)) == []
    assert scenario.ctx.runs.state(run) == "cancelled"


def test_nothing_is_published_of_a_run_that_is_to_end_or_rests(scenario: GuardedScenario) -> None:
    ctx, run = scenario.ctx, start(scenario)
    ctx.runs.controls.pause(ACCOUNT)
    assert phases.windows(ctx, run, "first") == []
    ctx.runs.controls.resume(ACCOUNT)
    assert phases.windows(ctx, run, "first") == [("first", range(1))], "it was not handed out before"
    do(scenario, Part(run, "first", 0, "a"))
    do(scenario, until(scenario, run, "spool"))
    ctx.runs.controls.cancel(run, ACCOUNT)
    assert phases.windows(ctx, run, "apply") == []


# -- pause ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["first", "load", "diff", "spool", "upsert"])
def test_a_paused_run_stands_still_in_any_stage_and_goes_on_to_the_same_end(
    scenario: GuardedScenario, stage: str
) -> None:
    ctx, run = scenario.ctx, start(scenario)
    part = until(scenario, run, stage)
    since = ctx.runs.controls.pause(ACCOUNT)
    sent = len(scenario.requests())
    assert do(scenario, part) == "nothing"
    record = ctx.runs.get(run)
    assert record is not None
    assert phases.windows(ctx, run, record.stage) == []
    ctx.runs.note(run, progress_ms=1)
    assert list(watchdog.look(ctx, ACCOUNT)) == [], "the watchdog leaves it alone"
    assert len(scenario.requests()) == sent
    assert scenario.status()["paused_since"] is not None
    assert f"okasie resume {ACCOUNT}" in pause_hint(ctx)
    assert ctx.runs.controls.resume(ACCOUNT) == since
    document = run_document(ctx.runs, go_on(scenario, run))
    assert (document["state"], document["listings"]["created"], document["error"]) == ("done", CARS, None), document
    assert scenario.requests() == ["list", "bulk", "bulk"]
    assert (scenario.status()["paused_since"], pause_hint(ctx)) == (None, "")


def test_a_request_in_flight_when_the_account_is_paused_is_settled(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, run = scenario.ctx, start(scenario)
    part = until(scenario, run, "upsert")
    in_flight(monkeypatch, "bulk_upsert", lambda: ctx.runs.controls.pause(ACCOUNT))
    assert do(scenario, part) == "closed"
    assert ctx.ledger.count() == 100
    ctx.runs.controls.resume(ACCOUNT)
    assert go_on(scenario, run).state == "done"
    assert scenario.requests().count("bulk") == 2


def test_ticks_while_paused_are_one_run_that_begins_when_it_goes_on(scenario: GuardedScenario) -> None:
    ctx = scenario.ctx
    scenario.good_run()
    ctx.runs.controls.pause(ACCOUNT)
    asked = {ctx.runs.request(ACCOUNT, mode)[0] for mode in ("incremental", "full", "incremental")}
    assert len(asked) == 1
    assert ctx.runs.begin(ACCOUNT) is None
    assert not watchdog.may_begin(ctx, ACCOUNT)
    ctx.runs.controls.resume(ACCOUNT)
    assert watchdog.may_begin(ctx, ACCOUNT)
    assert {ctx.runs.begin(ACCOUNT)} == asked


def test_pushes_and_sells_are_kept_while_paused_and_sent_after(scenario: GuardedScenario) -> None:
    scenario.good_run()
    ctx, sent = scenario.ctx, len(scenario.requests())
    ctx.runs.controls.pause(ACCOUNT)
    new_price, sold = scenario.rows[0]["stock_no"], scenario.rows[1]["stock_no"]
    scenario.rows[0]["price_eur"] = "4321"
    scenario.push_reference(new_price)
    scenario.sell(sold)
    assert len(scenario.requests()) == sent
    assert ctx.urgent_queue.count() == 2
    assert f"okasie resume {ACCOUNT}" in why_document(ctx, new_price)["next"]
    ctx.runs.controls.resume(ACCOUNT)
    scenario._send()
    assert sorted(scenario.requests(sent)) == ["delete", "put"]
    assert (scenario.sold(), scenario.standing()[new_price]["price"]) == ({sold}, 4321)


def test_a_pause_between_two_requests_of_the_urgent_lane_stops_the_second(
    scenario: GuardedScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.good_run()
    ctx, sent = scenario.ctx, len(scenario.requests())
    for row in scenario.rows[:2]:
        accept.accept_sell(ctx, uuid4().hex, references=[row["stock_no"]])
    in_flight(monkeypatch, "delete", lambda: ctx.runs.controls.pause(ACCOUNT))
    scenario._send()
    assert (scenario.requests(sent), ctx.urgent_queue.count()) == (["delete"], 1)
    ctx.runs.controls.resume(ACCOUNT)
    scenario._send()
    assert (scenario.requests(sent), ctx.urgent_queue.count()) == (["delete", "delete"], 0)


def test_a_wish_that_waited_through_a_long_pause_is_not_given_up_at_its_first_failure(
    scenario: GuardedScenario,
) -> None:
    ctx = scenario.ctx
    ctx.runs.controls.pause(ACCOUNT)
    scenario.push_reference(scenario.rows[0]["stock_no"])
    ((raw, change),) = ctx.urgent_queue.first(1)
    two_hours_old = msgspec.structs.replace(change, seen_ms=change.seen_ms - 2 * 3600 * 1000)
    ctx.urgent_queue.swap([(raw, two_hours_old)])
    ctx.runs.controls.resume(ACCOUNT)
    scenario.faults({"kind": "500", "match": {"key": ACCOUNT, "path": "put"}, "times": 1})
    with pytest.raises(RetryLater):
        scenario._send()
    assert ctx.urgent_queue.count() == 1
