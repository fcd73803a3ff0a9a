"""Who stood still and was given up: what it has in its hands when it goes on must change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import Planned, encode, outgoing
from okasie_tasks.marketplace.client import PermittedCall
from okasie_tasks.sandbox.sample import cars
from okasie_tasks.store.records import Claim
from okasie_tasks.sync import writes
from okasie_tasks.sync.context import Part
from okasie_tasks.sync.executor import perform
from okasie_tasks.sync.spool import Chunk
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.sender import Sender
from tests.sync.http_scenario import ACCOUNT, HttpScenario


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=cars(5, seed=1)) as found:
        yield found


def test_who_was_given_up_sends_nothing(scenario: HttpScenario) -> None:
    """It stood still before its request."""
    late = captured(scenario)
    row = next(iter(scenario.ctx.source().rows()))
    assert row.listing is not None
    item = outgoing(row.listing, action="update", reason="price", version=0, seen_ms=scenario.ctx.runs.now_ms())
    gone = Planned(reference=item.reference, action="sell", reason="gone", row=-1, content=b"", dealer=b"")
    answered = scenario.requests()
    claim, call = Claim("claimed", 1, scenario.ctx.runs.get(late.run), encode(gone)), cast("Any", None)
    assert writes.upsert_chunk(scenario.ctx, late, encode(Chunk([item])), call) == {}
    assert writes.mark_sold(scenario.ctx, late, claim, call) == {}
    assert scenario.requests() == answered


def test_who_was_given_up_leaves_what_others_left(scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood still while its answer came: others did the same, and it has no more to tell."""
    bulk_upsert, known = PermittedCall.bulk_upsert, list[Any]()
    reference = next(iter(scenario.wanted()))

    def stands_still(door: PermittedCall, items: Any) -> Any:
        answer = bulk_upsert(door, items)
        monkeypatch.undo()
        run = scenario.ctx.runs.active(ACCOUNT)
        assert run is not None
        scenario.ctx.runs.redis.delete(f"{scenario.prefix}writing:{ACCOUNT}")
        (held,) = scenario.ctx.runs.redis.hvals(scenario.ctx.runs.key(run, "upsert", "parts"))
        again = Part(run, "upsert", 0, f"{held.decode().split(' ')[2]}/again")
        assert perform(scenario.ctx, again, rng=Random(0)) == "closed"
        known.append(scenario.ctx.history.get(reference))
        return answer

    monkeypatch.setattr(PermittedCall, "bulk_upsert", stands_still)
    assert scenario.run("full").state == "done"
    assert scenario.ctx.history.get(reference) == known[0]


def test_a_sender_that_was_given_up_leaves_what_others_have_sent_since(
    scenario: HttpScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.run("full")
    reference, body = next(iter(scenario.wanted().items()))
    ctx, put = scenario.ctx, PermittedCall.put

    def pushed(name: str, price: int) -> None:
        listing = body | {"externalReference": reference, "price": price}
        accept.accept_push(ctx, name, listings=[listing])
        Sender(ctx, name, rng=Random(0)).run()

    def stands_still(door: PermittedCall, name: str, item: bytes) -> Any:
        answer = put(door, name, item)
        monkeypatch.undo()
        ctx.runs.redis.delete(f"{scenario.prefix}writing:{ACCOUNT}", f"{scenario.prefix}urgent:{ACCOUNT}:sender")
        pushed("second", 22_222)
        newest.append(ctx.ledger.get([reference]))
        return answer

    newest: list[Any] = []
    monkeypatch.setattr(PermittedCall, "put", stands_still)
    pushed("first", 11_111)
    assert ctx.ledger.get([reference]) == newest[0]
    assert scenario.standing()[reference]["price"] == 22_222


def test_a_row_that_was_overtaken_by_a_later_read_is_not_put_back(scenario: HttpScenario) -> None:
    item = SimpleNamespace(seen_ms=5, row=b"older...")
    later = Entry(content=b"newer...", row=b"newer...", seen_ms=6)
    assert writes._row_seen(cast("Any", item), later) == later
    given = later.replace(set_flags=Flag.INLINE_CONTENT | Flag.URGENT)
    assert writes._row_seen(cast("Any", item), given).row == item.row, "what was handed in says nothing of the row"


def captured(scenario: HttpScenario) -> Part:
    """A part of a run that is over, in the hands of somebody who was given up."""
    return Part(scenario.run("full").id, "upsert", 0, "late/1")
