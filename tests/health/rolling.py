"""Restarts every worker, one after the other, while a run uses the whole quota: what does it cost?

    python -m tests.health.rolling --rounds 5

The run marks many listings sold, one request each. Its requests are counted by the sandbox, against the fewest there
can be. Exit status 1: a part failed, a request was sent twice or missed, or less than 98 % of the quota was used.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from okasie_tasks.reports.runs import STAGES
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.worker.settings import STOP_SECONDS
from tests.chaos.fleet import Fleet, Process
from tests.support import poll, state

ACCOUNT: Final = "rolling"
STAYING: Final = 10
_PAGE: Final = 200
_SHOWN: Final = 5
_GUARD: Final = {"MAX_SOLD_PERCENT": "100", "MAX_SOLD_COUNT": "100000", "MAX_SOURCE_SHRINK_PERCENT": "100"}


class Outcome(NamedTuple):
    """``fewest``: requests that the run needs. ``used``: the share of the quota from its first sell to the last restart,
    and ``used_in_all`` to its last sell."""

    state: str
    failed: int
    requests: int
    fewest: int
    refused: int
    used: float
    used_in_all: float
    restarts: int
    saturated: bool
    """The run had not ended before the last restart."""


class RollingFleet(Fleet):
    say: Callable[[str], None] = print

    def _configure(self) -> None:
        for name, value in _GUARD.items():
            self.place.env[f"OKASIE_ACCOUNTS__{ACCOUNT.upper()}__GUARD__{name}"] = value
        super()._configure()

    def restart_each(self) -> int:
        """Restart the workers as an operator does: SIGTERM, wait until it has ended, start it, wait until it is ready."""
        workers = [child for child in self.supervisor.children if isinstance(child, Process) and child.name != "beat"]
        for child in workers:
            child.stop_seconds = STOP_SECONDS.get(child.name.rstrip("2"), 150.0)
            self.say(f"{child.name} is restarted")
            with self._look:
                self.supervisor.renew([child])
            poll(
                lambda child=child: child.renew_by is None and child.ready, seconds=400, what=f"{child.name} restarted"
            )
        return len(workers)


def roll(rounds: int, *, sells: int, per_minute: int = 120, say: Callable[[str], None] = print) -> Outcome:
    with RollingFleet([ACCOUNT], quick=False, limits=(per_minute, max(5, per_minute // 30))) as fleet:

        def event(line: str) -> None:
            times = _sells(fleet)
            say(f"{fleet.sandbox.clock() - times[0] if times else 0:4.0f} s  {line}")

        fleet.say = event
        feed = fleet.folder / f"{ACCOUNT}.csv"
        rows = cars(sells + STAYING, seed=1)
        write_csv(feed, rows)
        fleet.client.sync(ACCOUNT, mode="full")
        _end_of(fleet, runs=1)
        before = state(fleet.sandbox, ACCOUNT)["requests"]
        write_csv(feed, rows[:STAYING])
        fleet.client.sync(ACCOUNT, mode="full")
        poll(lambda: len(_sells(fleet)) > 0, what="the first sell")
        restarts = 0
        for number in range(rounds):
            restarts += fleet.restart_each()
            event(f"round {number + 1}: {restarts} restarts, {len(_sells(fleet))} of {sells} sells sent")
        restarted_at = fleet.sandbox.clock()
        saturated = len(_sells(fleet)) < sells
        run = _end_of(fleet, runs=2)
        after = state(fleet.sandbox, ACCOUNT)["requests"]
        sent = {kind: count - before.get(kind, 0) for kind, count in after.items() if count > before.get(kind, 0)}
        times = _sells(fleet)
        _describe(times, say)
        meanwhile = [at for at in times if at <= restarted_at] if rounds else times
        used, in_all = (len(t) * 60 / per_minute / (t[-1] - t[0]) for t in (meanwhile, times))
        failed = sum(fleet.runs.parts.stage(run, stage).failed for stage in STAGES)
        refused = sum(count for kind, count in sent.items() if not kind.endswith(":200"))
        fewest = math.ceil(len(rows) / _PAGE) + sells
        ended = fleet.history(ACCOUNT)[-1].state
        return Outcome(ended, failed, sum(sent.values()), fewest, refused, used, in_all, restarts, saturated)


def _sells(fleet: Fleet) -> list[float]:
    """When each was sent, in seconds."""
    return [float(str(r["at"])) for r in list(fleet.sandbox.meters[ACCOUNT].requests) if r["kind"] == "delete"]


def _describe(times: list[float], say: Callable[[str], None]) -> None:
    gaps = sorted(((later - at, at - times[0]) for at, later in pairwise(times)), reverse=True)[:_SHOWN]
    say(f"longest pauses: {', '.join(f'{gap:.1f} s at {at:.0f} s' for gap, at in gaps)}")
    buckets = Counter(int((at - times[0]) // 10) for at in times)
    say(f"sells in each 10 s: {' '.join(str(buckets[number]) for number in range(max(buckets) + 1))}")


def _end_of(fleet: Fleet, *, runs: int) -> str:
    def ended() -> str:
        history = fleet.history(ACCOUNT)
        return history[-1].id if len(history) == runs and not history[-1].open else ""

    return str(poll(ended, seconds=3_000, what="the end of the run"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Rolling restarts under saturation.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sells", type=int, default=0, help="Default: 130 for each round.")
    arguments = parser.parse_args()
    began = time.monotonic()
    outcome = roll(arguments.rounds, sells=arguments.sells or 130 * arguments.rounds)
    print(f"{time.monotonic() - began:.0f} s: {outcome}")
    right = outcome.state == "done" and not outcome.failed and outcome.requests == outcome.fewest
    return int(not right or outcome.used < 0.98)


if __name__ == "__main__":
    sys.exit(main())
