"""``make matrix``: the demo and a choice of tests on what this machine has. Writes docs/supported-versions.md.

Each Python with the pinned dependencies; the oldest and the newest Python with the oldest and the newest dependencies
that pyproject.toml allows; each server with the oldest Python. Environments and servers stay in ``.matrix/``.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix.cells import NOT_INSTALLED, ROOT, TESTS, Cell, Outcome, environment, run, versions
from tests.matrix.machine import PYTHONS, SERVERS, pythons, servers

PAGE = ROOT / "docs" / "supported-versions.md"
SHOWN = ("celery", "kombu", "redis", "pydantic", "tornado")
"""The libraries whose versions the page names."""


def cells(work: Path) -> Iterator[Cell]:
    """All cells, without one twice."""
    have, running = pythons(), servers(work)
    if not have or not running:
        raise SystemExit("no supported Python, or no server, on this machine")
    newest = running[-1]
    both = dict.fromkeys((have[0], have[-1]))
    chosen = [Cell(have[0], "pinned", server) for server in running]
    chosen += [Cell(python, "pinned", newest) for python in have]
    chosen += [Cell(python, which, newest) for which in ("oldest", "newest") for python in both]
    yield from dict.fromkeys(chosen)


def page(done: dict[Cell, Outcome], work: Path) -> str:
    """The page, from what was run."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    lines = [
        "# Supported versions", "",
        "Python 3.11 to 3.14, Redis 6.2 to 8, Valkey 7.2 to 9, and the versions of dependencies that `pyproject.toml` allows.",
        f"`make matrix` runs `okasie demo` and {len(TESTS)} files of tests on every combination below that a machine has, and",
        "writes this page. The whole test suite runs with the pinned dependencies (`constraints.txt`), Python 3.11 and the bundled Valkey.",
        "", f"Run on {today}:", "",
        "| Python | dependencies | server | `okasie demo` | tests |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for cell, outcome in done.items():
        server = f"{cell.server.name.split()[0]} {cell.server.version}"
        lines.append(f"| {cell.python.version} | {cell.dependencies} | {server} | {outcome.demo} | {outcome.tests} |")
    lines += ["", "Not on that machine, so not run: " + ", ".join(_not_run(done)) + ".", ""]
    lines += [f"| dependencies | {' | '.join(SHOWN)} |", "|---|" + "---|" * len(SHOWN)]
    installed = [cell for cell, outcome in done.items() if outcome.demo != NOT_INSTALLED]
    for which in dict.fromkeys(cell.dependencies for cell in installed):
        python = next(cell.python for cell in installed if cell.dependencies == which)
        found = versions(environment(work, python, which), SHOWN)
        lines.append(f"| {which} | {' | '.join(found[name] for name in SHOWN)} |")
    return "\n".join(lines) + "\n"


def _not_run(done: dict[Cell, Outcome]) -> list[str]:
    had = {".".join(cell.python.version.split(".")[:2]) for cell in done}
    ran = {cell.server.name for cell in done}
    return [f"Python {short}" for short in PYTHONS if short not in had] + [s for s in SERVERS if s not in ran]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--list", action="store_true", help="only list the cells")
    parser.add_argument("--only", default="", help="only cells whose title contains this text; the page is not written")
    parser.add_argument("--jobs", type=int, default=1, help="so many cells at a time")
    options = parser.parse_args()
    work = ROOT / ".matrix"
    work.mkdir(exist_ok=True)
    chosen = [cell for cell in cells(work) if options.only in cell.title]
    if options.list:
        print(*(cell.title for cell in chosen), sep="\n")
        return
    done: dict[Cell, Outcome] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for cell, outcome in zip(chosen, pool.map(lambda cell: run(cell, work), chosen), strict=True):
            done[cell] = outcome
            print(f"{cell.title}: demo {outcome.demo}, tests {outcome.tests}", flush=True)
            if not options.only:
                PAGE.write_text(page(done, work), encoding="utf-8")
    raise SystemExit(any(not outcome.good for outcome in done.values()))


if __name__ == "__main__":
    main()
