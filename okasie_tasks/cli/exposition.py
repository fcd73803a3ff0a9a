"""The metrics of the whole fleet, read from Redis at each scrape: a collector for prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from okasie_tasks.core.metrics import FAMILIES, Family, Sample, recorded_samples
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.errors import LimiterUnavailable
from okasie_tasks.reports.rejects import incomplete_source
from okasie_tasks.services import Services
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sync import plan_review
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT

if TYPE_CHECKING:
    from okasie_tasks.sync.context import AccountContext

_DAY_SECONDS = 86_400.0


class FleetCollector(Collector):
    """Reads Redis at every scrape and keeps no state. Any number of collectors may serve one fleet."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        try:
            samples = [*self._samples(), Sample("okasie_redis_up", (), 1)]
        except (redis.RedisError, LimiterUnavailable):
            samples = [Sample("okasie_redis_up", (), 0)]  # partial metrics would look complete
        for family in FAMILIES:
            yield _metric(family, [sample for sample in samples if sample.name == family.name])

    def _samples(self) -> Iterator[Sample]:
        services = self._services
        workers = services.workers.live()
        for name, account in services.settings.accounts.items():
            yield from account_samples(services.context(name), services.limiter(name).status())
            yield from recorded_samples(name, services.counters.read(name), intervals(account))
        for queue in dict.fromkeys((CONTROL, URGENT, API, DIFF, services.settings.feeds.queue)):
            yield Sample("okasie_queue_messages", (queue,), int(services.redis.llen(queue)))
            up = sum(queue in worker.queues and not worker.problem for worker in workers)
            yield Sample("okasie_worker_up", (queue,), up)
        yield Sample("okasie_quarantined_messages_total", (), services.quarantine.total())
        for cause, count in services.discarded.totals().items():
            yield Sample("okasie_discarded_requests_total", (cause,), count)


def registry(services: Services) -> CollectorRegistry:
    """Return a registry with the fleet's metrics only. Metrics of this process would be of no use."""
    metrics = CollectorRegistry(auto_describe=False)
    metrics.register(FleetCollector(services))
    return metrics


def intervals(account: AccountSettings) -> dict[str, float]:
    """Mode -> seconds from one scheduled run to the next; a mode that Beat does not schedule is left out."""
    seconds = {}
    if account.incremental_every is not None:
        seconds["incremental"] = account.incremental_every.total_seconds()
    if account.full_at is not None:
        seconds["full"] = _DAY_SECONDS
    return seconds


def documents(metrics: CollectorRegistry) -> list[dict[str, Any]]:
    """Return the metrics as data, for ``--json``."""
    return [
        {
            "name": family.name,
            "type": family.type,
            "help": family.documentation,
            "samples": [{"name": s.name, "labels": dict(s.labels), "value": s.value} for s in family.samples],
        }
        for family in metrics.collect()
    ]


def _metric(family: Family, samples: list[Sample]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for sample in samples:
            histogram.add_metric(sample.labels, buckets=list(sample.buckets), sum_value=sample.value)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for sample in samples:
        metric.add_metric(sample.labels, sample.value)
    return metric


def account_samples(ctx: AccountContext, quota: LimiterStatus) -> Iterator[Sample]:
    """Yield an account's current state. The number of Redis commands does not depend on the ledger's size."""
    account, plan, source = ctx.policy.account, plan_review.held_plan(ctx), incomplete_source(ctx.ledger)
    paused = ctx.runs.controls.paused_ms(account) > 0
    for name, value in {
        **_quota(quota),
        "okasie_paused": int(paused),
        "okasie_waiting_pushes": ctx.urgent_queue.count(),
        "okasie_rejected_listings": ctx.ledger.reject_count(),
        "okasie_unreadable_rows": source["rows_without_reference"],
        "okasie_waiting_sells": source["sells_waiting"],
        "okasie_skipped_image_listings": ctx.ledger.skipped_count(),
        "okasie_held_runs": int(plan is not None),
        "okasie_held_listings": plan.count if plan else 0,
    }.items():
        yield Sample(name, (account,), value)
    for lane, waiting in (("urgent", quota.waiting_urgent), ("bulk", quota.waiting_bulk)):
        yield Sample("okasie_waiting_tickets", (account, lane), waiting)
        yield Sample("okasie_waiting_permits", (account, lane), 0 if paused or quota.pause_seconds else waiting)


def _quota(quota: LimiterStatus) -> dict[str, float]:
    return {
        "okasie_quota_used_ratio": quota.used_last_minute / quota.limit,
        "okasie_quota_limit_requests": quota.limit,
        "okasie_quota_foreign_requests": quota.foreign,
        "okasie_pause_seconds": quota.pause_seconds,
        "okasie_breaker_open": int(quota.pause_reason == "breaker"),
    }
