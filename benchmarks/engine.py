"""The engine against the program that a user would write instead: comparing an inventory of wide rows.

Ours is what users get: ``okasie up`` with all its processes, and a full run. Only the limiter allows everything. The
rivals are one Node.js process, and with ``--python`` one Python process, that do the guide's full comparison. The
floor is the least work that sees every listing of both sides (`floor`). All read the same feed and pages. Each repeat
runs all of them in sequence, so that noise affects all alike. CPU is that of all processes of a contender, Redis
included, without the start of a program and without the server of the pages.

    python benchmarks/engine.py [--rows 100000] [--repeats 5] [--scenario unchanged] [--format csv jsonl]
                                [--gzip] [--plain] [--python] [--json]

Scenarios: ``unchanged``; ``first``, a first sync into an empty marketplace; ``mapping``, an entry more in the mapping's
tables, after which the contents are the same; ``changed``, 1 % of the prices, with an unchanged run before each. Pages
are gzipped, as the HTTP clients of all contenders negotiate it, unless ``--plain`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock
from benchmarks.fleet import Default, machine, median, work_folder

HERE = Path(__file__).parent
SCENARIOS = ("unchanged", "first", "mapping", "changed")
TARGET_US = {"unchanged": 40, "first": 300, "mapping": 150}
TARGET_RATIO, TARGET_CHANGED = 0.5, 1.2
_GEARBOX = 'Manueel = "manual"'


class Case(NamedTuple):
    """One feed and one account, or in a first sync one account for each repeat."""

    form: str
    pages: str

    @property
    def name(self) -> str:
        return f"{self.form}_{self.pages}"

    @property
    def feed(self) -> str:
        return f"{self.name}.{self.form}"


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.rows, self.scenario, self.folder = options.rows, options.scenario, folder
        encodings = [name for name in ("gzip", "plain") if getattr(options, name)] or ["gzip"]
        self.cases = [Case(form, pages) for form in options.format for pages in encodings]
        self.deployed = Default(folder)
        self.base_url = self.deployed.pages(self.rows)
        self.rivals = {"floor": [sys.executable, str(HERE / "floor.py")]}
        if node := shutil.which("node"):
            self.rivals["node"] = [node, str(HERE / "guide.mjs")]
        if options.python:
            self.rivals["python"] = [sys.executable, str(HERE / "guide.py")]
        self.known = stock.kinds(folder)
        self.found: dict[tuple[str, Case], list[dict[str, Any]]] = defaultdict(list)
        """By the kind of the run and the case: what each repeat measured."""
        for case in self.cases:
            stock.write_feed(folder / case.feed, self.known, self.rows)
            names = self.first(case, options.repeats) if self.scenario == "first" else [case.name]
            for name in names:
                key = f"empty-{name}" if self.scenario == "first" else name
                url = f"{self.base_url}/{case.pages}"
                self.deployed.account(name, feed=case.feed, base_url=url, key=key)

    @staticmethod
    def first(case: Case, repeats: int) -> list[str]:
        return [f"{case.name}_{repeat}" for repeat in range(repeats)]

    def run(self, repeats: int) -> None:
        with self.deployed:
            if self.scenario != "first":
                for case in self.cases:
                    self.deployed.sync(case.name)  # fills the ledger, which claims the preexisting listings
                    self.deployed.sync(case.name)
            for repeat in range(repeats):
                if self.scenario == "mapping":
                    self._map(repeat)
                for case in self.cases:
                    getattr(self, f"_{self.scenario}")(case, repeat)

    def _map(self, repeat: int) -> None:
        config = self.deployed.place.config
        config.write_text(config.read_text().replace(_GEARBOX, f'{_GEARBOX}, Handgeschakeld{repeat} = "manual"'))
        self.deployed.reload()

    def _unchanged(self, case: Case, _: int) -> None:
        self._all("unchanged", case, {"unchanged": self.rows}, {"same": self.rows})

    def _mapping(self, case: Case, _: int) -> None:
        self._all("mapping", case, {"unchanged": self.rows}, {"same": self.rows})

    def _changed(self, case: Case, repeat: int) -> None:
        self._unchanged(case, repeat)
        moved = [number for number in range(1, self.rows + 1) if number % 100 == repeat]

        def price(number: int) -> int:
            return stock.price(number) + (50 if number % 100 <= repeat else 0)

        stock.write_feed(self.folder / case.feed, self.known, self.rows, price)
        same = self.rows - len(moved)
        self._all("changed", case, {"unchanged": same}, {"same": same, "update": len(moved)})

    def _first(self, case: Case, repeat: int) -> None:
        name = self.first(case, repeat + 1)[-1]
        self._ours("first", case, name, {"unchanged": 0})
        guide = self.rivals.get("node", [sys.executable, str(HERE / "guide.py")])
        self._rival(guide, case, f"empty-{name}", {"same": self.rows})  # what was written is what the feed says

    def _all(self, kind: str, case: Case, ours: Mapping[str, int], guide: Mapping[str, int]) -> None:
        rivals = {
            name: self._rival(command, case, case.name, {"same": self.rows} if name == "floor" else guide)
            for name, command in self.rivals.items()
        }
        self._ours(kind, case, case.name, ours, rivals)

    def _ours(
        self, kind: str, case: Case, account: str, expected: Mapping[str, int], rivals: Mapping[str, Any] | None = None
    ) -> None:
        self.deployed.settle()
        before = self.deployed.spent()
        run, seconds = self.deployed.sync(account)
        self.deployed.settle()
        after = self.deployed.spent()
        listings = json.loads(run.facts["listings"])
        assert {name: listings.get(name, 0) for name in expected} == dict(expected), (listings, expected)
        parts = {name: used - before.get(name, 0.0) for name, used in after.items()}
        ours = {"seconds": seconds, "cpu": sum(parts.values()), "parts": parts, "stages": self.deployed.stages}
        self.found[kind, case].append({"ours": ours, **(rivals or {})})

    def _rival(self, command: list[str], case: Case, key: str, expected: Mapping[str, int]) -> dict[str, Any]:
        argv = [*command, f"{self.base_url}/{case.pages}", str(self.folder / case.feed), key]
        result: dict[str, Any] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
        nothing = dict.fromkeys(name for name in ("create", "update", "gone") if name in result)
        wanted = {name: expected.get(name, 0) for name in ("same", *nothing)}
        assert {name: result[name] for name in wanted} == wanted, (command, result, expected)
        return result

    def result(self) -> list[dict[str, Any]]:
        return [self._summary(kind, case, found) for (kind, case), found in self.found.items()]

    def _summary(self, kind: str, case: Case, found: list[dict[str, Any]]) -> dict[str, Any]:
        def of(name: str, what: str) -> float:
            return median([one[name][what] for one in found])

        def each(name: str, what: str, per: float) -> dict[str, float]:
            names = dict.fromkeys(part for one in found for part in one[name][what])
            return {part: round(median([one[name][what].get(part, 0.0) for one in found]) * per, 2) for part in names}

        an_us = 1e6 / self.rows
        summary = {
            "scenario": kind, "format": case.form, "pages": case.pages, "rows": self.rows,
            "wall": {name: of(name, "seconds") for name in found[0]},
            "cpu_us": {name: round(of(name, "cpu") * an_us, 1) for name in found[0]},
            "process_us": each("ours", "parts", an_us), "stages_s": each("ours", "stages", 1),
            "walls": {name: [one[name]["seconds"] for one in found] for name in found[0]},
        }  # fmt: skip
        if "floor" in found[0]:
            summary["floor_us"] = each("floor", "parts", an_us)
        return summary


def targets(result: dict[str, Any], results: list[dict[str, Any]]) -> tuple[str, str]:
    """Of the wall time and of the CPU, with what was reached beside them."""
    kind, wall = result["scenario"], ""
    if kind == "unchanged" and "node" in result["wall"]:
        wall = f"{result['wall']['ours'] / result['wall']['node']:.2f} x Node (<= {TARGET_RATIO})"
    if kind != "changed":
        return wall, f"{result['cpu_us']['ours']} (<= {TARGET_US[kind]})"
    calm = next(one for one in results if one["scenario"] == "unchanged" and one["format"] == result["format"]
                and one["pages"] == result["pages"])  # fmt: skip
    times = result["cpu_us"]["ours"] / calm["cpu_us"]["ours"]
    return wall, f"{result['cpu_us']['ours']} = {times:.2f} x unchanged (<= {TARGET_CHANGED})"


def show(results: list[dict[str, Any]], repeats: int) -> None:
    heads = ("run", "feed", "pages", "ours, s", "Node, s", "ratio", "ours, CPU µs a listing", "Node", "floor")
    table = Table(*heads)
    for result in results:
        ratio, cpu = targets(result, results)
        walls = [f"{result['wall'][name]:.2f}" if name in result["wall"] else "" for name in ("ours", "node")]
        rivals = [str(result["cpu_us"].get(name, "")) for name in ("node", "floor")]
        table.add_row(result["scenario"], result["format"], result["pages"], *walls, ratio, cpu, *rivals)
    console = Console(width=140)
    console.print(table)
    for result in results:
        console.print(f"{result['scenario']}, {result['format']}, {result['pages']}:")
        console.print(f"  µs of CPU a listing by process: {result['process_us']}")
        console.print(f"  s by stage: {result['stages_s']}")
        if "floor_us" in result:
            beyond = result["cpu_us"]["ours"] - result["cpu_us"]["floor"]
            console.print(f"  the floor, µs a listing: {result['floor_us']}; ours beyond it: {beyond:.1f}")
        if "python" in result["wall"]:
            console.print(f"  Python: {result['wall']['python']:.2f} s, {result['cpu_us']['python']} µs a listing")
    console.print(f"{results[0]['rows']:,} listings, medians of {repeats}; {machine()}; load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scenario", choices=SCENARIOS, default="unchanged")
    parser.add_argument("--format", nargs="+", choices=stock.FORMATS, default=[*stock.FORMATS])
    parser.add_argument("--gzip", action="store_true", help="gzipped pages, the default")
    parser.add_argument("--plain", action="store_true", help="pages that are not gzipped")
    parser.add_argument("--python", action="store_true", help="the guide's comparison as a Python program, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with work_folder() as folder:
        bench = Bench(options, folder)
        bench.run(options.repeats)
        results = bench.result()
    if options.json:
        print(json.dumps({"results": results, "machine": machine(), "load": os.getloadavg()[0]}))
    else:
        show(results, options.repeats)


if __name__ == "__main__":
    main()
