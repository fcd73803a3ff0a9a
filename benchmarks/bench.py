"""The figures of `make bench` as one table: ours, the guide's comparison in Node.js and in Python, and the target.

The table is written into docs/speed.md between its markers, with the command beside each row and the machine below. It
takes more than an hour on two idle cores. `--quick` uses small sizes and only prints the table, to check that the
scripts run.

    python benchmarks/bench.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
BEGIN, END = "<!-- made by make bench: begin -->", "<!-- made by make bench: end -->"

Row = tuple[str, str, str, str, str, str, str]
"""Measured, ours, the guide in Node.js and in Python, the floor, the target, the command."""


ENGINE: list[tuple[Any, ...]] = [
    (100_000, "--python"), (20_000,), (100_000, "--format", "jsonl", "--plain"),
    *((100_000, "--format", "jsonl", "--scenario", name) for name in ("first", "mapping", "changed")),
]  # fmt: skip


def run(script: str, *options: str) -> Any:
    """The result of a benchmark. growth.py writes it to its --out file, the others print it as JSON."""
    print(f"{script} {' '.join(options)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def engine(rows: int, repeats: int, *options: str) -> list[Row]:
    arguments = ["--rows", str(rows), "--repeats", str(repeats), *options]
    results = run("engine.py", *arguments, "--json")["results"]
    return [row for one in results for row in _engine(one, results, f"engine.py {' '.join(arguments)}")]


def _engine(one: dict[str, Any], results: list[dict[str, Any]], command: str) -> list[Row]:
    from benchmarks.engine import TARGET_RATIO, targets  # noqa: PLC0415

    kinds = {"first": "first sync", "mapping": "after a change of the mapping", "changed": "1 % changed"}
    what = f"{one['rows']:,} listings, {kinds.get(one['scenario'], 'unchanged')}, {one['format']}, {one['pages']}"
    walls = [f"{one['wall'][name]:.2f}" if name in one["wall"] else "" for name in ("node", "python")]
    ratio = ""
    if one["scenario"] == "unchanged" and walls[0]:
        ratio = f"<= {TARGET_RATIO} x Node.js; is {one['wall']['ours'] / one['wall']['node']:.2f}"
    cpu = [str(one["cpu_us"].get(name, "")) for name in ("node", "python", "floor")]
    spent = {name: used for name, used in one["process_us"].items() if used >= 0.5}
    return [
        (f"{what}: wall s", f"{one['wall']['ours']:.2f}", *walls, "", ratio, command),
        ("CPU µs a listing", str(one["cpu_us"]["ours"]), *cpu, targets(one, results)[1], command),
        (", ".join(spent), " / ".join(f"{used:.0f}" for used in spent.values()), "", "", "", "", command),
    ]


def growth(sizes: list[int]) -> list[Row]:
    result = run("growth.py", "--rows", *map(str, sizes), "--json")
    command = f"growth.py --rows {' '.join(map(str, sizes))}"

    def each(what: Any) -> str:
        return " / ".join(str(what(one)) for one in result)

    def worker(one: Any) -> int:
        return max(mib for name, mib in one["idle"]["peak_mib"].items() if name.startswith("w"))

    def kept(one: Any) -> int:
        return round(sum(one["redis_bytes_a_listing"].values()))

    def requests(one: Any) -> str:
        return f"{sum(one['first']['requests'].values()) / one['first']['minimum']:.2f}"

    labels = " / ".join(f"{size:,}" for size in sizes)
    rows = (
        (f"µs of CPU a listing, idle full run of {labels}", lambda one: one["idle"]["cpu_us_a_listing"], "flat, 20 %"),
        ("peak MiB of a worker in it", worker, "flat"),
        ("Redis bytes per unchanged listing", kept, "<= 150"),
        ("longest queue, first sync", lambda one: one["first"]["longest_queue"], "bounded"),
        ("requests used / fewest, first sync", requests, "1.00"),
    )
    return [(what, each(answer), "", "", "", target, command) for what, answer, target in rows]


def accounts(count: int, minutes: float, threads: int, *, memory: bool) -> list[Row]:
    options = ["--accounts", str(count), "--threads", str(threads), *(["--memory"] if memory else [])]
    result = run("accounts.py", *options, "--minutes", str(minutes), "--json")
    where, command = "in memory" if memory else "over HTTP", f"accounts.py {' '.join(options)}"
    least, each = f"{result['least_use']:.1%}", f"{count} saturated accounts {where}"
    return [
        (f"{each}: least use of a quota", least, "", "", "", ">= 95 %", command),
        ("fairness (Jain)", str(result["jain"]), "", "", "", ">= 0.99", command),
        ("a push in any of them, p99 s", str(result["push_p99_s"]), "", "", "", "<= 2", command),
        ("CPU ms of all processes per request", str(result["cpu_ms_per_request"]), "", "", "", "", command),
    ]


def nodes(rows: int, repeats: int) -> list[Row]:
    result = run("nodes.py", "--rows", str(rows), "--repeats", str(repeats), "--json")["nodes"]
    gain = result["1"]["compare"] / result["2"]["compare"]
    return [("comparing on 2 nodes, times 1 node", f"{gain:.2f}", "", "", "", ">= 1.7", f"nodes.py --rows {rows}")]


def startup(repeats: int, seconds: float) -> list[Row]:
    result = run("startup.py", "--repeats", str(repeats), "--seconds", str(seconds), "--json")
    starts, idle = {name: min(each) for name, each in result["starts"].items()}, result["idle"]
    rows = (
        ("the command, to its help text, s", f"{starts['okasie --help']:.2f}", "<= 0.3"),
        ("`import okasie_tasks.client`, s", f"{starts['import okasie_tasks.client']:.2f}", "<= 0.1"),
        ("idle fleet: Redis commands a second", str(idle["redis_commands_per_second"]), "small"),
        ("idle fleet: % of a core", f"{sum(idle['cpu_percent'].values()):.1f}", "small"),
    )
    return [(what, found, "", "", "", target, "startup.py") for what, found, target in rows]


def table(rows: list[Row]) -> str:
    heads = ("measured", "ours", "guide, Node.js", "guide, Python", "floor", "target", "`python benchmarks/...`")
    lines = [heads, ("---",) * len(heads), *((*row[:-1], f"`{row[-1]}`") for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    from benchmarks.fleet import machine  # noqa: PLC0415 - this file runs without the package's own imports

    sections: list[Callable[[], list[Row]]] = [
        *(partial(engine, 400 if quick else rows, 1 if quick else 5, *options) for rows, *options in ENGINE),
        lambda: nodes(*((400, 1) if quick else (100_000, 3))),
        lambda: startup(*((1, 2.0) if quick else (9, 30.0))),
        lambda: growth([400] if quick else [10_000, 100_000]),
        *([] if quick else [lambda: accounts(40, 2.0, 32, memory=False), lambda: accounts(200, 2.0, 110, memory=True)]),
    ]
    when = time.strftime("%Y-%m-%d", time.gmtime())
    rows: list[Row] = []
    for section in sections:
        rows += section()
        made = f"{table(rows)}\n\n{machine()}; {when}."
        if not quick:  # after each: the next may take its time
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
            PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
