"""A round: a full run with changes and a stream of pushes, while the master of Redis fails in the middle."""

from __future__ import annotations

import contextlib
import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import msgspec
import redis
import requests

from okasie_tasks.client import Client
from okasie_tasks.errors import ConnectionFailed
from tests.chaos.fleet import Fleet
from tests.chaos.stock import Stock
from tests.failover.group import SentinelGroup, until
from tests.support import poll, stored

MOST_OVER_QUOTA: Final = 2
"""Requests beyond the quota after a failover: so many lost permits are not seen in the marketplace's headers."""
LIMITS: Final = (120, 5)
"""Requests per minute and second: a run takes some seconds, and a fault finds it at work."""
_END_SECONDS: Final = 240.0


class SentinelFleet(Fleet):
    """The workers of `okasie up`, with Redis behind sentinels."""

    group: SentinelGroup

    def serve(self) -> str:
        self.group = SentinelGroup(self.folder / "redis")
        self.group.start()
        return self.group.url

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        self.group.stop()


class Result(msgspec.Struct):
    """``resumed``: seconds from the fault to the next request; ``settled``: to the end of all work, beyond a calm run."""

    seed: int
    fault: str
    wrong: list[str]
    resumed: float
    settled: float
    accepted: int
    refused: int
    over_quota: int
    states: list[str]


# -- faults ----------------------------------------------------------------------------------------------------------


def kill(group: SentinelGroup, _: Random) -> Callable[[], None]:
    """Kill the master; it comes back as a replica."""
    old = group.master()
    group.signal(old, signal.SIGKILL)
    return lambda: group.restart(old)


def partition(group: SentinelGroup, rng: Random) -> Callable[[], None]:
    """Suspend the master, as if its network were gone: connections to it hang. It returns after the failover."""
    old = group.master()
    group.signal(old, signal.SIGSTOP)

    def end() -> None:
        time.sleep(rng.uniform(0, 3))
        group.signal(old, signal.SIGCONT)
        until(group.is_whole, "a whole group after a partition", 90)

    return end


def lose_seconds(group: SentinelGroup, rng: Random) -> Callable[[], None]:
    """Cut both replicas off for one to two seconds of writes, then kill the master: those writes are lost."""
    old = group.master()
    group.cut_off_replicas()
    time.sleep(rng.uniform(1, 2))
    group.signal(old, signal.SIGKILL)

    def end() -> None:
        group.reconnect_replicas()
        group.restart(old)

    return end


FAULTS: Final = {"kill": kill, "partition": partition, "lose_seconds": lose_seconds}


# -- pushes ----------------------------------------------------------------------------------------------------------


class Pusher(threading.Thread):
    """Pushes new prices of listings whose rows do not change, inline, as an application does: without retries."""

    def __init__(self, url: str, account: str, bodies: dict[str, dict[str, Any]], rng: Random) -> None:
        super().__init__(daemon=True)
        self._client, self._account, self._rng = Client(url), account, rng
        self._bodies, self._over = bodies, threading.Event()
        self.accepted: dict[str, list[Any]] = {}
        """Reference -> the prices that the marketplace may have in the end: the last accepted, and refused ones since."""
        self.counts = {"accepted": 0, "refused": 0}

    def run(self) -> None:
        version = 0
        while not self._over.wait(self._rng.uniform(0.2, 0.8)):
            reference, version = self._rng.choice(sorted(self._bodies)), version + 1
            body = copy.deepcopy(self._bodies[reference])
            body["price"] = price = round(body["price"] + 10 + version, 2)
            before = self.accepted.get(reference, [self._bodies[reference]["price"]])
            try:
                self._client.push(self._account, listings=[body], version=int(time.time() * 1000))
            except ConnectionFailed:
                self.counts["refused"] += 1
                self.accepted[reference] = [*before, price]  # it may have been stored
            else:
                self.counts["accepted"] += 1
                self.accepted[reference] = [price]

    def stop(self) -> None:
        self._over.set()
        self.join()


# -- a round ---------------------------------------------------------------------------------------------------------


