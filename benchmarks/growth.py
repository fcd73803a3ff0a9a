"""What grows with the inventory, and what must not: 10,000, 100,000 and 1,000,000 listings, end to end.

For each size, ``okasie up`` syncs a feed of wide rows into an empty marketplace without limit, followed by runs in
which nothing changed. The results are the CPU per listing, the time per listing of each stage, the peak resident memory
of every process, the memory of Redis and what it keeps of an unchanged listing, and the longest queue. One line of JSON
per size is written to --out when it is known.

    python benchmarks/growth.py [--rows 10000 100000 1000000] [--format csv] [--out growth.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from benchmarks.fleet import Default, Deployed, machine, work_folder
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT

ACCOUNT = "dex"
NOTING_RUNS = 2
"""The first reads back how the marketplace stored what was sent, the second notes what is equal."""
IDLE_RUNS = 3
"""Measurements of runs that find everything known. The one with the median CPU is reported."""
ROWS_AT_A_TIME = 100_000
"""Small runs are measured several in sequence, so that what the deployment uses while it idles does not count."""
NO_WORKERS = frozenset({"up", "redis", "beat", "flower", "web"})
TARGETS = {"flat": 1.2, "worker_mib": 200, "redis_bytes": 150}


class Watch(threading.Thread):
    """Samples memory and queues twice a second, and keeps the peaks."""

    def __init__(self, deployed: Deployed) -> None:
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
            for name, size in self._deployed.memory(max).items():
                self.resident[name] = max(self.resident.get(name, 0), size)
        with suppress(Exception):
            self.redis_bytes = max(self.redis_bytes, self._deployed.redis_bytes())
            waiting = sum(self._deployed.client.llen(queue) for queue in (CONTROL, URGENT, API, DIFF))
            self.queue = max(self.queue, waiting)

    def stop(self) -> dict[str, Any]:
        self._stopped.set()
        self.join(5)
        self._sample()  # a run may end before the first half second
        mib = {name: round(size / 2**20) for name, size in self.resident.items()}
        return {"peak_mib": mib, "redis_peak_mib": round(self.redis_bytes / 2**20), "longest_queue": self.queue}


def one_run(deployed: Deployed, rows: int, seconds: float, *, runs: int = 1) -> dict[str, Any]:
    """What one run takes, by the mean of ``runs`` in sequence. Stages and requests are those of the last."""
    deployed.settle()
    watch, before = Watch(deployed), deployed.spent()
    watch.start()
    walls = []
    for _ in range(runs):
        run, took = deployed.sync(ACCOUNT, seconds=seconds)
        walls.append(took)
    wall, peaks = sum(walls) / runs, watch.stop()
    deployed.settle()
    cpu = {name: round((used - before.get(name, 0)) / runs, 3) for name, used in deployed.spent().items()}
    requests = {name.partition(".")[2]: n for name, n in run.counts.items() if name.startswith("requests.")}
    return {
        "wall_s": round(wall, 2),
        "cpu_s": cpu,
        "cpu_us_a_listing": round(sum(cpu.values()) / rows * 1e6, 1),
        "stages_s": {name: round(took, 2) for name, took in deployed.stages.items()},
        "stages_us_a_listing": {name: round(took / rows * 1e6, 1) for name, took in deployed.stages.items()},
        "requests": requests,
        "minimum": run.fact("minimum"),
        "listings": json.loads(run.facts["listings"]),
        **peaks,
    }


def measure(rows: int, folder: Path, *, form: str, seconds: float) -> dict[str, Any]:
    deployed = Default(folder)
    feed = f"feed.{form}"
    stock.write_feed(folder / feed, stock.kinds(folder), rows)
    deployed.account(ACCOUNT, feed=feed, base_url=f"{deployed.pages(rows)}/gzip", key="empty")
    with deployed:
        first = one_run(deployed, rows, seconds)
        for _ in range(NOTING_RUNS):
            deployed.sync(ACCOUNT, seconds=seconds)
        runs = max(1, ROWS_AT_A_TIME // rows)
        known = [one_run(deployed, rows, seconds, runs=runs) for _ in range(IDLE_RUNS)]
        assert all(run["listings"]["unchanged"] == rows for run in known), known
        idle = sorted(known, key=lambda run: float(run["cpu_us_a_listing"]))[IDLE_RUNS // 2]
        kept = {name: round(size / rows, 1) for name, size in deployed.kept().items()}
    return {
        "rows": rows, "format": form, "machine": machine(), "load": os.getloadavg()[0],
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "first": first, "idle": idle, "worker_mib": worker_mib(idle), "first_worker_mib": worker_mib(first),
        "redis_bytes_a_listing": {name: size for name, size in kept.items() if size},
    }  # fmt: skip


def worker_mib(run: dict[str, Any]) -> int:
    """The peak of the largest process of a worker."""
    return max(mib for name, mib in run["peak_mib"].items() if name not in NO_WORKERS)


def show(results: list[dict[str, Any]]) -> None:
    stages = ("walk", "load", "diff", "apply")
    table = Table(
        "listings", "run", "wall s", "CPU µs a listing", *stages, "peak MiB of a worker", "Redis MiB", "queue"
    )
    for result in results:
        for name in ("first", "idle"):
            run = result[name]
            table.add_row(
                f"{result['rows']:,}", name, str(run["wall_s"]), str(run["cpu_us_a_listing"]),
                *(str(run["stages_us_a_listing"].get(stage, "")) for stage in stages),
                str(worker_mib(run)), str(run["redis_peak_mib"]), str(run["longest_queue"]),
            )  # fmt: skip
    console = Console(width=150)
    console.print(table)
    console.print("stages: µs of wall time a listing")
    for result in results:
        kept = result["redis_bytes_a_listing"]
        console.print(f"{result['rows']:,}: Redis keeps {sum(kept.values()):.0f} bytes of an unchanged listing: {kept}")
        console.print(f"  peak MiB, idle run, the largest process of each: {result['idle']['peak_mib']}")
    idle = [result["idle"]["cpu_us_a_listing"] for result in results]
    targets = f"CPU within {TARGETS['flat']}, {TARGETS['worker_mib']} MiB, {TARGETS['redis_bytes']} bytes"
    console.print(f"CPU a listing, most / least: {max(idle) / min(idle):.2f}; targets: {targets}")
    console.print(results[-1]["machine"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--format", choices=stock.FORMATS, default="csv")
    parser.add_argument("--seconds", type=float, default=5_400, help="the longest time of one run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for rows in options.rows:
        with work_folder() as folder:
            results.append(measure(rows, folder, form=options.format, seconds=options.seconds))
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
    print(json.dumps(results)) if options.json else show(results)


if __name__ == "__main__":
    main()
