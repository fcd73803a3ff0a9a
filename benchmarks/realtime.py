"""The quota and the urgent lane under full load, in real time: real workers, a real Redis, sandboxes with a quota.

Three accounts, one for each way in which the marketplace may count a minute, are saturated at the same time by first
full runs of a large csv feed. During these, single price changes are pushed, and once thirty at a time. Next comes an
account whose source must be scanned, saturated by full runs in which every price has changed. All figures except those
of pushes are read from the sandboxes' logs. ``--kill``: one of the two api workers is killed half-way and stays dead;
the scanned source is left out.

    python benchmarks/realtime.py [--minutes 5] [--kill] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psutil
import redis
import requests
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.client import Client
from okasie_tasks.core.listing import bulk_item
from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.fleet import WORKERS  # the workers of `okasie up`
from okasie_tasks.local.supervisor import Child, Supervisor
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.runs import Runs
from tests.store.simulation import busiest
from tests.support import OKASIE, Place, poll

PER_MINUTE = 120
WINDOWS = ("fixed", "sliding", "bucket")
SCANNED = "scanned"
SCANNED_ROWS = 12_000
WARM_SECONDS = 60.0
"""The first minute is not measured: a limiter that allows everything at once would look best in it."""
TOGETHER = 30
KNOWN = 3_000
"""Rows whose prices are pushed. They are sent first, so the marketplace has them when the measurement begins."""


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


class Deployment:
    """Redis, two api workers and one of each other kind, Beat for the watchdog, and a sandbox process an account."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.supervisor = Supervisor(say)
        self.server = EmbeddedRedis(folder)
        self.admin: dict[str, str] = {}
        self.children: dict[str, Child] = {}

    def start(self, feeds: dict[str, str]) -> None:
        """Start everything, with an account for each feed."""
        self.server.wait(self.supervisor.add(self.server.child()))
        self.place.env["OKASIE_REDIS__URL"] = self.server.url
        for account, feed in feeds.items():
            self._account(account, feed)
        env = {**self.place.env, "OKASIE_CONFIG": str(self.place.config)}
        celery = [sys.executable, "-m", "celery", "-A", "okasie_tasks"]
        for name, options in WORKERS.items():
            quiet = ["--without-mingle", "--without-gossip", "-l", "INFO"]
            self._child(name, [*celery, "worker", "-n", f"{name}@%h", *options, *quiet], env)
        self._child("beat", [*celery, "beat", "-l", "INFO"], env)
        poll(lambda: self.place.okasie("status").status == 0, seconds=120, what="a consumer everywhere")
        self.settings = load_settings(self.place.config, self.place.env)
        self.client = redis.Redis.from_url(self.server.url)
        self.runs = Runs(self.client, prefix=self.settings.redis.key_prefix)
        self.pushes = Requests(self.client, prefix=self.settings.redis.key_prefix)

    def _account(self, name: str, feed: str) -> None:
        window = name if name in WINDOWS else "sliding"
        argv = [*OKASIE, "sandbox", "--port", "0", "--window", window, "--key", f"key-{name}", "--json"]
        child = self._child(f"sandbox-{name}", argv, self.place.env)
        poll(lambda: "admin_url" in child.last_line(), what=child.name)
        ready = json.loads(child.last_line())
        self.admin[name] = ready["admin_url"]
        self.place.account(name, feed=feed, base_url=ready["base_url"], key=f"key-{name}")

    def _child(self, name: str, argv: list[str], env: dict[str, str]) -> Child:
        log = self.place.folder / "logs" / f"{name}.log"
        self.children[name] = self.supervisor.add(Child(name, argv, log=log, env=env))
        return self.children[name]

    def now(self) -> float:
        return self.runs.now()

    def arrivals(self, account: str) -> list[dict[str, Any]]:
        """Every request that the account's sandbox has seen, in order."""
        entries = requests.get(f"{self.admin[account]}/requests", timeout=60).json()
        return sorted(entries, key=lambda request: request["at"])

    def first_upsert(self, account: str) -> float:
        return next((seen["at"] for seen in self.arrivals(account) if seen["kind"] == "bulk"), 0.0)

    def at_work(self, account: str) -> bool:
        run = self.runs.active(account)
        return run is not None and self.runs.state(run) == "running"

    def processor_seconds(self) -> dict[str, float]:
        """Processor seconds by kind of process, including children."""
        spent: dict[str, float] = {}
        for child in self.supervisor.children:
            if child.process is not None and child.alive:
                root = psutil.Process(child.process.pid)
                kind = child.name.split("-")[0].rstrip("12")
                for process in (root, *root.children(recursive=True)):
                    times = process.cpu_times()
                    spent[kind] = spent.get(kind, 0.0) + times.user + times.system
        return spent


