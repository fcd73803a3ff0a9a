"""What is kept of a run's requests for its report: right, bounded, and no round trip more."""

from __future__ import annotations

import pytest
import redis

from okasie_tasks.ports import Feedback, Permit, RequestLog
from okasie_tasks.store.limiter import RedisLimiter
from okasie_tasks.store.records import KEEP_RUN_SECONDS
from okasie_tasks.store.request_stats import Counters, Slot, Traces
from okasie_tasks.store.runs import Runs


@pytest.fixture
def runs(client: redis.Redis) -> Runs:
    return Runs(client, prefix="okasie:")


@pytest.fixture
def run(runs: Runs) -> str:
    name, _ = runs.request("dex", "full")
    runs.begin("dex")
    return name


def sent(
    number: int = 0, *, status: int = 200, seconds: float = 0.1, where: str = "GET /listings page 1"
) -> RequestLog:
    return RequestLog(
        account="dex", lane="bulk", kind="list", method="GET", status=status, seconds=seconds,
        request_id=f"{number:032x}", items=100, waited_seconds=0.5, where=where,
    )  # fmt: skip


def report(runs: Runs, request: RequestLog, run: str = "") -> None:
    """Report the response to a request, whose count is part of that step."""
    counters = Counters(runs)
    limiter = RedisLimiter(runs.redis, prefix="okasie:", bucket="dex", count=lambda one: counters.count(one, run))
    limiter.report(Permit("ticket/1.20000"), Feedback(request.status), request)


def begin_ago(runs: Runs, run: str, seconds: float) -> None:
    """Let the run have begun so long ago: no clock is waited for."""
    runs.note(run, started_ms=runs.now_ms() - int(seconds * 1000))


def test_requests_are_counted_by_the_time_of_their_sending(runs: Runs, run: str) -> None:
    traces = Traces(runs)
    report(runs, sent(1), run)
    begin_ago(runs, run, 25)
    report(runs, sent(2, status=429), run)
    report(runs, sent(3, status=503), run)
    report(runs, sent(4, status=0, seconds=21), run)
    trace = traces.read(run)
    assert trace.slots == [Slot(0, 10, 2, 0, 1), Slot(10, 10), Slot(20, 10, 2, 1, 1)]
    assert [(one.status, one.request_id[-1], one.at >= 20) for one in trace.failed] == [
        (429, "2", True), (503, "3", True), (0, "4", False),
    ]  # fmt: skip
    assert runs.get(run).counts == {"requests.list": 4}  # type: ignore[union-attr]


def test_the_ten_slowest_stay_the_slowest_first(runs: Runs, run: str) -> None:
    for number in range(1, 31):
        report(runs, sent(number, seconds=number * 7 % 31 / 10, where="x" * 500), run)
    trace = Traces(runs).read(run)
    assert [one.ms for one in trace.slowest] == [3000, 2900, 2800, 2700, 2600, 2500, 2400, 2300, 2200, 2100]
    assert {len(one.where) for one in trace.slowest} == {160}


def test_it_is_bounded_however_long_a_run_takes(runs: Runs, run: str, client: redis.Redis) -> None:
    traces = Traces(runs)
    for seconds in [*range(0, 1200, 10), *range(1200, 48 * 3600, 300)]:
        begin_ago(runs, run, seconds + 1)
        report(runs, sent(seconds, status=500, seconds=0.2), run)
    slots = traces.read(run).slots
    assert (slots[0], slots[120].seconds, slots[-1].at) == (Slot(0, 10, 1, 0, 1), 300, 93_600)
    assert sum(slot.requests for slot in slots) == sum(slot.failed for slot in slots) == 120 + 572
    assert len(traces.read(run).failed) == 10
    kept = sum(int(client.memory_usage(key) or 0) for key in client.keys(f"okasie:run:{run}:trace*"))
    assert kept < 70_000, "two days with an error in every slot"
    assert all(0 < client.ttl(key) <= KEEP_RUN_SECONDS for key in client.keys(f"okasie:run:{run}:trace*"))


def test_a_run_of_ten_minutes_takes_few_bytes(runs: Runs, run: str, client: redis.Redis) -> None:
    for seconds in range(0, 600, 5):
        begin_ago(runs, run, seconds + 1)
        report(runs, sent(seconds), run)
    assert sum(int(client.memory_usage(key) or 0) for key in client.keys(f"okasie:run:{run}:trace*")) < 6_000


def test_a_server_that_forgot_its_scripts_is_told_it_again(runs: Runs, run: str, client: redis.Redis) -> None:
    client.script_flush()
    report(runs, sent(), run)
    report(runs, sent(), run)
    assert sum(slot.requests for slot in Traces(runs).read(run).slots) == 2


def test_no_run_no_trace_and_one_from_before_it_was_kept_is_empty(runs: Runs, client: redis.Redis) -> None:
    report(runs, sent())
    report(runs, sent(), "nobody")
    assert client.keys("okasie:run:*:trace*") == []
    assert Traces(runs).read("nobody").slots == []


def test_one_round_trip_a_request(runs: Runs, run: str, client: redis.Redis) -> None:
    """A pipeline of redis-py that holds a script asks for it first; ours does not."""
    report(runs, sent(), run)
    client.config_resetstat()
    report(runs, sent(), run)
    calls = client.info("commandstats")
    assert "cmdstat_script|exists" not in calls
    assert calls["cmdstat_evalsha"]["calls"] == 1
