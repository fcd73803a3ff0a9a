"""What grows with the inventory, and what must not: 10,000, 100,000 and 1,000,000 listings, end to end.

For each size a feed is synced into an empty sandbox without limit, followed by runs in which nothing changed. The
results are the time per listing of each stage, the peak resident memory of every process, the memory of Redis and its
share for an unchanged listing, and the longest queue. One line of JSON per size is written to --out when it is known.

    python benchmarks/growth.py [--rows 10000 100000 1000000] [--out growth.jsonl]
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import NO_LIMIT, Fleet, fleet, machine
from okasie_tasks.sandbox.sample import COLUMNS, cars
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT
from tests.support import OKASIE

ACCOUNT = "dex"
KEY = "key-growth"
IDLE_RUNS = 2
_AT_ONCE = 20_000


def write_feed(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=";")
        writer.writeheader()
        for first in range(1, rows + 1, _AT_ONCE):
            writer.writerows(cars(min(_AT_ONCE, rows + 1 - first), seed=1, first=first))


class Watch(threading.Thread):
    """Samples memory and queues twice a second, and keeps the peaks."""

    def __init__(self, deployed: Fleet) -> None:
        super().__init__(daemon=True)
        self._deployed, self._stopped = deployed, threading.Event()
        self.resident: dict[str, int] = {}
        self.redis_bytes = 0
        self.queue = 0

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            self._sample()

    def _sample(self) -> None:
        with suppress(psutil.Error):
            for name, size in self._deployed.memory().items():
                self.resident[name] = max(self.resident.get(name, 0), size)
        with suppress(Exception):
            self.redis_bytes = max(self.redis_bytes, self._deployed.redis_bytes())
            waiting = sum(self._deployed.client.llen(queue) for queue in (CONTROL, URGENT, API, DIFF))  # type: ignore[misc]
            self.queue = max(self.queue, waiting)

    def stop(self) -> dict[str, Any]:
        self._stopped.set()
        self.join(5)
        self._sample()  # a run may end before the first half second
        mib = {name: round(size / 2**20) for name, size in self.resident.items()}
        return {"peak_mib": mib, "redis_peak_mib": round(self.redis_bytes / 2**20), "longest_queue": self.queue}


def one_run(deployed: Fleet, rows: int, seconds: float) -> dict[str, Any]:
    watch, before = Watch(deployed), deployed.spent()
    watch.start()
    run, wall = deployed.sync(ACCOUNT, seconds=seconds)
    spent = deployed.spent()
    cpu = {name: round(used - before.get(name, 0), 2) for name, used in spent.items()}
    ours = sum(used for name, used in cpu.items() if name != "sandbox")
    requests = {name.partition(".")[2]: n for name, n in run.counts.items() if name.startswith("requests.")}
    return {
        "wall_s": round(wall, 2),
        "cpu_s": cpu,
        "cpu_us_a_listing": round(ours / rows * 1e6, 1),
        "stages_s": {name: round(took, 2) for name, took in deployed.stages.items()},
        "stages_us_a_listing": {name: round(took / rows * 1e6, 1) for name, took in deployed.stages.items()},
        "requests": requests,
        "minimum": run.fact("minimum"),
        "listings": json.loads(run.facts["listings"]),
        **watch.stop(),
    }


def kept(deployed: Fleet, rows: int) -> dict[str, float]:
    """Bytes per listing that stay in Redis: the ledger, the cache of the source's rows, and the catalogue of titles."""
    client = deployed.client
    ledger = sum(client.memory_usage(f"okasie:ledger:{ACCOUNT}:{bucket}", samples=0) or 0 for bucket in range(1024))
    known = client.memory_usage(f"okasie:rows:{ACCOUNT}", samples=0) or 0
    titles = client.memory_usage(f"okasie:catalog:{ACCOUNT}", samples=0) or 0
    return {"ledger": round(ledger / rows, 1), "rows": round(known / rows, 1), "catalog": round(titles / rows, 1)}


def measure(rows: int, folder: Path, *, threads: int, seconds: float) -> dict[str, Any]:
    write_feed(folder / "feed.csv", rows)
    with fleet(folder) as deployed:
        argv = [*OKASIE, "sandbox", "--port", "0", "--limit", "0", "--burst", "100000", "--key", KEY, "--json"]
        base_url = deployed.ready("sandbox", argv)["base_url"]
        deployed.place.account(ACCOUNT, feed="feed.csv", base_url=base_url, key=KEY, extra=NO_LIMIT)
        deployed.nodes(2, threads=threads)
        result: dict[str, Any] = {
            "rows": rows,
            "machine": machine(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        result["first"] = one_run(deployed, rows, seconds)
        result["idle"] = [one_run(deployed, rows, seconds) for _ in range(IDLE_RUNS)][-1]
        result["redis_bytes_a_listing"] = kept(deployed, rows)
    return result


def show(results: list[dict[str, Any]]) -> None:
    table = Table(
        "listings",
        "run",
        "wall s",
        "µs CPU a listing",
        "walk",
        "load",
        "diff",
        "apply",
        "peak MiB of a worker",
        "Redis MiB",
        "queue",
    )
    for result in results:
        for name in ("first", "idle"):
            run = result[name]
            stages = [str(run["stages_us_a_listing"].get(stage, "")) for stage in ("walk", "load", "diff", "apply")]
            workers = max(mib for child, mib in run["peak_mib"].items() if child.startswith("w"))
            table.add_row(
                f"{result['rows']:,}", name, str(run["wall_s"]), str(run["cpu_us_a_listing"]), *stages,
                str(workers), str(run["redis_peak_mib"]), str(run["longest_queue"]),
            )  # fmt: skip
    console = Console(width=150)
    console.print(table)
    console.print("stages: µs of wall time a listing")
    for result in results:
        console.print(
            f"{result['rows']:,}: Redis keeps {result['redis_bytes_a_listing']} bytes of an unchanged listing"
        )
    console.print(results[-1]["machine"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5_400, help="the longest time of one run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    for rows in options.rows:
        folder = Path(tempfile.mkdtemp(prefix="ob-"))
        try:
            results.append(measure(rows, folder, threads=options.threads, seconds=options.seconds))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
    print(json.dumps(results)) if options.json else show(results)


if __name__ == "__main__":
    main()