@contextmanager
def deployment(feeds: dict[str, str], folder: Path) -> Iterator[Deployment]:
    deployed = Deployment(folder)
    try:
        deployed.start(feeds)
        yield deployed
    finally:
        deployed.supervisor.stop(5)


class Pusher(threading.Thread):
    """Sends price changes for an account at random moments, and once `TOGETHER` of them at the same time.

    ``bodies``: listings to push inline; without them only references are sent, and the worker reads the source.
    """

    def __init__(
        self,
        deployed: Deployment,
        account: str,
        references: Sequence[str],
        bodies: Sequence[dict[str, Any]] | None,
        *,
        every: tuple[float, float],
        together_after: float | None = None,
    ) -> None:
        super().__init__(name=f"pusher-{account}", daemon=True)
        self._redis = redis.Redis.from_url(deployed.server.url)
        self._client = Client(deployed.server.url)
        self._pushes = deployed.pushes
        self._account, self._references, self._bodies = account, references, bodies
        self._every, self._together_after = every, together_after
        self._rng = Random(f"7:{account}")
        self._done = threading.Event()
        self.single: list[tuple[str, str, float]] = []
        self.together: list[tuple[str, str, float]] = []

    def run(self) -> None:
        began = time.monotonic()
        while not self._done.wait(self._rng.uniform(*self._every)):
            self.single.append(self._push(self._rng.randrange(len(self._references))))
            if self._together_after is not None and time.monotonic() - began > self._together_after:
                self._together_after = None
                # The push before must be answered first, or it would be counted among the thirty.
                self._done.wait(5)
                chosen = self._rng.sample(range(len(self._references)), TOGETHER)
                self.together = [self._push(index) for index in chosen]
                self._done.wait(5)

    def _push(self, index: int) -> tuple[str, str, float]:
        reference, (seconds, micros) = self._references[index], self._redis.time()  # type: ignore[misc]
        if self._bodies is None:
            push = self._client.push(self._account, [reference])
        else:
            changed = {**self._bodies[index], "price": self._rng.randrange(4_500, 62_000)}
            push = self._client.push(self._account, listings=[changed])
        return push, reference, seconds + micros / 1e6

    def stop(self) -> None:
        self._done.set()
        self.join(30)

    def answered(self, sent: Sequence[tuple[str, str, float]]) -> list[float]:
        """When each push was answered (Redis time). Waits for pending ones."""

        def answer(push: str, reference: str) -> float:
            report = self._pushes.get(push)
            outcome = report.outcomes.get(reference)
            assert report.error is None, report.error
            assert outcome is None or outcome.outcome in ("created", "updated"), outcome
            return outcome.at_ms / 1000 if outcome else 0.0

        return [
            poll(lambda push=push, name=name: answer(push, name), seconds=60, what=f"answer to {name}")
            for push, name, _ in sent
        ]

    def waits(self) -> list[tuple[float, float]]:
        """For each single push, when it was sent, and the seconds until it was answered."""
        moments = zip(self.single, self.answered(self.single), strict=True)
        return [(sent, answered - sent) for (_, _, sent), answered in moments]


