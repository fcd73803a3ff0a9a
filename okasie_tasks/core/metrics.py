"""Metrics: what is measured, by which name, and how the counters of an account lie in Redis.

One table, `FAMILIES`, is the birthplace of every name; a test holds README, alert rules and dashboard against it. Label
values are account names, lanes, methods, status codes, modes and states: never a reference, a path or a secret.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from okasie_tasks.core.records import merge_counts

Kind = Literal["counter", "gauge", "histogram"]

WAIT_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds: fine around what a push may take (0.5 and 1.5 s), wide enough for a starved lane."""
_OPEN_END: Final = "+Inf"
_END_STATES: Final = ("done", "held", "partial", "failed", "cancelled")


class Family(NamedTuple):
    """One metric: its name as Prometheus sees it, its type, its labels in order, and its help text."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


FAMILIES: Final = (
    Family("okasie_requests_total", "counter", ("account", "lane", "method", "status"),
           "Requests sent to the marketplace; status 0: no answer came."),
    Family("okasie_permit_wait_seconds", "histogram", ("account", "lane"),
           "From a request's first attempt to get a permit to the moment it was granted for, by Redis' clock."),
    Family("okasie_quota_used_ratio", "gauge", ("account",),
           "Requests of the last minute divided by the limit in force, other clients of the same key included."),
    Family("okasie_quota_limit_requests", "gauge", ("account",), "Requests a minute that are in force."),
    Family("okasie_quota_foreign_requests", "gauge", ("account",),
           "Requests of the last minute that other clients sent with the same key, according to the responses."),
    Family("okasie_waiting_tickets", "gauge", ("account", "lane"), "Requests that wait for a permit."),
    Family("okasie_waiting_permits", "gauge", ("account", "lane"),
           "Requests that wait for a permit and can get one: 0 while the account is paused, by an operator, after a 429"
           " or by its breaker."),
    Family("okasie_waiting_pushes", "gauge", ("account",), "Listings pushed or sold manually that are not sent yet."),
    Family("okasie_pause_seconds", "gauge", ("account",),
           "Seconds until the account sends again, after a 429 or an open breaker."),
    Family("okasie_breaker_open", "gauge", ("account",), "1 while the account pauses after failures in a row."),
    Family("okasie_paused", "gauge", ("account",), "1 while an operator has paused the account (`okasie pause`)."),
    Family("okasie_runs_total", "counter", ("account", "mode", "state"), "Runs that ended, by state."),
    Family("okasie_run_seconds", "gauge", ("account", "mode"),
           "How long the last run took that compared both sides (done, held or partial)."),
    Family("okasie_run_listings", "gauge", ("account", "mode", "outcome"), "What that run counted."),
    Family("okasie_last_success_timestamp_seconds", "gauge", ("account", "mode"),
           "When the last run ended done or held; 0: none did yet."),
    Family("okasie_schedule_interval_seconds", "gauge", ("account", "mode"), "How often Beat asks for such a run."),
    Family("okasie_rejected_listings", "gauge", ("account",),
           "Rejected listings: refused, or invalid; rows without a readable reference too."),
    Family("okasie_unreadable_rows", "gauge", ("account",), "Rows of the source without a readable reference."),
    Family("okasie_waiting_sells", "gauge", ("account",),
           "Sells that wait because the source was not read completely."),
    Family("okasie_skipped_image_listings", "gauge", ("account",), "Listings of which the marketplace skipped images."),
    Family("okasie_held_runs", "gauge", ("account",), "Plans that need an operator's approval."),
    Family("okasie_held_listings", "gauge", ("account",), "Listings whose change is held in such a plan."),
    Family("okasie_drift_listings", "gauge", ("account",),
           "Listings that the last run found changed on the marketplace."),
    Family("okasie_queue_messages", "gauge", ("queue",), "Messages that no worker has taken yet."),
    Family("okasie_worker_up", "gauge", ("queue",),
           "Workers that consume the queue, sent a heartbeat within 20 s, and are healthy."),
    Family("okasie_quarantined_messages_total", "counter", (),
           "Malformed messages that workers took out of the queues (`okasie status` shows the last ones)."),
    Family("okasie_discarded_requests_total", "counter", ("cause",),
           "Requests that no worker executed, by cause (`okasie status` shows the last ones)."),
    Family("okasie_redis_up", "gauge", (), "0 when Redis does not answer; then no other metric is exported."),
)  # fmt: skip
"""Every metric. Counters stay over restarts, as long as Redis keeps them."""


class Waits(msgspec.Struct):
    """Permit waits of one lane: upper bound in seconds as text -> how many were below it and above the one before."""

    counts: dict[str, int] = {}
    total_ms: int = 0

    def buckets(self) -> list[tuple[str, int]]:
        """``(upper bound, how many waits up to it)``, the open end last; a bound that is no longer ours goes up."""
        own = [_text(bound) for bound in WAIT_BOUNDS]
        merged = merge_counts({bound if bound in own else _above(bound): count} for bound, count in self.counts.items())
        sums, so_far = [], 0
        for bound in (*own, _OPEN_END):
            so_far += merged.get(bound, 0)
            sums.append((bound, so_far))
        return sums


class Recorded(msgspec.Struct):
    """What the workers counted for one account, read from its hash."""

    requests: dict[tuple[str, ...], int] = {}
    """``(lane, method, status)`` -> how many."""
    waits: dict[str, Waits] = {}
    runs: dict[tuple[str, ...], int] = {}
    """``(mode, state)`` -> how many."""
    run_ms: dict[str, int] = {}
    success_ms: dict[str, int] = {}
    listings: dict[str, dict[str, int]] = {}
    last_mode: str = ""


class Sample(NamedTuple):
    """One line, or for a histogram all lines of one set of labels."""

    name: str
    labels: tuple[str, ...]
    value: float
    """Of a histogram: the sum of what was observed."""
    buckets: tuple[tuple[str, int], ...] = ()


def request_field(lane: str, method: str, status: int) -> str:
    return f"requests:{lane}:{method}:{status}"


def wait_fields(lane: str, waited_ms: int) -> dict[str, int]:
    """The fields to count up for one wait, and by how much."""
    place = bisect_left(WAIT_BOUNDS, waited_ms / 1000)
    bound = _text(WAIT_BOUNDS[place]) if place < len(WAIT_BOUNDS) else _OPEN_END
    return {f"wait:{lane}:{bound}": 1} | ({f"wait_ms:{lane}": waited_ms} if waited_ms else {})


def read_recorded(fields: Mapping[str, str]) -> Recorded:
    """The hash of an account's counters; a field that this release does not know is passed over."""
    found = Recorded()
    for field, value in fields.items():
        match field.split(":"):
            case ["requests", lane, method, status]:
                found.requests[lane, method, status] = int(value)
            case ["wait", lane, bound]:
                found.waits.setdefault(lane, Waits()).counts[bound] = int(value)
            case ["wait_ms", lane]:
                found.waits.setdefault(lane, Waits()).total_ms = int(value)
            case ["runs", mode, state]:
                found.runs[mode, state] = int(value)
            case ["run_ms", mode]:
                found.run_ms[mode] = int(value)
            case ["success_ms", mode]:
                found.success_ms[mode] = int(value)
            case ["listings", mode]:
                found.listings[mode] = msgspec.json.decode(value, type=dict[str, int])
            case ["last_mode"]:
                found.last_mode = value
    return found


