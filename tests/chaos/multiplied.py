"""A broker that delivers every message several times: retries, follow-ups and chord bodies included.

    python -m tests.chaos.multiplied

Plays the same run with one and with three copies of each message, and a run during which every message that workers
hold is delivered again, as after a failover. Prints the deliveries, the requests and the seconds of each.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from typing import NamedTuple

from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.limiter import RedisLimiter
from tests.chaos.fleet import Fleet
from tests.support import poll, state

LIMITS = (120, 20)
UPSERTS, SELLS = 21, 23
"""With two pages of the list, 46 requests."""
_SELLS_ALLOWED = "guard = { max_sold_percent = 100.0, max_changed_percent = 100.0 }"
_RECEIVED = re.compile(r"Task okasie\.(?!watchdog)(\w+)\[\S+\] received")

COPIES = """
from kombu.transport import redis as _broker

_put_once = _broker.Channel._put


def _put(self, queue, message, **options):
    copies = {copies} if queue.startswith("okasie.") else 1
    for _ in range(copies):
        _put_once(self, queue, message, **options)


_broker.Channel._put = _put

from okasie_tasks.marketplace import client as _client

_client._FRESH_SECONDS = _client.LATE_SECONDS = 50.0
"""
"""Lines of a celeryconfig.py: every process of the fleet multiplies what it publishes. On a busy machine, permits that
go stale would be counted as retries."""


class Played(NamedTuple):
    """What a run cost. ``deliveries``: messages that workers took from the queues, by task."""

    deliveries: dict[str, int]
    requests: int
    seconds: float
    state: str

    @property
    def messages(self) -> int:
        return sum(self.deliveries.values())


def play(copies: int, *, failovers: int = 0) -> Played:
    """Play a run of 46 requests, each message delivered ``copies`` times, and all messages again at each failover."""
    extra = COPIES.format(copies=copies)
    with Fleet(["dex"], quick=False, more=extra, limits=LIMITS, extra=_SELLS_ALLOWED) as fleet:
        rows = cars(UPSERTS * 100 + 250, seed=7)
        write_csv(fleet.folder / "dex.csv", rows[:250])
        _run(fleet)
        write_csv(fleet.folder / "dex.csv", rows[SELLS:])
        limiter = RedisLimiter(fleet.redis, prefix=fleet.settings.redis.key_prefix, bucket="dex")
        poll(lambda: not limiter.status().used_last_minute, what="a full quota")
        return _run(fleet, failovers=failovers)


def _run(fleet: Fleet, *, failovers: int = 0) -> Played:
    before, sent = _received(fleet), _requests(fleet)
    began = time.monotonic()
    fleet.client.sync("dex", "full")
    run = poll(lambda: fleet.runs.active("dex"), what="a run")
    for number in range(1, failovers + 1):
        poll(lambda due=sent + 8 * number: _requests(fleet) >= due, what="requests")
        fleet.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    poll(lambda: not (record := fleet.runs.get(run)) or not record.open, seconds=300, what="the end of the run")
    seconds = time.monotonic() - began
    poll(lambda: not fleet.messages(), seconds=90, what="empty queues")
    record = fleet.runs.get(run)
    assert record is not None
    return Played(_received(fleet) - before, _requests(fleet) - sent, seconds, record.state)


def _requests(fleet: Fleet) -> int:
    return sum(state(fleet.sandbox, "dex")["requests"].values())


def _received(fleet: Fleet) -> Counter[str]:
    """Tasks that the workers have received, by their logs."""
    logs = (child.log.read_text(errors="replace") for child in fleet.children.values())
    return Counter(name for log in logs for name in _RECEIVED.findall(log))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--failovers", type=int, default=0)
    options = parser.parse_args()
    for copies in options.copies:
        played = play(copies, failovers=options.failovers)
        print(f"{copies} copies: {played.messages} messages {json.dumps(played._asdict())}", flush=True)


if __name__ == "__main__":
    main()