@dataclass
class Figures:
    """The figures of one account in one span of time."""

    account: str
    span: str
    seconds: float
    accepted_per_minute: float = 0.0
    use: float = 0.0
    refused: int = 0
    most_in_60_s: int = 0
    most_in_1_s: int = 0
    gaps_over_1_s: int = 0
    largest_gap: float = 0.0
    pushes: int = 0
    p50: float | None = None
    p99: float | None = None
    slowest: float | None = None


@dataclass
class Noise:
    """How busy the machine was, with this project's share by kind of process (in cores)."""

    load: list[float] = field(default_factory=list)
    stood_still: list[float] = field(default_factory=list)
    """Delays over 0.2 s in waking a thread that only sleeps, in seconds: no program can send anything in that time."""
    busy: float = 0.0
    steal: float = 0.0
    ours: dict[str, float] = field(default_factory=dict)


@contextmanager
def noise(deployed: Deployment) -> Iterator[Noise]:
    """Yields a `Noise` that is filled when the span ends; the caller samples ``load``."""
    result, before, spent, began = Noise(), psutil.cpu_times(), deployed.processor_seconds(), time.monotonic()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            asleep = time.monotonic()
            time.sleep(0.05)
            if (late := time.monotonic() - asleep - 0.05) > 0.2:
                result.stood_still.append(round(late, 2))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield result
    finally:
        ended.set()
    after, seconds = psutil.cpu_times(), time.monotonic() - began
    total = sum(after) - sum(before) - (after.guest - before.guest)
    result.busy = 1 - (after.idle - before.idle + after.iowait - before.iowait) / total
    result.steal = (after.steal - before.steal) / total
    now = deployed.processor_seconds()
    # The processor time of a killed worker is lost.
    result.ours = {kind: round((now[kind] - spent.get(kind, 0)) / seconds, 3) for kind in now}


def wait_until(moment: float, deployed: Deployment, loads: list[float]) -> None:
    while (left := moment - time.time()) > 0:
        time.sleep(min(5.0, left))
        loads.append(round(os.getloadavg()[0], 2))


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """By nearest rank, so that it is a measured value."""
    return ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)] if ordered else None


def figures(
    arrivals: list[dict[str, Any]],
    account: str,
    span: str,
    bounds: tuple[float, float],
    pushed: Sequence[tuple[float, float]],
) -> Figures:
    """The figures of a span. ``most_in_*`` and ``refused`` cover the whole log: the limit holds at every moment."""
    begin, end = bounds
    waits = sorted(wait for sent, wait in pushed if begin <= sent < end)
    seen = [request for request in arrivals if begin <= request["at"] < end]
    moments = [request["at"] for request in arrivals]
    between = [later["at"] - earlier["at"] for earlier, later in pairwise(seen)]
    accepted = sum(1 for request in seen if 200 <= request["status"] < 300)
    per_minute = accepted * 60 / (end - begin)
    return Figures(
        account=account,
        span=span,
        seconds=round(end - begin, 1),
        accepted_per_minute=round(per_minute, 2),
        use=round(per_minute / PER_MINUTE, 5),
        refused=sum(1 for request in arrivals if request["status"] == 429),
        most_in_60_s=busiest(moments, 60.0),
        most_in_1_s=busiest(moments, 1.0),
        gaps_over_1_s=sum(gap > 1 for gap in between),
        largest_gap=round(max(between, default=0.0), 3),
        pushes=len(waits),
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        slowest=max(waits, default=None),
    )


def together(pusher: Pusher, arrivals: list[dict[str, Any]]) -> dict[str, Any]:
    """How many requests the thirty took. Requests of the run have a hundred items."""
    answered = pusher.answered(pusher.together)
    begin, end = pusher.together[0][2], max(answered)
    own = [seen for seen in arrivals if begin <= seen["at"] <= end and (seen["kind"] == "put" or seen["items"] < 100)]
    return {
        "requests": len(own),
        "items": [seen["items"] for seen in own],
        "sending": round(pusher.together[-1][2] - begin, 3),
        "all_answered_after": round(end - begin, 3),
    }


