"""The figures of `make bench` as one table: ours, those of the guide's program, the floor, and the target.

It runs the benchmarks of the engine with small sizes, in about six minutes on two quiet cores, and prints the table.
With `--full` they have the sizes of the targets, which takes some hours; the table is then written into docs/speed.md
between its markers, with the command beside each row and the machine below. Below each figure of CPU is what uses it.

    python benchmarks/bench.py [--full]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"

ENGINE: list[tuple[str, ...]] = [
    ("--rows", "20000", "--repeats", "3"),
    *(("--rows", "5000", "--repeats", "1", "--format", "jsonl", "--scenario", name) for name in ("first", "mapping")),
    ("--rows", "20000", "--repeats", "1", "--format", "jsonl", "--scenario", "changed"),
]
ENGINE_FULL: list[tuple[str, ...]] = [
    ("--rows", "100000", "--python"), ("--rows", "20000"), ("--rows", "100000", "--format", "jsonl", "--plain"),
    *(("--rows", "100000", "--format", "jsonl", "--scenario", name) for name in ("first", "mapping", "changed")),
]  # fmt: skip


class Row(NamedTuple):
    command: str
    measured: str
    ours: str
    target: str = ""
    node: str = ""
    python: str = ""
    floor: str = ""

    def cells(self) -> tuple[str, ...]:
        return self.measured, self.ours, self.node, self.python, self.floor, self.target, f"`{self.command}`"


def run(script: str, *options: str) -> tuple[str, Any]:
    """The command as the table shows it, and the result of the benchmark."""
    command = " ".join((script, *options))
    print(command, file=sys.stderr, flush=True)
    argv = [sys.executable, str(HERE / script), *options, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr[-2000:]}")
    return command, json.loads(done.stdout.splitlines()[-1])


def spent(command: str, parts: Mapping[str, float], least: float) -> Row:
    """What uses the CPU of the row above, by process."""
    used = {name: value for name, value in parts.items() if value >= least}
    return Row(command, f"of it: {', '.join(used)}", " / ".join(f"{value:g}" for value in used.values()))


def engine(*options: str) -> list[Row]:
    command, found = run("engine.py", *options)
    return [row for one in found["results"] for row in _engine(command, one, found["results"])]


def _engine(command: str, one: dict[str, Any], results: list[dict[str, Any]]) -> list[Row]:
    from benchmarks.engine import targets  # noqa: PLC0415

    kinds = {"first": "first sync", "mapping": "after a change of the mapping", "changed": "1 % changed"}
    what = f"{one['rows']:,} listings, {kinds.get(one['scenario'], 'unchanged')}, {one['format']}, {one['pages']}"
    rivals, (ratio, cpu) = ("node", "python", "floor"), targets(one, results)
    walls = {name: f"{one['wall'][name]:.2f}" for name in rivals if name in one["wall"]}
    times = {name: str(one["cpu_us"][name]) for name in rivals if name in one["cpu_us"]}
    return [
        Row(command, f"{what}: wall s", f"{one['wall']['ours']:.2f}", ratio, **walls),
        Row(command, "CPU µs a listing", str(one["cpu_us"]["ours"]), cpu, **times),
        spent(command, one["process_us"], 0.5),
    ]


def growth(*sizes: int) -> list[Row]:
    command, found = run("growth.py", "--rows", *map(str, sizes))

    def row(what: str, each: Callable[[Any], Any], target: str) -> Row:
        return Row(command, what, " / ".join(str(each(one)) for one in found), target)

    def kept(one: Any) -> int:
        return round(sum(one["redis_bytes_a_listing"].values()))

    def requests(one: Any) -> str:
        return f"{sum(one['first']['requests'].values()) / one['first']['minimum']:.2f}"

    labels = " / ".join(f"{size:,}" for size in sizes)
    return [
        row(
            f"µs of CPU a listing, nothing changed, {labels}", lambda one: one["idle"]["cpu_us_a_listing"], "flat, 20 %"
        ),
        row("peak MiB of a worker in it", lambda one: one["worker_mib"], "<= 200"),
        row("Redis bytes per unchanged listing", kept, "<= 150"),
        row("longest queue, first sync", lambda one: one["first"]["longest_queue"], "bounded"),
        row("requests used / fewest, first sync", requests, "1.00"),
    ]


def accounts(*options: str) -> list[Row]:
    command, found = run("accounts.py", *options)
    one, rows = found["results"][0], []
    if "--find" in options:
        carried = max((each["accounts"] for each in found["results"] if each["least_use"] >= 0.95), default=0)
        rows = [Row(command, "saturated accounts of which each uses 95 % of its quota", str(carried))]
    return [
        *rows,
        Row(
            command, f"{one['accounts']} saturated accounts: least use of a quota", f"{one['least_use']:.1%}", ">= 95 %"
        ),
        Row(command, "fairness (Jain)", str(one["jain"]), ">= 0.99"),
        Row(command, "a push in any of them, to its outcome, p99 s", str(one["push_p99_s"]), "<= 1"),
        Row(command, "CPU ms of all processes per request", str(one["cpu_ms_per_request"]), floor=str(one["floor_ms"])),
        spent(command, one["process_ms"], 0.05),
    ]


def nodes(*options: str) -> list[Row]:
    command, found = run("nodes.py", *options)
    one, two = (found["nodes"][count] for count in "12")
    cpu = f"{one['cpu_us']:.1f} / {two['cpu_us']:.1f}"
    return [
        Row(command, "walking and comparing on 2 cores, times 1 core", str(found["speed_up"]), ">= 1.7"),
        Row(command, "CPU µs a listing, one node / two nodes", cpu, f"{found['cpu_ratio']} x (<= 1.15)"),
    ]


def startup(repeats: int, seconds: float) -> list[Row]:
    command, found = run("startup.py", "--repeats", str(repeats), "--seconds", str(seconds))
    starts, idle = {name: min(each) for name, each in found["starts"].items()}, found["idle"]
    return [
        Row(command, "the command, to its help text, s", f"{starts['okasie --help']:.2f}", "<= 0.3"),
        Row(command, "`import okasie_tasks.client`, s", f"{starts['import okasie_tasks.client']:.2f}", "<= 0.1"),
        Row(command, "idle fleet: Redis commands a second", str(idle["redis_commands_per_second"]), "small"),
        Row(command, "idle fleet: % of a core", f"{sum(idle['cpu_percent'].values()):.1f}", "small"),
    ]


def table(rows: list[Row]) -> str:
    heads = ("measured", "ours", "guide, Node.js", "guide, Python", "floor", "target", "`python benchmarks/...`")
    lines = [heads, ("---",) * len(heads), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


QUICK: list[Callable[[], list[Row]]] = [
    *(partial(engine, *options) for options in ENGINE),
    partial(nodes, "--rows", "20000", "--repeats", "1"),
    partial(startup, 3, 5.0),
    partial(accounts, "--minutes", "1", "--warm", "15"),
]
FULL: list[Callable[[], list[Row]]] = [
    *(partial(engine, *options) for options in ENGINE_FULL),
    partial(nodes, "--rows", "100000"),
    partial(startup, 9, 30.0),
    partial(growth, 10_000, 100_000, 1_000_000),
    partial(accounts, "--find"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    from benchmarks.fleet import machine  # noqa: PLC0415 - this file runs without the package's own imports

    when = time.strftime("%Y-%m-%d", time.gmtime())
    rows: list[Row] = []
    for section in FULL if full else QUICK:
        rows += section()
        made = f"{table(rows)}\n\n{machine()}; {when}."
        if full:  # after each: the next may take its time
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
            PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
