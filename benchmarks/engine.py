"""The engine against the program that a user would write instead: comparing an inventory in which nothing changed.

Ours: two worker processes, a real Redis, a full run over a filled ledger. The rivals: one Node.js process and one
Python process that do the guide's full comparison. All use the same feed and the same pages, served from memory by one
server. Each repeat runs all of them in sequence, so that noise affects all alike. The limiter allows everything here.
CPU is the user and system time of all processes of a contender, including Redis, without the server of the pages.

    python benchmarks/engine.py [--rows 100000] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import NO_LIMIT, Fleet, fleet, machine, median

HERE = Path(__file__).parent
ACCOUNT = "dex"


def guide(argv: list[str], base_url: str, feed: Path, rows: int) -> tuple[float, float]:
    """Wall seconds of the comparison itself, without the start of the program, and CPU seconds of the process."""
    process = subprocess.Popen([*argv, base_url, str(feed)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    result = json.loads(output)
    assert (result["same"], result["create"], result["update"], result["gone"]) == (rows, 0, 0, 0), result
    return result["seconds"], used.ru_utime + used.ru_stime


def ours(deployed: Fleet, rows: int) -> tuple[float, dict[str, float]]:
    before = deployed.spent()
    run, seconds = deployed.sync(ACCOUNT)
    after = deployed.spent()
    assert json.loads(run.facts["listings"])["unchanged"] == rows, run
    return seconds, {name: after[name] - before.get(name, 0) for name in after if name != "pages"}


def measure(rows: int, repeats: int, folder: Path, *, threads: int, plain: bool) -> dict[str, Any]:
    rivals = {"python": [sys.executable, str(HERE / "guide.py")]}
    if node := shutil.which("node"):
        rivals["node"] = [node, str(HERE / "guide.mjs")]
    walls: dict[str, list[float]] = {name: [] for name in ("ours", *rivals)}
    spent: dict[str, list[float]] = {name: [] for name in walls}
    parts: list[dict[str, float]] = []
    with fleet(folder) as deployed:
        argv = [sys.executable, str(HERE / "pages.py"), str(rows), str(folder), *(["--plain"] if plain else [])]
        base_url = deployed.ready("pages", argv)["base_url"]
        deployed.place.account(ACCOUNT, feed="feed.csv", base_url=base_url, key="k", extra=NO_LIMIT)
        deployed.nodes(2, threads=threads)
        _, first_seconds = deployed.sync(ACCOUNT)  # fills the ledger, which claims the preexisting listings
        deployed.sync(ACCOUNT)
        for _ in range(repeats):
            seconds, used = ours(deployed, rows)
            walls["ours"].append(seconds)
            spent["ours"].append(sum(used.values()))
            parts.append(used)
            for name, command in rivals.items():
                wall, cpu = guide(command, base_url, folder / "feed.csv", rows)
                walls[name].append(wall)
                spent[name].append(cpu)
        stages = deployed.stages
    return {
        "rows": rows, "repeats": repeats, "machine": machine(), "load": os.getloadavg()[0],
        "first_seconds": first_seconds,
        "wall": {name: median(seconds) for name, seconds in walls.items()},
        "cpu": {name: median(seconds) for name, seconds in spent.items()},
        "walls": walls, "parts": parts[-1], "stages": stages,
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    table = Table("contender", "wall s", "times ours", "CPU s", "µs of CPU a listing")
    names = {
        "ours": "ours: 2 worker processes and Redis",
        "node": "the guide's comparison, one Node.js process",
        "python": "the guide's comparison, one Python process",
    }
    for name in (name for name in names if name in result["wall"]):
        wall, cpu = result["wall"][name], result["cpu"][name]
        each = f"{cpu / result['rows'] * 1e6:.1f}"
        table.add_row(names[name], f"{wall:.2f}", f"{wall / result['wall']['ours']:.2f}", f"{cpu:.2f}", each)
    console = Console(width=120)
    console.print(table)
    console.print(f"{result['rows']:,} unchanged listings, medians of {result['repeats']}; {result['machine']}")
    console.print(f"ours by stage, s: { {name: round(used, 2) for name, used in result['stages'].items()} }")
    console.print(f"ours by process, CPU s: { {name: round(used, 2) for name, used in result['parts'].items()} }")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4, help="of each of our two worker processes")
    parser.add_argument("--plain", action="store_true", help="pages are not gzipped")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        result = measure(options.rows, options.repeats, folder, threads=options.threads, plain=options.plain)
    finally:
        if "OB_KEEP" not in os.environ:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result)) if options.json else show(result)


if __name__ == "__main__":
    main()
