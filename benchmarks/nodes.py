"""Several nodes: the throughput of 1, 2 and 4 worker nodes, and a node that joins or leaves during a run.

A node is one worker process, as it would run on one machine. Here all share this machine's cores, so more nodes than
cores cannot scale. Throughput is listings a second of the stages that compare (load and diff), in full runs over the
same filled ledger; pages come from memory.

    python benchmarks/nodes.py [--rows 100000] [--repeats 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from benchmarks.fleet import ALL_QUEUES, Fleet, fleet, machine, median
from okasie_tasks.local.supervisor import Child

ACCOUNT = "dex"
COUNTS = (1, 2, 4)
_NODE = ("-Q", ALL_QUEUES, "-P", "threads", "-c", "2")


def run(deployed: Fleet, rows: int) -> dict[str, float]:
    record, wall = deployed.sync(ACCOUNT)
    listings = json.loads(record.facts["listings"])
    assert listings["unchanged"] == rows, listings
    return {"wall": wall, "compare": deployed.stages.get("load", 0.0) + deployed.stages.get("diff", 0.0)}


def leave(child: Child) -> None:
    assert child.process is not None
    child.process.send_signal(signal.SIGTERM)
    child.process.wait(60)


def measure(rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    with fleet(folder) as deployed:
        stock.write_feed(folder / "feed.csv", stock.kinds(folder), rows)
        deployed.account(ACCOUNT, feed="feed.csv", base_url=f"{deployed.pages(rows)}/gzip", key="k")
        nodes = deployed.nodes(1, threads=2)
        deployed.sync(ACCOUNT)
        deployed.sync(ACCOUNT)
        results: dict[int, list[dict[str, float]]] = {}
        for count in COUNTS:
            while len(nodes) < count:
                nodes.append(deployed.worker(f"w{len(nodes)}", *_NODE))
                time.sleep(4)
            results[count] = [run(deployed, rows) for _ in range(repeats)]
        # One leaves during a run, then one joins: `run` checks the outcome.
        threading.Timer(results[COUNTS[-1]][0]["wall"] / 3, leave, [nodes[-1]]).start()
        left = run(deployed, rows)
        threading.Timer(0.0, deployed.worker, ["joins", *_NODE]).start()
        joined = run(deployed, rows)
    return {
        "rows": rows, "machine": machine(), "left": left, "joined": joined,
        "nodes": {count: {key: median([r[key] for r in runs]) for key in runs[0]} for count, runs in results.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        result = measure(options.rows, options.repeats, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
        return
    console, table = (
        Console(width=120),
        Table("nodes", "run s", "load + diff s", "listings / s compared", "times one node"),
    )
    one = result["nodes"][1]["compare"]
    for count, figures in result["nodes"].items():
        speed = f"{options.rows / figures['compare']:,.0f}"
        table.add_row(
            str(count), f"{figures['wall']:.2f}", f"{figures['compare']:.2f}", speed, f"{one / figures['compare']:.2f}"
        )
    console.print(table)
    left, joined = result["left"]["wall"], result["joined"]["wall"]
    console.print(f"one of {COUNTS[-1]} left mid-run: {left:.2f} s; one joined: {joined:.2f} s")
    console.print(result["machine"])


if __name__ == "__main__":
    main()
