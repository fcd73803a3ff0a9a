"""Many accounts at once: does each use its whole quota, is a push still quick, and what does a request cost?

``okasie up`` makes a full run for each account. Each has its own key, a limit of 120 requests a minute, and more pages
than it may request in the time: full pages of wide rows, over HTTP, in which nothing has changed (`pages`). At the same
time, single listings are pushed to random accounts. The use of the quotas is read from the marketplace's log; the first
minute is not measured. The CPU is that of all processes, Redis included, without the server of the pages.

    python benchmarks/accounts.py [--accounts 40] [--minutes 2] [--threads 0] [--delay 0.7] [--json]
    python benchmarks/accounts.py --find

With ``--find``, deployments of more and fewer accounts are measured, starting with --accounts, until it is known to a
tenth for how many the least use is 95 %. ``--threads`` replaces the ``api`` workers of ``okasie up`` by one process for
each core with so many threads: with more accounts than threads, a slot is what an account waits for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from benchmarks.fleet import NO_LIMIT, Default, Deployed, Fleet, machine, work_folder
from benchmarks.pages import PAGE_ROWS
from okasie_tasks.client import Client
from tests.support import poll

PER_MINUTE = 120
PUSH_EVERY = 0.5
TARGET_USE, TARGET_PUSH_SECONDS = 0.95, 1.0
_SEED, _FEED = "seed", "feed.csv"
_OUTCOME_SECONDS = 60.0

Log = dict[str, list[tuple[float, str]]]


class Threaded(Fleet):
    """The workers of ``okasie up``, but one ``api`` process for each core, with this many threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__(folder)
        self._threads = threads

    def __enter__(self) -> Threaded:
        cores = os.cpu_count() or 1
        for number in range(cores):
            self.worker(f"api{number}", "-Q", "okasie.api", "-P", "threads", "-c", str(self._threads))
        self.worker("control", "-Q", "okasie.control", "-P", "threads", "-c", "4")
        self.worker("urgent", "-Q", "okasie.urgent", "-P", "threads", "-c", "8")
        self.worker("diff", "-Q", "okasie.diff,okasie.feeds", "-P", "prefork", "-c", str(cores))
        poll(lambda: self.place.okasie("status").status == 0, seconds=300, what="a consumer everywhere")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def measure(options: argparse.Namespace, accounts: int, folder: Path) -> dict[str, Any]:
    names = [f"a{number}" for number in range(accounts)]
    rows = options.rows or round(PER_MINUTE * PAGE_ROWS * (options.minutes + options.warm / 60 + 1))
    deployed: Default | Threaded = Threaded(folder, options.threads) if options.threads else Default(folder)
    stock.write_feed(folder / _FEED, stock.kinds(folder), rows)
    limit = ["--per-minute", str(PER_MINUTE), "--unlimited", _SEED]
    url = deployed.pages(rows, *limit, "--delay", str(options.delay), "--log")
    for name in (_SEED, *names):
        extra = NO_LIMIT if name == _SEED else f"requests_per_minute = {PER_MINUTE}\n"
        deployed.account(name, feed=_FEED, base_url=f"{url}/gzip", key=name, extra=extra)
    with deployed:
        for _ in range(2):  # one that claims the listings, one in which nothing changes
            deployed.sync(_SEED)
        deployed.copy_account(_SEED, names)
        lowest = floor(url, folder / _FEED, -(-rows // PAGE_ROWS))
        deployed.settle()
        result = _saturated(deployed, names, url, options.warm, 60 * options.minutes)
    return {"accounts": accounts, **result, **lowest, "rows": rows, "threads": options.threads, "delay": options.delay}


def floor(url: str, feed: Path, pages: int) -> dict[str, float]:
    """Of one page, ms of CPU: receiving it with the standard library, and the least work on its rows (`floor`)."""
    argv = [sys.executable, str(Path(__file__).with_name("floor.py")), f"{url}/gzip", str(feed), _SEED]
    found = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    rows = found["parts"]["unzip"] + found["parts"]["rows"]
    return {"fetch_ms": round(found["fetch"] / pages * 1000, 2), "floor_ms": round(rows / pages * 1000, 2)}


def _saturated(deployed: Deployed, names: Sequence[str], url: str, warm: float, seconds: float) -> dict[str, Any]:
    client = Client(deployed.url)
    for name in names:
        client.sync(name, "full")
    poll(lambda: len(_log(url).keys() & set(names)) == len(names), seconds=300, what="a request of every account")
    time.sleep(warm)
    with ThreadPoolExecutor(64) as pool:
        began, spent, served, commands = time.time(), deployed.spent(), deployed.served(), _commands(deployed)
        waits = _pushes(client, names, pool, began + seconds)
        ended, used, after = time.time(), deployed.spent(), _commands(deployed)
        cores = {name: (used[name] - spent.get(name, 0.0)) / (ended - began) for name in used}
        served = (deployed.served() - served) / (ended - began)
        pushes = sorted(wait.result() for wait in waits)
    log = _log(url)
    sent = [sum(began <= at < ended and what in ("page", "write") for at, what in log[name]) for name in names]
    rates = [count * 60 / (ended - began) / PER_MINUTE for count in sent]
    each = (ended - began) * 1000 / sum(sent)
    return {
        "least_use": round(min(rates), 4), "mean_use": round(sum(rates) / len(rates), 4),
        "jain": round(sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates)), 5),
        "pushes": len(pushes), "push_p50_s": round(_quantile(pushes, 50), 3),
        "push_p99_s": round(_quantile(pushes, 99), 3),
        "cpu_ms_per_request": round(sum(cores.values()) * each, 2),
        "process_ms": {name: round(share * each, 2) for name, share in cores.items()},
        "cores": round(sum(cores.values()), 2), "cores_of_the_pages": round(served, 2),
        "redis_commands_per_request": round((sum(after.values()) - sum(commands.values())) / sum(sent), 1),
        "messages_per_request": round((after["lpush"] - commands["lpush"]) / sum(sent), 2),
    }  # fmt: skip