def recorded_samples(account: str, found: Recorded, intervals: Mapping[str, float]) -> Iterator[Sample]:
    """Build the samples of one account. ``intervals``: mode -> seconds from one scheduled run to the next."""
    for labels, count in found.requests.items():
        yield Sample("okasie_requests_total", (account, *labels), count)
    for lane, waits in found.waits.items():
        yield Sample("okasie_permit_wait_seconds", (account, lane), waits.total_ms / 1000, tuple(waits.buckets()))
    # A counter that first appears as 1 has never risen, for Prometheus: the zeros must have been there before.
    modes = {*intervals, *(mode for mode, _ in found.runs)}
    zeros = dict.fromkeys(((mode, state) for mode in sorted(modes) for state in _END_STATES), 0)
    for labels, count in (zeros | found.runs).items():
        yield Sample("okasie_runs_total", (account, *labels), count)
    for mode, ms in found.run_ms.items():
        yield Sample("okasie_run_seconds", (account, mode), ms / 1000)
    for mode, outcomes in found.listings.items():
        for outcome, count in outcomes.items():
            yield Sample("okasie_run_listings", (account, mode, outcome), count)
    for mode in sorted({*found.success_ms, *intervals}):
        yield Sample("okasie_last_success_timestamp_seconds", (account, mode), found.success_ms.get(mode, 0) / 1000)
    for mode, seconds in intervals.items():
        yield Sample("okasie_schedule_interval_seconds", (account, mode), seconds)
    yield Sample("okasie_drift_listings", (account,), found.listings.get(found.last_mode, {}).get("drifted", 0))


def _text(bound: float) -> str:
    """As OpenMetrics has it, always with a point: Prometheus asks for either format, and both must name one series."""
    return str(float(bound))


def _above(bound: str) -> str:
    """Our own bound for a count of a release that had others: the next one up."""
    place = bisect_left(WAIT_BOUNDS, float(bound))
    return _text(WAIT_BOUNDS[place]) if place < len(WAIT_BOUNDS) else _OPEN_END
