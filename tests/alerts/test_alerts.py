"""Alerts: detected in the records, sent once by the fleet, and limited in number."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest
import redis

from okasie_tasks.alerting import notifier
from okasie_tasks.alerting.notifier import AlertContext, deliver, detect
from okasie_tasks.alerting.queue import AlertQueue
from okasie_tasks.alerting.rules import Alert
from okasie_tasks.core.guards import Held, HeldPlan
from okasie_tasks.core.staleness import is_stale, stale_seconds
from okasie_tasks.settings import AlertSettings
from tests.alerts.scenario import Hook, Senders

# -- what is sent --------------------------------------------------------------------------------------------------


def test_the_alert_of_a_failed_run_has_its_reason_and_what_to_do(fleet: Senders, hook: Hook) -> None:
    error = {"code": "unauthorized", "message": "HTTP 401; the API key is not accepted", "where": "GET /listings"}
    run = fleet.ended("failed", error=json.dumps(error))
    assert fleet.tick() == 1
    (document,) = hook.got
    assert document.pop("at").endswith("Z")
    text = document.pop("text")
    assert document == {
        "account": "dex", "run": run, "kind": "failed", "more": 0, "test": False,
        "reason": "GET /listings: HTTP 401; the API key is not accepted",
        "what_to_do": "`okasie doctor dex` checks the key and the source and shows how to fix them",
    }  # fmt: skip
    assert text.splitlines()[0] == "okasie-tasks: dex: a run failed"


def test_a_held_plan_causes_one_alert_however_many_runs_meet_it(fleet: Senders, hook: Hook) -> None:
    held = Held(guard="sold_count", dealer=None, what="sells", count=40, reason="40 sells are more than 10 %")
    facts = json.dumps([{"guard": "sold_count", "dealer": None, "what": "sells", "count": 40, "reason": held.reason}])
    name, _ = fleet.runs.request("dex", "full")
    fleet.runs.begin("dex")
    now = fleet.runs.now_ms()
    plan = HeldPlan(run=name, mode="full", created_ms=now, expires_ms=now + 1000_000, holds=[held], items=["sell A"])
    fleet.services.plans.keep("dex", plan)
    fleet.runs.note(name, held=facts, held_run=name)
    run = fleet.runs.get(name)
    assert run is not None
    fleet.runs.end(run, "held")
    fleet.tick()
    fleet.ended("held", held=facts, held_run=name)
    fleet.passes(7200)
    fleet.tick()
    (document,) = hook.got
    assert (document["kind"], document["run"], document["reason"]) == ("held", name, held.reason)
    assert f"`okasie approve {name}` or `okasie reject {name}`" in document["what_to_do"]
    assert "it expires 20" in document["what_to_do"]


@pytest.mark.parametrize("state", ["done", "partial"])
def test_fields_that_the_marketplace_lost_cause_an_alert_of_their_own(fleet: Senders, hook: Hook, state: str) -> None:
    lost = json.dumps({"seats": [250, 250]})
    name = fleet.ended(state, lost_fields=lost, lost_new="1")
    fleet.ended(state, lost_fields=lost, lost_new="0")
    fleet.tick()
    (document,) = [document for document in hook.got if document["kind"] == "lost_fields"]
    assert (document["account"], document["run"]) == ("dex", name)
    assert document["reason"].startswith("the marketplace returns seats empty or not at all in 250 of 250 listings")
    assert "max_field_loss_percent" in document["what_to_do"]


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_a_good_end_causes_no_alert(fleet: Senders, hook: Hook, state: str) -> None:
    fleet.ended(state)
    assert fleet.tick() == 0
    assert hook.got == []


def test_kinds_that_are_not_configured_are_not_sent(
    tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook
) -> None:
    senders = Senders(tmp_path, redis_url, f'[alerts]\nwebhook = "{hook.url}"\nkinds = ["failed"]\n')
    with contextlib.closing(senders):
        senders.ended("partial")
        senders.ended("failed")
        assert senders.tick() == 1
    assert [document["kind"] for document in hook.got] == ["failed"]


def test_old_runs_and_removed_accounts_cause_no_alert(fleet: Senders, hook: Hook) -> None:
    old = fleet.ended("failed")
    fleet.runs.note(old, ended_ms=fleet.runs.now_ms() - 25 * 3600 * 1000)
    fleet.ended("failed", account="gone")
    assert fleet.tick() == 0
    assert fleet.ctx.queue.ended() == []


# -- stale ---------------------------------------------------------------------------------------------------------


def test_an_account_without_success_causes_one_alert(fleet: Senders, hook: Hook) -> None:
    after = fleet.ctx.after["dex"]
    assert after == 45 * 60, "three times 15 minutes"
    fleet.ended("done")
    assert fleet.tick() == 0
    past = fleet.runs.now_ms() - int(after * 1000) - 60_000
    fleet.services.redis.hset("okasie:account:dex:metrics", "success_ms:full", past)
    assert fleet.tick() == 1
    fleet.passes(7200)
    assert fleet.tick() == 0, "the same problem is sent once"
    (document,) = hook.got
    assert (document["kind"], document["account"], document["run"]) == ("stale", "dex", None)
    assert document["reason"].startswith("no run has succeeded for 46 min, the last one 20")


def test_a_paused_or_active_account_is_not_stale(fleet: Senders, hook: Hook) -> None:
    fleet.services.redis.hset("okasie:alerts:since", "dex", fleet.runs.now_ms() - 86_400_000)
    fleet.runs.controls.pause("dex")
    assert fleet.tick() == 0
    fleet.runs.controls.resume("dex")
    assert fleet.tick() == 0, "it has had no time yet"
    fleet.services.redis.hdel("okasie:account:dex", "resumed_ms")
    run, _ = fleet.runs.request("dex", "full")
    fleet.runs.begin("dex")
    fleet.runs.note(run, progress_ms=fleet.runs.now_ms())
    assert fleet.tick() == 0
    fleet.runs.note(run, progress_ms=fleet.runs.now_ms() - 16 * 60_000)
    assert fleet.tick() == 1
    assert hook.got[0]["reason"] == "no run has succeeded for 24 h 0 min; none ever did"


@pytest.mark.parametrize(
    ("incremental", "full", "stale_after", "seconds"),
    [
        (900.0, True, None, 2700.0),
        (60.0, True, None, 1800.0),
        (None, True, None, 93_600.0),
        (None, False, None, None),
        (900.0, True, 60.0, 60.0),
    ],
)
def test_when_an_account_is_stale(
    incremental: float | None, full: bool, stale_after: float | None, seconds: float | None
) -> None:
    assert stale_seconds(incremental, full, stale_after) == seconds


def test_stale_is_strictly_after() -> None:
    assert not is_stale(since_ms=0, now_ms=60_000, after_seconds=60)
    assert is_stale(since_ms=0, now_ms=60_001, after_seconds=60, moved_ms=-900_000)
    assert not is_stale(since_ms=0, now_ms=60_001, after_seconds=60, moved_ms=59_000)


# -- once, and not too often ---------------------------------------------------------------------------------------


def test_a_fleet_sends_each_alert_once(fleet: Senders, hook: Hook) -> None:
    contexts = [fleet.worker().alerting() for _ in range(6)]
    fleet.ended("failed")
    start = threading.Barrier(len(contexts))

    def work(ctx: AlertContext) -> None:
        start.wait()
        detect(ctx)
        deliver(ctx)

    threads = [threading.Thread(target=work, args=(ctx,)) for ctx in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    fleet.tick()
    assert len(hook.got) == 1


def test_a_storm_is_one_message_and_the_next_has_the_count(fleet: Senders, hook: Hook) -> None:
    runs = [fleet.ended("failed") for _ in range(4)]
    fleet.tick()
    assert [(document["run"], document["more"]) for document in hook.got] == [(runs[3], 3)]
    runs += [fleet.ended("failed") for _ in range(3)]
    fleet.tick()
    assert len(hook.got) == 1, "within the hour"
    fleet.passes(3601)
    fleet.tick()
    assert [(document["run"], document["more"]) for document in hook.got[1:]] == [(runs[6], 2)]
    assert "2 more of this kind since the last message." in hook.got[1]["text"]


def test_kinds_and_accounts_do_not_hold_each_other_up(fleet: Senders, hook: Hook) -> None:
    fleet.ended("failed")
    fleet.ended("partial")
    fleet.tick()
    assert sorted(document["kind"] for document in hook.got) == ["failed", "partial"]


def test_the_messages_of_an_hour_are_limited(tmp_path: Path, redis_url: str, client: redis.Redis, hook: Hook) -> None:
    settings = AlertSettings(max_per_hour=3)
    queue = AlertQueue(client, prefix="okasie:", settings=settings)
    for number in range(5):
        queue.put(alert(account=f"a{number}"), ["webhook"])
    queue.put(alert(account="a0"), ["email"])
    taken = [queue.claim_next() for _ in range(6)]
    assert sorted(one.slot.split()[0] for one in taken if one) == ["email", "webhook", "webhook", "webhook"]
    for one in taken:
        if one:
            queue.finish(one)
    senders = Senders(tmp_path, redis_url, f'[alerts]\nwebhook = "{hook.url}"\nmax_per_hour = 3\n')
    with contextlib.closing(senders):
        senders.passes(3602)
        later = [queue.claim_next() for _ in range(3)]
    assert len([one for one in later if one]) == 2, "held back, not lost"


def test_an_alert_raised_while_a_message_is_sent_comes_next(client: redis.Redis) -> None:
    queue = AlertQueue(client, prefix="okasie:", settings=AlertSettings())
    queue.put(alert("1"), ["webhook"])
    queue.put(alert("2"), ["webhook"])
    taken = queue.claim_next()
    assert taken is not None
    assert (taken.key, taken.merged) == ("2", 2)
    assert not queue.put(alert("2"), ["webhook"]), "known"
    queue.put(alert("3"), ["webhook"])
    queue.finish(taken)
    assert [(slot, merged, tries) for slot, _, merged, tries in queue.waiting()] == [("webhook failed dex", 1, 0)]
    assert queue.claim_next() is None


def test_a_sender_that_died_is_followed_by_another(fleet: Senders, hook: Hook) -> None:
    fleet.ended("failed")
    fleet.expire_detection()
    detect(fleet.ctx)
    assert fleet.ctx.queue.claim_next() is not None, "and then it is killed"
    assert fleet.tick() == 0
    fleet.passes(61)
    assert fleet.tick() == 1


def test_a_failed_delivery_is_tried_again_and_given_up_in_the_end(
    fleet: Senders, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 503
    fleet.ended("failed")
    for wait in notifier._RETRY_SECONDS:
        fleet.tick()
        due = fleet.ctx.queue.waiting()[0][1]
        assert abs(due - fleet.runs.now_ms() - wait * 1000) < 5000
        fleet.passes(wait + 1)
    fleet.tick()
    assert len(hook.got) == len(notifier._RETRY_SECONDS) + 1
    assert fleet.ctx.queue.waiting() == []
    assert [record.getMessage() for record in caplog.records].count("alert given up") == 1
    hook.status = 204
    fleet.ended("failed")
    fleet.passes(3601)
    assert fleet.tick() == 1, "the next one is sent"


def alert(key: str = "1", *, account: str = "dex") -> Alert:
    return Alert(key=key, kind="failed", account=account, reason="r", what_to_do="w", at_ms=1)
