"""The processor time of workers with and without traces, on the same work in one run of this script.

Fleets of two workers take turns: without traces, with them, and with a span for each Redis command. A turn is a full
run in which every listing has a new price, and pushes. There is no quota, so the workers do nothing but work. Each
exports to a collector that only reads what it gets.

    python benchmarks/traces.py [--rows 5000] [--pushes 200] [--turns 5] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import NO_LIMIT, Fleet, fleet, machine, median
from okasie_tasks.client import Client
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.urgent_queue import Pushes
from tests.otlp import Receiver
from tests.support import poll

KINDS = ("off", "on", "redis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--pushes", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rows, options.pushes, options.turns)
    if options.json:
        print(json.dumps(result))
        return
    print(machine())
    for kind, one in result.items():
        print(f"{kind:6} {one['cpu_s']:6.2f} CPU s a turn, {one['more_percent']:+5.1f} %, {one['spans']:.0f} spans")


def measure(rows: int, pushes: int, turns: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        deployed, receivers = {}, {}
        for kind in KINDS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ob-")))
            receivers[kind] = stack.enter_context(Receiver())
            sandbox = stack.enter_context(Sandbox([Key("k", "dex")], limit=0, burst_per_second=100_000))
            deployed[kind] = stack.enter_context(fleet(folder))
            place = deployed[kind].place
            place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="k", extra=NO_LIMIT)
            place.env["OKASIE_ACCOUNTS__DEX__GUARD__MAX_CHANGED_PERCENT"] = "100"
            if kind != "off":
                place.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receivers[kind].url
            if kind == "redis":
                place.env["OKASIE_TRACE_REDIS"] = "1"
            deployed[kind].nodes(2)
        spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for turn in range(-1, turns):  # the first turn warms up
            for kind in KINDS[turn % 3 :] + KINDS[: turn % 3]:
                seconds = _turn(deployed[kind], rows, pushes, turn)
                if turn >= 0:
                    spent[kind].append(seconds)
        pairs = {kind: [own / off - 1 for own, off in zip(spent[kind], spent["off"], strict=True)] for kind in KINDS}
        return {
            kind: {
                "cpu_s": round(median(spent[kind]), 3),
                "more_percent": round(100 * median(pairs[kind]), 1),
                "more_percent_each_turn": [round(100 * more, 1) for more in pairs[kind]],
                "spans": len(receivers[kind].spans) / (turns + 1),
            }
            for kind in KINDS
        }


def _turn(deployed: Fleet, rows: int, pushes: int, turn: int) -> float:
    """The CPU seconds of all workers for one run and the pushes after it."""
    stock = cars(rows, seed=1)
    for row in stock:
        row["price_eur"] = str(int(row["price_eur"]) + turn + 1)
    write_csv(deployed.place.folder / "feed.csv", stock)
    before = _workers(deployed)
    deployed.sync("dex")
    client, records = Client(deployed.server.url), Pushes(deployed.client, prefix="okasie:")
    sent = [client.push("dex", [row["stock_no"]]) for row in stock[:pushes]]
    poll(lambda: all(records.get(push).outcomes for push in sent), what="the outcomes")
    return _workers(deployed) - before


def _workers(deployed: Fleet) -> float:
    return sum(seconds for name, seconds in deployed.spent().items() if name.startswith("w"))


if __name__ == "__main__":
    main()
