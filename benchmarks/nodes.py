"""Scaling: walking and comparing an inventory on one node and on two, each on one core.

A node is one worker process of all queues, as it would run on a machine of one core. With one node, Redis shares its
core; with two, it may use both. Recorded pages are answered from the nodes' memory (`recorded`), and the feed is a
local file, so no server takes a part of the cores. Nothing has changed since the last run. The time is that of the
stages walk, load and diff; the CPU is that of the nodes and Redis.

    python benchmarks/nodes.py [--rows 100000] [--repeats 3] [--format jsonl] [--json]

Both are measured in two rounds, in turn, so that noise affects both alike. The first run after a node has joined is
not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from benchmarks.fleet import ALL_QUEUES, Fleet, fleet, machine, median, work_folder
from benchmarks.recorded import record
from okasie_tasks.local.supervisor import Child
from tests.support import poll

ACCOUNT = "dex"
ROUNDS = 2
STAGES = ("walk", "load", "diff")
TARGET_SPEED_UP, TARGET_CPU = 1.7, 1.15


def start(deployed: Fleet, name: str, threads: int) -> Child:
    argv = ["-Q", ALL_QUEUES, "-P", "threads", "-c", str(threads), "-l", "INFO"]
    child = deployed.worker(name, *argv, app="benchmarks.recorded")
    poll(lambda: " ready." in (deployed.place.folder / "logs" / f"{name}.log").read_text(), what=f"{name}, ready")
    return child


def leave(child: Child) -> None:
    assert child.process is not None
    child.process.send_signal(signal.SIGTERM)
    child.process.wait(120)


def pin(processes: list[psutil.Process], cores: list[int]) -> None:
    """Let all threads of the processes run on these cores only; threads and processes that they start inherit it."""
    for process in processes:
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)


def run(deployed: Fleet, rows: int) -> dict[str, float]:
    deployed.settle()
    before = sum(deployed.spent().values())
    record, wall = deployed.sync(ACCOUNT)
    deployed.settle()
    spent = sum(deployed.spent().values()) - before
    listings = json.loads(record.facts["listings"])
    assert listings["unchanged"] == rows, listings
    stages = {name: deployed.stages.get(name, 0.0) for name in STAGES}
    return {"wall": wall, **stages, "compare": sum(stages.values()), "cpu_us": spent / rows * 1e6}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rows, feed, pages = options.rows, f"feed.{options.format}", folder / "pages"
    first, second = sorted(os.sched_getaffinity(0))[:2]
    pages.mkdir()
    record(pages, folder, rows)
    with fleet(folder) as deployed:
        stock.write_feed(folder / feed, stock.kinds(folder), rows)
        deployed.account(ACCOUNT, feed=feed, base_url="http://127.0.0.1:9", key="k")
        deployed.place.env["PAGES"] = str(pages)
        start(deployed, "w1", options.threads)
        servers = [process for found in deployed.processes().values() for process in found]
        found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(2):  # one that claims the listings, one in which nothing changes
            deployed.sync(ACCOUNT)
        for joined in range(ROUNDS):
            pin(servers, [first])
            found[1] += [run(deployed, rows) for _ in range(options.repeats)]
            node = start(deployed, f"joined{joined}", options.threads)
            pin(deployed.processes()[node.name], [second])
            pin(deployed.processes()["redis"], [first, second])
            deployed.sync(ACCOUNT)
            found[2] += [run(deployed, rows) for _ in range(options.repeats)]
            leave(node)
    nodes = {count: {name: median([one[name] for one in runs]) for name in runs[0]} for count, runs in found.items()}
    return {
        "rows": rows, "format": options.format, "threads": options.threads, "machine": machine(), "nodes": nodes,
        "speed_up": round(nodes[1]["compare"] / nodes[2]["compare"], 2),
        "cpu_ratio": round(nodes[2]["cpu_us"] / nodes[1]["cpu_us"], 2),
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    table = Table("nodes", *(f"{name}, s" for name in STAGES), "together", "listings a second", "CPU µs a listing")
    for count, one in result["nodes"].items():
        table.add_row(
            str(count), *(f"{one[name]:.2f}" for name in (*STAGES, "compare")),
            f"{result['rows'] / one['compare']:,.0f}", f"{one['cpu_us']:.1f}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    console.print(f"two nodes are {result['speed_up']} times as fast as one (>= {TARGET_SPEED_UP});")
    console.print(f"their CPU a listing is {result['cpu_ratio']} times that of one (<= {TARGET_CPU})")
    console.print(f"{result['rows']:,} listings, {result['format']}; {result['machine']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3, help="of each round")
    parser.add_argument("--threads", type=int, default=4, help="of a node")
    parser.add_argument("--format", choices=stock.FORMATS, default="jsonl")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed")
    with work_folder() as folder:
        result = measure(options, folder)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
