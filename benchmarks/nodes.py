"""Many nodes: how much of the diff stage 1, 2 and 4 worker nodes get done, and one that joins or leaves in the middle.

A node is a worker process of its own, as it would run on a machine of its own. Here all share this machine's cores:
more of them than cores cannot scale. Throughput is listings a second of the stages that compare (load and diff), in
full runs over the same filled ledger; pages come from memory.

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

from benchmarks.fleet import ALL_QUEUES, NO_LIMIT, Fleet, fleet, machine, median
from okasie_tasks.local.supervisor import Child

ACCOUNT = "dex"
COUNTS = (1, 2, 4)
_NODE = ("-Q", ALL_QUEUES, "-P", "threads", "-c", "2")


def run(deployed: Fleet, rows: int) -> dict[str, float]:
    found, wall = deployed.sync(ACCOUNT)
    listings = json.loads(found.facts["listings"])
    assert listings["unchanged"] == rows, listings
    return {"wall": wall, "compare": deployed.stages.get("load", 0.0) + deployed.stages.get("diff", 0.0)}


def leave(child: Child) -> None:
    assert child.process is not None
    child.process.send_signal(signal.SIGTERM)
    child.process.wait(60)


def measure(rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    here = Path(__file__).parent
    with fleet(folder) as deployed:
        base_url = deployed.ready("pages", [sys.executable, str(here / "pages.py"), str(rows), str(folder)])["base_url"]
        deployed.place.account(ACCOUNT, feed="feed.csv", base_url=base_url, key="k", extra=NO_LIMIT)
        nodes = deployed.nodes(1, threads=2)
        deployed.sync(ACCOUNT)
        deployed.sync(ACCOUNT)
        results: dict[int, list[dict[str, float]]] = {}
        for count in COUNTS:
            while len(nodes) < count:
                nodes.append(deployed.worker(f"w{len(nodes)}", *_NODE))
                time.sleep(4)
            results[count] = [run(deployed, rows) for _ in range(repeats)]
        # One leaves while a run is at work, then one joins: the outcome is checked by `run`.
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
        found = measure(options.rows, options.repeats, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found))
        return
    console, table = (
        Console(width=120),
        Table("nodes", "run s", "load + diff s", "listings / s compared", "times one node"),
    )
    one = found["nodes"][1]["compare"]
    for count, told in found["nodes"].items():
        speed = f"{options.rows / told['compare']:,.0f}"
        table.add_row(
            str(count), f"{told['wall']:.2f}", f"{told['compare']:.2f}", speed, f"{one / told['compare']:.2f}"
        )
    console.print(table)
    console.print(
        f"one of {COUNTS[-1]} left mid-run: {found['left']['wall']:.2f} s; one joined: {found['joined']['wall']:.2f} s"
    )
    console.print(found["machine"])


if __name__ == "__main__":
    main()
