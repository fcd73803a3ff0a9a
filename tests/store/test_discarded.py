"""Discarded requests on a real Redis: counted by cause, bounded, without secrets and control characters."""

from __future__ import annotations

import redis

from okasie_tasks.masking import know
from okasie_tasks.store.discarded import KEEP_REQUESTS, DiscardedRequests


def test_the_newest_are_kept_and_all_are_counted_by_cause(client: redis.Redis) -> None:
    discarded = DiscardedRequests(client, prefix="okasie:")
    assert discarded.summary(5) == ({"expired": 0, "unreadable": 0, "unknown_account": 0}, [])
    for number in range(KEEP_REQUESTS + 3):
        discarded.add("expired", task="okasie.push", task_id=str(number), account="dex", reason="late")
    discarded.add("unreadable", task="", task_id="last", account="", reason="malformed")
    totals, last = discarded.summary(KEEP_REQUESTS + 10)
    assert totals == {"expired": KEEP_REQUESTS + 3, "unreadable": 1, "unknown_account": 0}
    assert ([request.task_id for request in last[:2]], len(last)) == (["last", "102"], KEEP_REQUESTS)
    assert last[0].at_ms > 0
    assert client.ttl("okasie:discarded") > 0


def test_what_is_kept_is_short_clean_and_masked(client: redis.Redis) -> None:
    know("a-very-secret-key")
    discarded = DiscardedRequests(client, prefix="okasie:")
    account = "a-very-secret-key\x1b[2J\n" + "x" * 500
    discarded.add("unknown_account", task="okasie.sync", task_id="1", account=account, reason="a-very-secret-key" * 500)
    (kept,) = discarded.summary(5).last
    assert kept.account.startswith(r"***\x1b[2J\nxx")
    assert len(kept.account) <= 60
    assert len(kept.reason) <= 300
    assert "secret" not in kept.reason