def _pushes(client: Client, names: Sequence[str], pool: ThreadPoolExecutor, until: float) -> list[Future[float]]:
    """Push single listings until then. The results are the seconds from each push to its outcome."""
    rng, waits = Random(1), []

    def push(name: str, reference: str) -> float:
        began = time.perf_counter()
        car = {"externalReference": reference, "status": "draft", "title": "A car", "dealerLocationCode": "GENT"}
        state = client.wait(client.push(name, listings=[car]), timeout=_OUTCOME_SECONDS)
        assert state.error is None, state
        return time.perf_counter() - began

    while time.time() < until:
        waits.append(pool.submit(push, rng.choice(names), f"PUSH-{len(waits)}"))
        time.sleep(PUSH_EVERY)
    return waits


def _log(url: str) -> Log:
    found: Log = json.loads(urllib.request.urlopen(f"{url}/log", timeout=60).read())
    return found


def _commands(deployed: Deployed) -> dict[str, int]:
    found = deployed.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in found.items()}


def _quantile(values: Sequence[float], percent: int) -> float:
    return values[max(0, -(-len(values) * percent // 100) - 1)]


def find(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each count that was measured, until the most that hold and the fewest that do not are within a tenth."""
    results: list[dict[str, Any]] = []
    low, high, count = 0, 0, options.accounts
    while not high or high - low > max(1, low // 10):
        with work_folder() as folder:
            results.append(measure(options, count, folder))
        print(f"{count} accounts: least use {results[-1]['least_use']:.1%}", file=sys.stderr, flush=True)
        if results[-1]["least_use"] >= TARGET_USE:
            low = count
        else:
            high = count
        count = (low + high) // 2 if high else low * 3 // 2
    return results


def show(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    table = Table(
        "accounts", f"least use (>= {TARGET_USE:.0%})", "fairness", f"push p50 / p99, s (<= {TARGET_PUSH_SECONDS:g})",
        "CPU ms a request", "floor", "cores", "of the pages' server",
    )  # fmt: skip
    for one in results:
        table.add_row(
            str(one["accounts"]), f"{one['least_use']:.1%}", str(one["jain"]),
            f"{one['push_p50_s']} / {one['push_p99_s']}", str(one["cpu_ms_per_request"]), str(one["floor_ms"]),
            str(one["cores"]), str(one["cores_of_the_pages"]),
        )  # fmt: skip
    console = Console(width=130)
    console.print(table)
    last = results[-1]
    if options.find:
        most = max((one["accounts"] for one in results if one["least_use"] >= TARGET_USE), default=0)
        console.print(f"{most} accounts use at least {TARGET_USE:.0%} of their quota each")
    console.print(f"CPU ms a request by process, {last['accounts']} accounts: {last['process_ms']}")
    console.print(f"  of one page: fetching it with the standard library {last['fetch_ms']}, floor {last['floor_ms']}")
    commands = f"{last['redis_commands_per_request']} commands of Redis, those in scripts included"
    console.print(f"  {commands}; {last['messages_per_request']} messages")
    console.print(machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=2.0, help="whole ones, as the limit is one of a minute")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds before it is measured")
    parser.add_argument("--rows", type=int, default=0, help="of each account; 0: more than the quota can read")
    parser.add_argument("--threads", type=int, default=0, help="of one api process for each core; 0: `okasie up`")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--find", action="store_true", help="how many accounts two cores carry")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.find:
        results = find(options)
    else:
        with work_folder() as folder:
            results = [measure(options, options.accounts, folder)]
    if options.json:
        print(json.dumps({"results": results, "machine": machine()}))
    else:
        show(results, options)


if __name__ == "__main__":
    main()
