"""Start-up and idling: how long a command or an import takes, and the load of an idle fleet.

The fastest of several starts is shown besides the median: on a busy machine it is closest to the time of the start
itself. The idle fleet is that of `okasie up`: four workers, Beat, Redis; no Flower.

    python benchmarks/startup.py [--repeats 9] [--seconds 30] [--json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import fleet, machine, median
from okasie_tasks.local.fleet import WORKERS
from tests.support import OKASIE, poll

IMPORT = "import time; a = time.perf_counter(); import okasie_tasks.client; print(time.perf_counter() - a)"


def starts(repeats: int) -> dict[str, list[float]]:
    result: dict[str, list[float]] = {"okasie --help": [], "python -c pass": [], "import okasie_tasks.client": []}
    for _ in range(repeats):
        for name, argv in (("okasie --help", [*OKASIE, "--help"]), ("python -c pass", [sys.executable, "-c", "pass"])):
            began = time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True)
            result[name].append(time.perf_counter() - began)
        done = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True)
        result["import okasie_tasks.client"].append(float(done.stdout))
    return result


def idle(folder: Path, seconds: float) -> dict[str, Any]:
    with fleet(folder) as deployed:
        deployed.place.account("dex", feed="feed.csv", base_url="http://127.0.0.1:9", key="k")
        for name, options in WORKERS.items():
            deployed.worker(name, *options)
        env = {**deployed.place.env, "OKASIE_CONFIG": str(deployed.place.config)}
        deployed.child("beat", [sys.executable, "-m", "celery", "-A", "okasie_tasks", "beat", "-l", "WARNING"], env)
        poll(lambda: deployed.place.okasie("status").status == 0, seconds=120, what="a consumer everywhere")
        time.sleep(5)
        before, spent, began = commands(deployed.client), deployed.spent(), time.perf_counter()
        time.sleep(seconds)
        after, used, lasted = commands(deployed.client), deployed.spent(), time.perf_counter() - began
        return {
            "redis_commands_per_second": round((sum(after.values()) - sum(before.values())) / lasted, 1),
            "commands": {
                n: round((after[n] - before.get(n, 0)) / lasted, 2) for n in after if after[n] > before.get(n, 0)
            },
            "cpu_percent": {n: round((used[n] - spent[n]) / lasted * 100, 2) for n in spent},
            "resident_mib": {n: round(size / 2**20) for n, size in deployed.memory().items()},
        }


def commands(client: Any) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in client.info("commandstats").items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the fleet is left idle")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        result = {"machine": machine(), "starts": starts(options.repeats), "idle": idle(folder, options.seconds)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
        return
    console, table = Console(width=120), Table("start", "median s", "fastest s")
    for name, seconds in result["starts"].items():
        table.add_row(name, f"{median(seconds):.3f}", f"{min(seconds):.3f}")
    console.print(table)
    console.print("idle fleet:", result["idle"])
    console.print(result["machine"])


if __name__ == "__main__":
    main()