def saturated(deployed: Deployment, minutes: float, *, kill: bool) -> dict[str, Any]:
    """The main span: three accounts at full load, and pushes."""
    client = Client(deployed.server.url)
    for account in WINDOWS:
        client.sync(account, "full")
    began = time.time()
    firsts = [
        poll(lambda account=account: deployed.first_upsert(account), seconds=600, what="a first upsert")
        for account in WINDOWS
    ]
    say(f"upserts began {max(firsts) - began:.0f} s after the runs were requested; a minute to warm up")
    account = deployed.settings.accounts["sliding"]
    source = open_source(account, cache_dir=deployed.place.folder, current_year=datetime.now(UTC).year)
    known = [row.listing for row in islice(source.rows(), KNOWN) if row.listing is not None]
    bodies = [msgspec.json.decode(bulk_item(listing)) for listing in known]
    references = [listing.external_reference for listing in known]

    begin = max(firsts) + WARM_SECONDS
    end, middle = begin + 60 * minutes, begin + 30 * minutes
    wait_until(begin, deployed, [])
    pushers = [
        Pusher(deployed, name, references, bodies, every=(5, 10), together_after=30 * minutes) for name in WINDOWS
    ]
    say(f"measuring {minutes:g} minutes")
    with noise(deployed) as around:
        for pusher in pushers:
            pusher.start()
        if kill:
            wait_until(middle, deployed, around.load)
            victim = deployed.children["api"].process
            assert victim is not None
            os.kill(victim.pid, signal.SIGKILL)
            middle = time.time()
            say("killed the worker api; it stays dead")
        wait_until(end, deployed, around.load)
    idle = [name for name in WINDOWS if not deployed.at_work(name)]
    assert not idle, f"no work was left for {idle}: this was no full load"
    for pusher in pushers:
        pusher.stop()
    spans = {"before the kill": (begin, middle), "after the kill": (middle, end)} if kill else {"": (begin, end)}
    rows: list[Figures] = []
    thirty = {}
    every: list[float] = []
    for name, pusher in zip(WINDOWS, pushers, strict=True):
        waits = pusher.waits()
        every += [wait for _, wait in waits]
        arrivals = deployed.arrivals(name)
        rows += [figures(arrivals, name, span, bounds, waits) for span, bounds in spans.items()]
        thirty[name] = together(pusher, arrivals)
    every.sort()
    pushes = {"n": len(every), "p50": percentile(every, 0.5), "p99": percentile(every, 0.99), "max": max(every)}
    return {"accounts": rows, "pushes": pushes, "together": thirty, "noise": around}


