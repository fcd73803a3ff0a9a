"""A fleet under full load, with accidents of Redis, in which no worker may ever be unhealthy.

    python -m tests.health --minutes 30

Full runs follow each other on two accounts, prices change before each, and pushes come between. Redis is killed and
restarted after a quarter of the time, and hangs for half a minute (SIGSTOP) after half of it. The verdicts are read
every second. Exit status 1: a worker was unhealthy, and the output names what was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from okasie_tasks.errors import ConnectionFailed
from tests.chaos.fleet import signal_tree
from tests.chaos.stock import Stock
from tests.health.fleet import HealthFleet

ACCOUNTS: Final = ("one", "two")
LIMITS: Final = (6_000, 200)
"""More than two cores can use: the pools are full, not the quota."""
_RUN_SECONDS: Final = 3.0
_HANG_SECONDS: Final = 30.0
_DOWN_SECONDS: Final = 5.0
_WORKERS: Final = 5


class Load:
    """Runs and pushes for the accounts; to be called about every second."""

    def __init__(self, fleet: HealthFleet) -> None:
        self._fleet, self._rng, self._run_at = fleet, Random(1), 0.0
        self.requested = 0
        self._stocks = {
            name: Stock(fleet.folder / f"{name}.csv", fleet.settings.accounts[name], self._rng) for name in ACCOUNTS
        }

    def add(self) -> None:
        with contextlib.suppress(ConnectionFailed):
            for name, stock in self._stocks.items():
                if time.monotonic() > self._run_at:
                    stock.change()
                    self._fleet.client.sync(name, mode="full")
                self._fleet.client.push(name, stock.some(2))
                self.requested += 1
        if time.monotonic() > self._run_at:
            self._run_at = time.monotonic() + _RUN_SECONDS


def accidents(fleet: HealthFleet, seconds: float) -> Iterator[tuple[float, str, Callable[[], None]]]:
    """Yield what happens to Redis, and how many seconds after the beginning."""
    redis = fleet.children["redis"]
    yield seconds / 4, "Redis is killed", lambda: fleet.kill("redis", back_after=_DOWN_SECONDS)
    yield seconds / 2, "Redis hangs", lambda: signal_tree(redis, signal.SIGSTOP)
    yield seconds / 2 + _HANG_SECONDS, "Redis continues", lambda: signal_tree(redis, signal.SIGCONT)


def steady(seconds: float, say: Callable[[str], None] = print) -> list[str]:
    """Return what was wrong with which worker."""
    wrong: list[str] = []
    with HealthFleet(ACCOUNTS, limits=LIMITS) as fleet:
        load, looks, most_busy = Load(fleet), 0, 0
        waiting, began = list(accidents(fleet, seconds)), time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while waiting and passed >= waiting[0][0]:
                _at, what, do = waiting.pop(0)
                say(f"{passed:6.0f} s  {what}")
                do()
            if not (waiting and waiting[0][1] == "Redis continues"):
                load.add()
            verdicts = list(fleet.verdicts())
            looks += len(verdicts)
            most_busy = max(most_busy, fleet.busy())
            found = [f"{passed:6.0f} s  {name}: {problem}" for name, problems in verdicts for problem in problems]
            if len(verdicts) < _WORKERS:
                found.append(f"{passed:6.0f} s  only {len(verdicts)} workers have a heartbeat")
            for line in found:
                say(line)
            wrong += found
            time.sleep(1)
        say(f"{looks} verdicts, {len(wrong)} of them wrong; at most {most_busy} slots busy at once;"
            f" {sum(quota.overrun for quota in fleet.quotas.values())} requests over the quota")  # fmt: skip
        for name in ACCOUNTS:
            states = [run.state for run in fleet.history(name)]
            say(f"{name}: {len(states)} runs, {states.count('done')} of them done")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="A fleet under load stays healthy.")
    parser.add_argument("--minutes", type=float, default=30.0)
    return int(bool(steady(parser.parse_args().minutes * 60)))


if __name__ == "__main__":
    sys.exit(main())
