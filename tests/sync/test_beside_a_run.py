"""What the race test found, each told as a story of its own."""

from __future__ import annotations

from random import Random

import pytest
import redis

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.pending import PendingChange, merged
from okasie_tasks.core.records import Outgoing, Planned, outgoing
from okasie_tasks.store.records import Claim
from okasie_tasks.sync import writes
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.spool import Chunk
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.market import listing, raw_listing
from tests.sync.scenario import ACCOUNT, ANCHOR, Scenario

BEGAN_MS = 2_000
"""When the run began to read the source: long before anything that a test accepts."""


@pytest.fixture
def scenario(client: redis.Redis) -> Scenario:
    found = Scenario(client, 0)
    found.inventory.prices[ANCHOR] = 1
    return found


def about_to_sell(ctx: AccountContext, entry: Entry) -> Part:
    """A run that found the row of R0 gone."""
    ctx.ledger.swap([("R0", None, entry)])
    ctx.runs.request(ACCOUNT, "full")
    run = ctx.runs.begin(ACCOUNT)
    assert run is not None
    ctx.runs.note(run, source_began_ms=BEGAN_MS)
    ctx.runs.data.put(run, "selling", 0, Planned("R0", "sell", "gone", -1, b"", b""))
    ctx.runs.advance(run, "first", "apply", parts=0)
    part = Part(run, "sell", 0, "task")
    claimed(ctx, part)
    return part


def about_to_send(ctx: AccountContext, item: Outgoing) -> Part:
    """A run that has decided to send this listing."""
    ctx.runs.request(ACCOUNT, "full")
    run = ctx.runs.begin(ACCOUNT)
    assert run is not None
    ctx.runs.advance(run, "first", "apply", parts=0)
    ctx.runs.parts.add(run, "upsert", "planned", "chunks", [Chunk([item])])
    return Part(run, "upsert", 0, "task")


def claimed(ctx: AccountContext, part: Part, work: str = "selling") -> Claim:
    claim = ctx.runs.parts.claim(*part, work=work)
    assert claim.state == "claimed"
    return claim


def known(flags: Flag = Flag.OWNED | Flag.IN_SOURCE) -> Entry:
    return Entry(status="active", flags=flags, seen_ms=1_000)


def test_a_push_that_waits_while_its_car_would_be_sold_spends_the_absence(scenario: Scenario) -> None:
    ctx = scenario.plain
    part = about_to_sell(ctx, known())
    for number in range(2):  # the second replaces the first, and is newer still
        accept.accept_push(ctx, f"push-{number}", listings=[raw_listing("R0", 5 + number)])
        assert writes.mark_sold(ctx, part, claimed(ctx, part), scenario.market) == {"overtaken": 1}
    assert ctx.ledger.get(["R0"])["R0"].has(Flag.IN_SOURCE), "a push that is refused spends nothing"
    Sender(ctx, "sender", rng=Random(0), sleep=lambda _: None).run()
    assert scenario.market.stands() == {"R0": 6}
    assert not ctx.ledger.get(["R0"])["R0"].has(Flag.IN_SOURCE)


def test_a_newer_push_is_told_of_the_absence_that_the_older_one_met() -> None:
    one, two = (PendingChange(reference="R0", own=0, seen_ms=moment, waiters=()) for moment in (1, 2))
    gone = PendingChange(reference="R0", own=0, seen_ms=1, waiters=(), row_gone=True)
    assert (merged(gone, two).row_gone, merged(one, two).row_gone) == (True, False)


def test_a_car_whose_absence_was_spent_since_the_plan_is_not_sold(scenario: Scenario) -> None:
    part = about_to_sell(scenario.plain, known(Flag.OWNED | Flag.INLINE_CONTENT | Flag.URGENT))
    assert writes.mark_sold(scenario.plain, part, claimed(scenario.plain, part), scenario.market) == {"overtaken": 1}
    assert scenario.market.writes == []


def test_a_car_that_was_sold_by_hand_since_the_plan_stays_sold(scenario: Scenario) -> None:
    """The run read its row after the sell was accepted: by the stamps, the row is the newer one."""
    ctx = scenario.plain
    scenario.inventory.prices["R0"] = 10
    scenario.quiet_run()
    accept.accept_sell(ctx, "sell", references=["R0"])
    read_ms = ctx.runs.now_ms() + 1
    part = about_to_send(
        ctx, outgoing(listing("R0", 11), action="update", reason="changed", version=0, seen_ms=read_ms)
    )
    Sender(ctx, "sender", rng=Random(0), sleep=lambda _: None).run()
    assert scenario.market.stands()["R0"] == "sold"
    assert ctx.ledger.get(["R0"])["R0"].seen_ms < read_ms
    work = claimed(ctx, part, "chunks").work
    assert writes.upsert_chunk(ctx, part, work, scenario.market) == {"overtaken": 1}
    assert scenario.market.stands()["R0"] == "sold"


def test_a_push_that_arrived_unanswered_is_not_undone_as_drift(scenario: Scenario) -> None:
    """The row did not change: that ours is sent again makes it no newer than the push."""
    scenario.inventory.prices["R0"] = 10
    scenario.quiet_run()
    accept.accept_push(scenario.ctx, "push", listings=[raw_listing("R0", 5)])
    scenario.market.rows["R0"]["price"] = 5
    scenario.quiet_run()  # the watchdog of this world sends what nobody else does
    assert scenario.market.stands()["R0"] == 5
    assert scenario.plain.pushes.get("push").outcomes["R0"].outcome == "updated"
