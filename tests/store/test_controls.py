"""What a person stops, on a real Redis: nothing is handed out from that moment on, and nothing is forgotten."""

from __future__ import annotations

import pytest
import redis

from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from tests.core.test_pending import pending_change
from tests.store.test_runs import begun


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, prefix="okasie:")


def test_a_run_that_waits_ends_at_once_and_makes_room(runs: Runs) -> None:
    run, _ = runs.request("dex", "full")
    assert runs.controls.cancel(run, "dex") == "queued"
    record = runs.get(run)
    assert record is not None
    assert (record.state, record.open, record.ended_ms > 0) == ("cancelled", False, True)
    assert (runs.waiting("dex"), runs.begin("dex")) == (None, None)
    assert runs.controls.cancel(run, "dex") == "cancelled"


def test_only_its_own_place_is_given_up(runs: Runs) -> None:
    begun(runs)
    other, _ = runs.request("dex", "full")
    gone, _ = runs.request("dax", "full")
    runs.controls.cancel(gone, "dax")
    assert (runs.waiting("dex"), runs.waiting("dax")) == (other, None)


def test_a_run_at_work_hands_out_no_part_and_keeps_its_place_until_it_has_ended(runs: Runs) -> None:
    run = begun(runs)
    follow_up, _ = runs.request("dex", "incremental")
    assert runs.parts.claim(run, "first", 0, "a", lease_seconds=60).state == "claimed"
    assert not runs.controls.is_stopped(run, "dex")
    assert runs.controls.cancel(run, "dex") == "running"
    assert runs.controls.is_stopped(run, "dex")
    assert runs.parts.claim(run, "first", 0, "b", lease_seconds=60).state == "cancelled"
    assert runs.controls.in_flight(run, ["first", "walk"]) == 1
    assert runs.begin("dex") is None, "its request may still be under way"
    assert runs.parts.close(run, "first", 0, "a", {})
    assert runs.controls.in_flight(run, ["first", "walk"]) == 0
    record = runs.get(run)
    assert record is not None
    assert (record.state, record.cancelling) == ("running", True)
    runs.end(record, "cancelled")
    assert runs.begin("dex") == follow_up


def test_a_claim_that_was_given_back_or_ran_out_is_not_under_way(runs: Runs, client: redis.Redis) -> None:
    run = begun(runs)
    runs.parts.claim(run, "first", 0, "a", lease_seconds=60)
    runs.parts.release(run, "first", 0, "a", counted=True)
    assert runs.controls.in_flight(run, ["first"]) == 0
    client.hset(f"okasie:run:{run}:first:parts", "0", "1 1000 dead")
    assert runs.controls.in_flight(run, ["first"]) == 0


def test_asked_twice_the_first_moment_stands(runs: Runs) -> None:
    run = begun(runs)
    runs.controls.cancel(run, "dex")
    first = runs.get(run)
    runs.controls.cancel(run, "dex")
    assert runs.get(run) == first


@pytest.mark.parametrize("state", ["done", "held", "failed", "partial", "cancelled"])
def test_a_run_that_is_over_stays_as_it_ended(runs: Runs, state: str) -> None:
    run = begun(runs)
    runs.end(runs.get(run), state)  # type: ignore[arg-type]
    assert runs.controls.cancel(run, "dex") == state
    assert runs.state(run) == state
    assert runs.controls.cancel("nobody", "dex") == ""
    assert runs.get("nobody") is None


def test_of_a_paused_account_no_run_begins_and_no_part_is_handed_out(runs: Runs) -> None:
    run = begun(runs)
    since = runs.controls.pause("dex")
    assert since > 0
    assert runs.controls.pause("dex") == since == runs.controls.paused_ms("dex"), "a second pause changes nothing"
    assert runs.parts.claim(run, "first", 0, "a", lease_seconds=60).state == "paused"
    assert runs.controls.is_stopped(run, "dex")
    runs.end(runs.get(run), "done")  # type: ignore[arg-type]
    waiting, _ = runs.request("dex", "incremental")
    for _ in range(5):
        assert runs.request("dex", "incremental") == (waiting, False), "Beat's ticks are one waiting run"
    assert runs.begin("dex") is None
    assert begun(runs, "dax"), "another account goes on"
    assert runs.controls.resume("dex") == since
    assert (runs.controls.paused_ms("dex"), runs.controls.resume("dex")) == (0, 0)
    assert runs.controls.resumed_ms("dex") >= since
    assert runs.begin("dex") == waiting


def test_a_pause_never_runs_out(runs: Runs, client: redis.Redis) -> None:
    runs.controls.pause("dex")
    assert client.ttl("okasie:account:dex:paused") == -1


def test_nobody_becomes_or_stays_the_sender_of_a_paused_account(runs: Runs, client: redis.Redis) -> None:
    urgent_queue = UrgentQueue(client, prefix="okasie:", account="dex")
    urgent_queue.put([pending_change(100)])
    assert urgent_queue.lead("one")
    runs.controls.pause("dex")
    assert not urgent_queue.lead("one")
    assert not urgent_queue.unattended(1_000)
    urgent_queue.leave("one", if_empty=False)
    assert not urgent_queue.lead("two")
    runs.controls.resume("dex")
    assert urgent_queue.unattended(1_000), "the change was kept"
    assert urgent_queue.lead("two")
