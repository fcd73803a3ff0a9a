"""Many accounts at once: does each get its whole quota, and is a pushed price change still quick?

Every account has its own key and is saturated: its marketplace has more pages than can be read in the time. Each page
has a single row, so the limiter and the dispatch are measured, not comparing. At the same time, single listings are
pushed to random accounts. All figures are read from the marketplace's log; the first minute is not measured. One
account is `large`: its marketplace reports 1,000,000 listings, the others report 100,000.

    python benchmarks/accounts.py [--accounts 40] [--minutes 3] [--nodes 2] [--threads 32] [--memory | --delay 0.7]

The marketplace is one small server, or with ``--memory`` answers in the workers' own processes (`accounts_market`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.accounts_market import PER_MINUTE, Log, read_logs, serve
from benchmarks.fleet import Fleet, fleet, machine
from okasie_tasks.client import Client
from okasie_tasks.local.fleet import _WORKERS
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import poll

WARM_SECONDS = 60.0
PUSH_EVERY = 0.5


class Crowd:
    """Accounts, workers for them, and their marketplace: over HTTP, or in the workers' memory."""

    def __init__(
        self, deployed: Fleet, accounts: int, nodes: int, threads: int, *, memory: bool, delay_seconds: float
    ) -> None:
        folder = deployed.place.folder
        self._logs = folder / "market"
        self._logs.mkdir()
        self._url = "http://127.0.0.1:9/"
        app = "benchmarks.accounts_market" if memory else "okasie_tasks"
        if memory:
            deployed.place.env["MARKET_LOG"] = str(self._logs)
        else:
            self._url = deployed.ready("market", [sys.executable, __file__, "--serve", "--delay", str(delay_seconds)])[
                "base_url"
            ]
        self._memory = memory
        write_csv(folder / "feed.csv", cars(200, seed=1))
        for number in range(accounts):
            deployed.place.account(f"a{number}", feed="feed.csv", base_url=self._url, key=f"key-{number}")
        for number in range(nodes):
            deployed.worker(f"api{number}", "-Q", "okasie.api", "-P", "threads", "-c", str(threads), app=app)
        deployed.worker("urgent", *_WORKERS["urgent"], app=app)
        deployed.worker("rest", "-Q", "okasie.control,okasie.diff", "-P", "threads", "-c", "4", app=app)
        ready = lambda: deployed.place.okasie("status").status == 0  # noqa: E731
        poll(ready, seconds=300, what="a consumer everywhere")

    def log(self) -> Log:
        if self._memory:
            return read_logs(self._logs)
        document: Log = json.loads(urllib.request.urlopen(f"{self._url}/log", timeout=60).read())
        return document


def measure(
    accounts: int, minutes: float, nodes: int, threads: int, folder: Path, *, memory: bool, delay_seconds: float
) -> dict[str, Any]:
    with fleet(folder) as deployed:
        crowd = Crowd(deployed, accounts, nodes, threads, memory=memory, delay_seconds=delay_seconds)
        client, rng = Client(deployed.server.url), Random(1)
        for number in range(accounts):
            client.sync(f"a{number}", "full")
        poll(lambda: len(crowd.log()) >= accounts, seconds=300, what="a request of every account")
        time.sleep(WARM_SECONDS)
        begin, spent, commands = time.time(), deployed.spent(), calls(deployed.client)
        pushed: list[tuple[str, str, float]] = []
        while time.time() < begin + 60 * minutes:
            name, reference = f"a{rng.randrange(accounts)}", f"PUSH-{len(pushed)}"
            car = {"externalReference": reference, "status": "draft", "title": "A car", "dealerLocationCode": "GENT"}
            pushed.append((name, reference, time.time()))
            client.push(name, listings=[car])
            time.sleep(PUSH_EVERY)
        end, used, after = time.time(), deployed.spent(), calls(deployed.client)
        time.sleep(5)
        log = crowd.log()
    result = figures(log, pushed, accounts, begin, end)
    requests = result["mean_use"] * accounts * PER_MINUTE / 60 * (end - begin)
    return result | {
        "redis_commands_per_request": round((sum(after.values()) - sum(commands.values())) / requests, 1),
        "messages_per_request": round((after["lpush"] - commands["lpush"]) / requests, 2),
        "cpu_ms_per_request": round((sum(used.values()) - sum(spent.values())) / requests * 1000, 2),
        "machine": machine(), "minutes": minutes, "nodes": nodes, "threads": threads, "in_memory": memory,
        "delay_seconds": delay_seconds,
        "cores": {name: round((used[name] - spent[name]) / (end - begin), 2) for name in used},
    }  # fmt: skip


def calls(client: Any) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in client.info("commandstats").items()}


def figures(log: Log, pushed: list[tuple[str, str, float]], accounts: int, begin: float, end: float) -> dict[str, Any]:
    rates = [
        sum(begin <= at < end and what in ("page", "write") for at, what in log.get(f"key-{number}", []))
        * 60
        / (end - begin)
        / PER_MINUTE
        for number in range(accounts)
    ]
    arrived = {(key.replace("key-", "a"), what): at for key, seen in log.items() for at, what in seen}
    waits = sorted(arrived.get((name, f"listing {reference}"), end + 60) - at for name, reference, at in pushed)
    return {
        "accounts": accounts,
        "least_use": round(min(rates), 4),
        "mean_use": round(sum(rates) / accounts, 4),
        "large_use": round(rates[0], 4),
        "jain": round(sum(rates) ** 2 / (accounts * sum(rate**2 for rate in rates)), 5),
        "pushes": len(waits),
        "push_p50_s": round(waits[len(waits) // 2], 3),
        "push_p99_s": round(waits[max(0, -(-len(waits) * 99 // 100) - 1)], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--nodes", type=int, default=2, help="worker processes that send")
    parser.add_argument("--threads", type=int, default=32, help="of each of them")
    parser.add_argument("--memory", action="store_true", help="the marketplace in the workers' memory, not over HTTP")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each answer takes, over HTTP")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.delay))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        result = measure(
            options.accounts,
            options.minutes,
            options.nodes,
            options.threads,
            folder,
            memory=options.memory,
            delay_seconds=options.delay,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
    else:
        Console(width=120).print(result)


if __name__ == "__main__":
    main()