def scanned(deployed: Deployment, minutes: float, feed: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Pushes by reference, while full runs of the same source, in which every price has changed, use up the quota."""
    client = Client(deployed.server.url)
    rng = Random(3)
    client.sync(SCANNED, "full")
    begin = poll(lambda: deployed.first_upsert(SCANNED), seconds=120, what="a first upsert")
    end = begin + 60 * minutes
    references = [row["stock_no"] for row in rows if row["stock_no"]]
    pusher = Pusher(deployed, SCANNED, references, None, every=(3, 6))
    with noise(deployed) as around:
        pusher.start()
        while time.time() < end:
            if not deployed.at_work(SCANNED):
                for row in rows:
                    row["price_eur"] = str(rng.randrange(4_500, 62_000))
                write_csv(feed, rows)
                client.sync(SCANNED, "full")
            wait_until(time.time() + 1, deployed, around.load)
    pusher.stop()
    waits = pusher.waits()
    account = figures(deployed.arrivals(SCANNED), SCANNED, f"csv of {len(rows):,} rows", (begin, end), waits)
    return {"account": account, "noise": around}


def shown(row: Figures) -> list[str]:
    waits = [f"{value:.2f}" if value is not None else "" for value in (row.p50, row.p99, row.slowest)]
    return [
        f"{row.account} {row.span}".strip(), f"{row.accepted_per_minute:.2f}", f"{row.use:.2%}",
        str(row.refused), str(row.most_in_60_s), str(row.most_in_1_s),
        f"{row.gaps_over_1_s} ({row.largest_gap:.2f} s)", str(row.pushes), *waits,
    ]  # fmt: skip


def noise_text(around: Noise) -> str:
    load = around.load or [0.0]
    ours = ", ".join(f"{kind} {cores:.2f}" for kind, cores in sorted(around.ours.items()))
    return (
        f"{os.cpu_count()} cores {around.busy:.0%} busy, {around.steal:.1%} stolen, stood still"
        f" {len(around.stood_still)} times, {sum(around.stood_still):.1f} s in all; load {min(load):.1f} to"
        f" {max(load):.1f}, mean {sum(load) / len(load):.1f}; ours, in cores: {sum(around.ours.values()):.2f} ({ours})"
    )


def show(result: dict[str, Any]) -> None:
    console = Console(width=150)
    headings = ["window", "accepted / min", "use", "429s", "most in 60 s", "most in 1 s", "gaps > 1 s (largest)"]
    table = Table(*headings, "pushes", "p50 s", "p99 s", "max s")
    for row in result["saturated"]["accounts"]:
        table.add_row(*shown(row))
    if "scanned" in result:
        table.add_row(*shown(result["scanned"]["account"]))
    console.print(table)
    pushes = result["saturated"]["pushes"]
    console.print(
        f"single pushes, the three accounts together: {pushes['n']}, p50 {pushes['p50']:.2f} s,"
        f" p99 {pushes['p99']:.2f} s, max {pushes['max']:.2f} s"
    )
    for name, burst in result["saturated"]["together"].items():
        console.print(
            f"{TOGETHER} at once, {name}: {burst['requests']} request(s) of {burst['items']} items, sent within"
            f" {burst['sending']:.2f} s, all answered after {burst['all_answered_after']:.2f} s"
        )
    console.print(f"saturated: {noise_text(result['saturated']['noise'])}")
    if "scanned" in result:
        console.print(f"scanned: {noise_text(result['scanned']['noise'])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="measured, after a minute to warm up")
    parser.add_argument("--kill", action="store_true", help="kill an api worker half-way")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave the logs and the requests seen in this folder")
    options = parser.parse_args()
    with ExitStack() as ending:
        # SIGTERM must end the children, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        folder = Path(tempfile.mkdtemp(prefix="ob-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        if options.keep:
            ending.callback(lambda: shutil.copytree(folder / "logs", options.keep, dirs_exist_ok=True))
        # The rows that can be sent until the end of the span, and for half a minute more.
        count = int((options.minutes + 1.5) * PER_MINUTE * 100)
        say(f"writing a feed of {count:,} rows")
        write_csv(folder / "large.csv", cars(count, seed=1))
        few = cars(SCANNED_ROWS, seed=2)
        write_csv(folder / f"{SCANNED}.csv", few)
        feeds = dict.fromkeys(WINDOWS, "large.csv") | {SCANNED: f"{SCANNED}.csv"}
        result: dict[str, Any] = {}
        with deployment(feeds, folder) as deployed:
            result["saturated"] = saturated(deployed, options.minutes, kill=options.kill)
            if not options.kill:
                say("pushes that scan their source")
                feed = folder / f"{SCANNED}.csv"
                result["scanned"] = scanned(deployed, max(1.0, 0.6 * options.minutes), feed, few)
            if options.keep:
                seen = {name: deployed.arrivals(name) for name in feeds}
                (folder / "logs" / "arrivals.json").write_text(json.dumps(seen))
    if options.json:
        print(json.dumps(result, default=asdict))
    else:
        show(result)


if __name__ == "__main__":
    main()
