"""A schedule in a hurry with an accident every quarter of a minute, for as long as you like: does memory stay flat?

    python -m tests.chaos.soak --minutes 30 --results soak.jsonl
    python -m tests.chaos.soak --table soak.jsonl

A run is asked for every three seconds, prices change before each, pushes come between. Every ten seconds the resident
memory of each worker (with its children) and the memory that Redis uses are written down. The workers named ``api2``
and ``beat`` die and come back, so do the children of ``diff``; the others live from the beginning to the end. What is
kept for hours or days (results, ended runs, pushes and requests that were taken up) is kept for `KEPT_SECONDS`
here, as a day passes in five minutes. Exit status 1: the account is wrong at the end, or a series still grew in the last
third, by more than a twentieth from its first half to its second (medians: Redis takes and gives back by the second).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psutil
import redis
import requests

from okasie_tasks.errors import ConnectionFailed
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.fleet import Fleet, tree
from tests.chaos.invariants import check_invariants
from tests.chaos.stock import Stock
from tests.support import poll

ACCOUNT: Final = "soak"
KEPT_SECONDS: Final = 300
_MORE: Final = f"""
from okasie_tasks.store import outbox, runs, urgent_queue

result_expires = result_chord_expires = {KEPT_SECONDS}
outbox._KEEP_SECONDS = urgent_queue.KEEP_PUSH_SECONDS = runs.KEEP_RUN_SECONDS = runs.KEEP_PARTS_SECONDS = {KEPT_SECONDS}
"""
_RUN_SECONDS: Final = 3.0
_FAULT_SECONDS: Final = 15.0
_SAMPLE_SECONDS: Final = 10.0
_SETTLED_SECONDS: Final = 120.0
_GROWN: Final = 1.05
_MB: Final = 1024 * 1024


def _api2_kill(fleet: Fleet, account: str, rng: Random) -> None:
    fleet.kill("api2", back_after=1.0)


def _beat_kill(fleet: Fleet, account: str, rng: Random) -> None:
    fleet.kill("beat", back_after=1.0)


_SPARING: Final = ("child_kill", "stop_cont", "client_kill", "redis_kill", "redis_down", "debug_sleep", "out_of_memory")
_ACCIDENTS: Final[dict[str, Fault]] = {
    "api2_kill": _api2_kill,
    "beat_kill": _beat_kill,
    **{name: FAULTS[name] for name in FAULTS if name in _SPARING or name in ("duplicated", "dropped")},
    **{name: FAULTS[name] for name in FAULTS if name.startswith("api_")},
}


class Sample(msgspec.Struct):
    """``at``: seconds since the beginning. ``memory``: bytes by process, and of Redis; ``keys``: how many Redis has."""

    at: float
    memory: dict[str, int]
    keys: int
    runs: int
    faults: int


class Soak:
    def __init__(self, fleet: Fleet, results: Path, rng: Random) -> None:
        self._fleet, self._results, self._rng = fleet, results, rng
        account = fleet.settings.accounts[ACCOUNT]
        self._stock = Stock(fleet.folder / f"{ACCOUNT}.csv", account, Random("soak"))
        self._began, self._over = time.monotonic(), threading.Event()
        self._runs = self._faults = 0

    def play(self, seconds: float) -> list[str]:
        """Returns what is wrong at the end."""
        beside = [threading.Thread(target=self._break), threading.Thread(target=self._measure)]
        for thread in beside:
            thread.start()
        try:
            while not self._over.wait(_RUN_SECONDS) and time.monotonic() - self._began < seconds:
                self._stock.reprice(self._rng.randint(1, 20))
                with contextlib.suppress(ConnectionFailed, redis.RedisError):
                    self._fleet.client.sync(ACCOUNT, "full" if self._runs % 20 == 0 else "incremental")
                    self._runs += 1
                    self._fleet.client.push(ACCOUNT, references=self._stock.some(3))
        finally:
            self._over.set()
            for thread in beside:
                thread.join()
        return self._end()

    def _end(self) -> list[str]:
        requests.delete(f"{self._fleet.sandbox.admin_url}/faults", timeout=60).raise_for_status()
        self._fleet.restart_all()
        self._fleet.whole()
        try:
            poll(lambda: self._fleet.at_rest(ACCOUNT), seconds=_SETTLED_SECONDS, what="the end of the last run")
            # One may have ended partial: nothing fails any more.
            self._fleet.client.sync(ACCOUNT, "full")
            poll(lambda: self._fleet.at_rest(ACCOUNT), seconds=_SETTLED_SECONDS, what="the end of a calm run")
        except AssertionError as error:
            return [str(error)]
        # Of the runs only the newest are known by now: the cursor's count cannot be told from them.
        return [line for line in check_invariants(self._fleet, ACCOUNT, self._stock) if "cursor moved" not in line]

    def _break(self) -> None:
        while not self._over.wait(_FAULT_SECONDS):
            name = self._rng.choice(sorted(_ACCIDENTS))
            with contextlib.suppress(redis.RedisError, AssertionError):
                _ACCIDENTS[name](self._fleet, ACCOUNT, self._rng)
            self._faults += 1

    def _measure(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            memory = {name: resident(self._fleet, name) for name in self._fleet.children if name != "redis"}
            keys = 0
            with contextlib.suppress(redis.RedisError):
                memory["redis"] = int(self._fleet.redis.info("memory")["used_memory"])
                keys = int(self._fleet.redis.dbsize())
            sample = Sample(round(time.monotonic() - self._began, 1), memory, keys, self._runs, self._faults)
            with self._results.open("ab") as file:
                file.write(msgspec.json.encode(sample) + b"\n")


def resident(fleet: Fleet, name: str) -> int:
    """Bytes of a process and its children."""
    found = 0
    for process in tree(fleet.children[name]):
        with contextlib.suppress(psutil.Error):
            found += int(process.memory_info().rss)
    return found


def table(samples: Sequence[Sample]) -> tuple[str, list[str]]:
    """Means of the three thirds, the slope of the last one, and which series grew in it."""
    third = max(1, len(samples) // 3)
    lines = [f"{'MB':10} {'first':>8} {'middle':>8} {'last':>8} {'MB/hour':>9}"]
    grew = []
    for name in sorted({name for sample in samples for name in sample.memory}):
        points = [(sample.at, sample.memory[name] / _MB) for sample in samples if sample.memory.get(name)]
        thirds = [points[:third], points[third : 2 * third], points[2 * third :]]
        if not all(thirds):
            continue
        first, middle, last = (statistics.fmean(value for _, value in part) for part in thirds)
        later = thirds[2]
        slope = statistics.linear_regression(*zip(*later, strict=True)).slope * 3600 if len(later) > 2 else 0.0
        lines.append(f"{name:10} {first:8.1f} {middle:8.1f} {last:8.1f} {slope:9.1f}")
        earlier, latest = thirds[2][: third // 2], thirds[2][third // 2 :]
        if earlier and _median(latest) > _median(earlier) * _GROWN:
            grew.append(name)
    end = samples[-1]
    lines.append(f"{end.at / 60:.0f} minutes, {end.runs} runs, {end.faults} accidents, {end.keys} keys in Redis")
    return "\n".join(lines), grew


def _median(points: Sequence[tuple[float, float]]) -> float:
    return statistics.median(value for _, value in points)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--results", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, metavar="FILE")
    asked = parser.parse_args()
    wrong: list[str] = []
    if not asked.table:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        asked.results.unlink(missing_ok=True)
        with Fleet([ACCOUNT], quick=True, more=_MORE) as fleet:
            wrong = Soak(fleet, asked.results, Random(asked.seed)).play(asked.minutes * 60)
        if wrong:
            print(f"logs: {fleet.folder}")
        else:
            shutil.rmtree(fleet.folder, ignore_errors=True)
    lines = (asked.table or asked.results).read_bytes().splitlines()
    told, grew = table([msgspec.json.decode(line, type=Sample) for line in lines])
    print(told)
    print(*wrong, *(f"{name} grew" for name in grew), sep="\n")
    return int(bool(wrong or grew))


if __name__ == "__main__":
    sys.exit(main())
