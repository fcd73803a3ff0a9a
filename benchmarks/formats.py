"""Memory and speed of reading a feed of each format, beside the plain parser of a library.

Each feed is read in a process of its own: into the blocks of a run, and by the plain parser alone. The peak is the
resident memory of that process. A million rows of XML take about 2 GB of disk, in the folder for temporary files.

    python benchmarks/formats.py [--rows 100000] [--kinds csv,jsonl,json,xml,xlsx]
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import iterparse

import openpyxl
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

OPTIONS = {
    "csv": 'delimiter = ";"', "jsonl": "", "json": 'items = "stock.vehicles"', "xml": 'items = "stock/vehicle"',
    "xlsx": "",
}  # fmt: skip


def row(number: int) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "stock_no": f"A-{number}",
        "make": "Skoda",
        "model": "Octavia",
        "price": 9_000 + number % 9_000,
    }
    cells |= {"km": 50_000 + number, "year": 2020, "notes": f"Mooie wagen {number} met veel opties. " * 8}
    return cells | {f"option{index}": f"Uitrusting {index} van deze wagen" for index in range(20)}


def write(kind: str, path: Path, count: int) -> None:
    if kind == "xlsx":
        write_workbook(path, count)
        return
    with path.open("w", encoding="utf-8") as file:
        if kind == "csv":
            file.write(";".join(row(0)) + "\n")
            file.writelines(";".join(map(str, row(number).values())) + "\n" for number in range(count))
        elif kind == "jsonl":
            file.writelines(json.dumps(row(number)) + "\n" for number in range(count))
        elif kind == "json":
            file.write('{"stock": {"vehicles": [')
            file.writelines(("," if number else "") + json.dumps(row(number)) for number in range(count))
            file.write("]}}")
        else:
            file.write('<?xml version="1.0"?>\n<stock>\n')
            file.writelines(f"<vehicle>{''.join(elements(row(number)))}</vehicle>\n" for number in range(count))
            file.write("</stock>\n")


def elements(cells: dict[str, Any]) -> Iterator[str]:
    return (f"<{name}>{cell}</{name}>" for name, cell in cells.items())


def write_workbook(path: Path, count: int) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Stock")
    sheet.append(list(row(0)))
    for number in range(count):
        sheet.append(list(row(number).values()))
    book.save(path)


def plain(kind: str, path: Path) -> int:
    """Read all rows with a library's parser alone. A JSON document is held in memory for that."""
    if kind == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.reader(file, delimiter=";")) - 1
    if kind == "jsonl":
        with path.open("rb") as lines:
            return sum(1 for line in lines if json.loads(line))
    if kind == "json":
        return len(json.loads(path.read_bytes())["stock"]["vehicles"])
    if kind == "xml":
        count = 0
        for _, element in iterparse(path):
            if element.tag == "vehicle":
                count += 1
                element.clear()
        return count
    sheet = openpyxl.load_workbook(path, read_only=True).worksheets[0]
    return sum(1 for _ in sheet.iter_rows(values_only=True)) - 1


def blocks(kind: str, path: Path) -> int:
    config = path.with_suffix(".toml")
    config.write_text(
        f'[accounts.dex]\napi_key = "env:NONE"\n[accounts.dex.source]\ntype = "{kind}"\nurl = "{path.name}"\n'
        f'reference = "stock_no"\nread_seconds = 280\nmax_mb = 100000\n{OPTIONS[kind]}\n'
    )
    account = load_settings(config).accounts["dex"]
    return sum(block.rows for block in open_source(account, cache_dir=path.parent, current_year=2026).blocks())


def measured(read: Callable[[str, Path], int], kind: str, path: Path) -> tuple[int, float, float]:
    """Return rows, seconds of the processor, and the peak in MiB."""
    began = time.process_time()
    count = read(kind, path)
    return count, time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--kinds", default=",".join(OPTIONS))
    given = arguments.parse_args()
    table = Table("format", "rows", "MB", "read: rows/s", "peak MiB", "parser alone: rows/s", "peak MiB")
    for kind in given.kinds.split(","):
        with (
            tempfile.TemporaryDirectory() as folder,
            multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
        ):
            path = Path(folder) / f"stock.{kind}"
            pool.apply(write, (kind, path, given.rows))
            results = [pool.apply(measured, (read, kind, path)) for read in (blocks, plain)]
            assert all(count == given.rows for count, _, _ in results), "a benchmark of something else"
            numbers = [text for count, spent, peak in results for text in (f"{count / spent:,.0f}", f"{peak:.0f}")]
            table.add_row(kind, f"{given.rows:,}", f"{path.stat().st_size / 1e6:,.0f}", *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
