"""Gauges: what an account is like at this moment, as samples of the metrics in `okasie_tasks.core.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from okasie_tasks.core.metrics import Sample
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.sync import plan_review

if TYPE_CHECKING:
    from okasie_tasks.sync.context import Tools


def account_samples(tools: Tools, quota: LimiterStatus) -> Iterator[Sample]:
    """The present state of an account; a bounded number of commands, however large its ledger is."""
    account, plan = tools.rules.account, plan_review.standing(tools)
    for name, value in {
        **_quota(quota),
        "okasie_paused": int(tools.runs.stops.paused_ms(account) > 0),
        "okasie_waiting_pushes": tools.inbox.count(),
        "okasie_rejected_listings": tools.ledger.reject_count(),
        "okasie_skipped_image_listings": tools.ledger.skipped_count(),
        "okasie_held_runs": int(plan is not None),
        "okasie_held_listings": plan.count if plan else 0,
    }.items():
        yield Sample(name, (account,), value)
    yield Sample("okasie_waiting_tickets", (account, "urgent"), quota.waiting_urgent)
    yield Sample("okasie_waiting_tickets", (account, "bulk"), quota.waiting_bulk)


def _quota(quota: LimiterStatus) -> dict[str, float]:
    return {
        "okasie_quota_used_ratio": quota.used_last_minute / quota.limit,
        "okasie_quota_limit_requests": quota.limit,
        "okasie_quota_foreign_requests": quota.foreign,
        "okasie_pause_seconds": quota.pause_seconds,
        "okasie_breaker_open": int(quota.pause_reason == "breaker"),
    }
