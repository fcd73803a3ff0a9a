"""A copy of the tree with a piece taken away: what a check of the tests themselves works on."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]


class Cut(NamedTuple):
    """In this file, what stands there once, and what stands there then."""

    file: str
    old: str
    new: str


def mutated(folder: Path, cuts: Sequence[Cut]) -> str:
    """Copy the tree, take away what the cuts say; returns what could not be found, or ""."""
    named = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, named.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for cut in cuts:
        text = (folder / cut.file).read_text(encoding="utf-8")
        if text.count(cut.old) != 1:
            return f"{cut.file} does not hold {cut.old!r} once"
        (folder / cut.file).write_text(text.replace(cut.old, cut.new), encoding="utf-8")
    return ""


def play(folder: Path, *module: str, seconds: float = 1200, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a module there."""
    env = {**os.environ, "PYTHONPATH": str(folder), **environ}
    argv = [sys.executable, "-m", *module]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=seconds, check=False)


def failing(folder: Path, *tests: str, **environ: str) -> list[str]:
    """The tests that fail there, slow ones included. Raises when there is none to run: that is no verdict."""
    said = play(folder, "pytest", "-q", "-p", "no:cacheprovider", "-m", "", *tests, **environ)
    if said.returncode not in (0, 1, 2):  # 2: a module that cannot be imported
        raise RuntimeError(
            f"pytest {' '.join(tests)} ended with {said.returncode}: {said.stdout[-400:]}{said.stderr[-400:]}"
        )
    return re.findall(r"^(?:FAILED|ERROR) \S*::(\S+)", said.stdout, re.MULTILINE)


def each(description: str | None, cuts: Mapping[str, Sequence[Cut]]) -> Iterator[tuple[str, Path | None]]:
    """Those named on the command line, or all: name, and a copy of the tree without it, which lasts until the next.

    None where the code has moved on and there is nothing left to take away; that is told.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(cuts))
    for name in parser.parse_args().names or cuts:
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            if lost := mutated(Path(folder), cuts[name]):
                print(f"{name}: {lost}", flush=True)
            yield name, None if lost else Path(folder)