class FailoverRound:
    """One round on a whole fleet, with an account that has seen no round."""

    def __init__(self, fleet: SentinelFleet, account: str, seed: int) -> None:
        self._fleet, self._account, self._seed = fleet, account, seed
        self._rng = Random(f"failover:{seed}")
        self._stock = Stock(fleet.folder / f"{account}.csv", fleet.settings.accounts[account], Random(f"stock:{seed}"))
        self.took = 0.0

    def play(self, fault: str, *, calm_seconds: float = 0.0) -> Result:
        """``fault``: of `FAULTS`, or "" for none. ``calm_seconds``: what a round without a fault takes."""
        self._sync("full")
        before = self._stock.bodies()
        self._stock.change()
        after = self._stock.bodies()
        same = [reference for reference, body in after.items() if before.get(reference) == body]
        bodies = {reference: after[reference] for reference in self._rng.sample(same, 30)}
        pusher = Pusher(self._fleet.url, self._account, bodies, self._rng)
        began, resumed, wrong = time.monotonic(), 0.0, []
        pusher.start()
        struck = began
        try:
            known = self._ask("full")
            time.sleep(self._rng.uniform(0, 5))
            if fault:
                struck = time.monotonic()
                resumed = self._strike(fault)
            else:
                time.sleep(3)
            pusher.stop()
            self._rest(known)
            self.took = time.monotonic() - began
            settled = time.monotonic() - struck - max(0.0, calm_seconds - (struck - began))
            self._sync("full")
            wrong = list(self._wrong(pusher))
        except AssertionError as error:
            pusher.stop()
            settled, wrong = _END_SECONDS, [str(error)]
        return Result(
            seed=self._seed,
            fault=fault,
            wrong=wrong,
            resumed=round(resumed, 1),
            settled=round(settled, 1),
            accepted=pusher.counts["accepted"],
            refused=pusher.counts["refused"],
            over_quota=self._fleet.quotas[self._account].overrun,
            states=[f"{run.mode} {run.state}" for run in self._fleet.history(self._account)],
        )

    def _strike(self, fault: str) -> float:
        """Let the fault happen. Returns the seconds until the next request after it arrives at the marketplace."""
        group, found = self._fleet.group, {}
        old, began = group.master(), time.monotonic()
        end = FAULTS[fault](group, self._rng)
        down = time.monotonic()
        quiet = threading.Thread(target=lambda: found.update(at=self._next_request(down)))
        quiet.start()
        group.failed_over(old)
        end()
        quiet.join()
        assert time.monotonic() - began < _END_SECONDS
        return float(found["at"])

    def _next_request(self, down: float) -> float:
        """Return the seconds from ``down`` to the first request sent with a permit of the new master."""
        time.sleep(1.0)  # what had its permit before
        quota = self._fleet.quotas[self._account]
        asked = quota.asked
        with contextlib.suppress(AssertionError):
            poll(lambda: quota.asked > asked, seconds=120, what="a request after the failover")
        return time.monotonic() - down

    def _ask(self, mode: str) -> set[str]:
        known = {run.id for run in self._fleet.history(self._account)}
        deadline = time.monotonic() + 60
        while True:
            try:
                self._fleet.client.sync(self._account, mode)
            except ConnectionFailed:
                assert time.monotonic() < deadline, "the run was not accepted"
            else:
                return known

    def _rest(self, known: set[str]) -> None:
        quiet = 0

        def at_rest() -> bool:
            nonlocal quiet
            try:
                new = any(run.id not in known for run in self._fleet.history(self._account))
                quiet = quiet + 1 if new and self._fleet.at_rest(self._account) and not self._is_healing() else 0
            except redis.RedisError:
                quiet = 0
            return quiet > 10

        poll(at_rest, seconds=_END_SECONDS, what=f"the end of {self._account}'s work")

    def _is_healing(self) -> bool:
        return self._fleet.runs.lost_writes(self._account) is not None

    def _sync(self, mode: str) -> None:
        self._rest(self._ask(mode))

    # -- the verdict -----------------------------------------------------------------------------------------------

    def _wrong(self, pusher: Pusher) -> Iterator[str]:
        held, wanted = stored(self._fleet.sandbox, self._account), self._stock.bodies()
        for reference in wanted:
            row = held.get(reference)
            if row is None or row["status"] != "active":
                yield f"{reference} is in the feed and {row['status'] if row else 'missing'}"
                continue
            prices = pusher.accepted.get(reference, [wanted[reference]["price"]])
            if row["body"]["price"] not in prices:
                yield f"{reference} costs {row['body']['price']}, expected one of {prices}"
        for reference in sorted(self._stock.gone):
            if held[reference]["status"] != "sold":
                yield f"{reference} left the feed and is {held[reference]['status']}"
        writes = requests.get(
            f"{self._fleet.sandbox.admin_url}/writes", params={"key": self._account}, timeout=60
        ).json()
        sold = {write["reference"] for write in writes if write["outcome"] == "sold"}
        if wrongly := sold - self._stock.gone:
            yield f"sold and in the feed: {sorted(wrongly)}"
        overrun = self._fleet.quotas[self._account].overrun
        if overrun > MOST_OVER_QUOTA:
            yield f"{overrun} requests were over the quota"
        for name, child in self._fleet.children.items():
            if name != "beat" and "Unrecoverable error" in child.log.read_text(errors="replace"):
                yield f"the worker {name} ended"
        open_runs = [run.id for run in self._fleet.history(self._account) if run.open]
        if open_runs:
            yield f"runs did not end: {open_runs}"
