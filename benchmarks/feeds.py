"""Reading feeds of every format: memory of the worker that reads, of one that decodes, and rows a second.

For each format a feed is written, read by one process and decoded by another, as the workers of a run do it, with the
blocks in a real Redis between them. A third process parses the same feed with the plain library and nothing else. Each
peak is the resident memory of its process at its end.

    python benchmarks/feeds.py [--rows 1000000] [--formats csv jsonl xml json xlsx] [--text 1500] [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import iterparse
from xml.sax.saxutils import escape

import msgspec
import openpyxl
import redis
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import machine
from okasie_tasks.core.compression import compress, decompress
from okasie_tasks.local.embedded_redis import find_server
from okasie_tasks.ports import Block, Source
from okasie_tasks.sandbox.sample import COLUMNS, cars
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

SMALL: Final = {"xlsx": 5, "json": 5}
"""Formats with a fifth of the rows: the limit of a sheet is about a million rows, and JSON lines are for more."""
_AT_ONCE: Final = 20_000
_KEY: Final = "blocks"
_OPTIONS: Final = {
    "csv": 'delimiter = ";"',
    "xml": 'items = "stock/vehicle"',
    "json": 'items = "stock.vehicles"',
}
CONFIG: Final = """\
[accounts.dex]
api_key = "env:K"
[accounts.dex.source]
type = "{kind}"
url = "{url}"
reference = "stock_no"
max_mb = 10000
read_seconds = 280
{options}
[accounts.dex.source.fields]
title = "{{make}} {{model}} {{year}}"
brand = "make"
price = "price_eur"
description = "remarks"
[accounts.dex.source.defaults]
status = "active"
mileage = 10
postalCode = "9000"
city = "Gent"
province = "Oost-Vlaanderen"
dealerLocationCode = "GENT"
"""


# -- feeds ---------------------------------------------------------------------------------------------------------


def stock(rows: int, text: int) -> Iterator[dict[str, Any]]:
    """Yield cars with a description of ``text`` characters."""
    words = "Onderhoudsboekje aanwezig, twee sleutels, nieuwe banden, keuring in orde. "
    for first in range(1, rows + 1, _AT_ONCE):
        for car in cars(min(_AT_ONCE, rows + 1 - first), seed=1, first=first):
            yield car | {"remarks": f"{car['stock_no']}: {words * (text // len(words) + 1)}"[:text]}


def write(kind: str, path: Path, rows: int, text: int) -> None:
    columns = [*COLUMNS, "remarks"]
    if kind == "xlsx":
        write_xlsx(path, rows, text, columns)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, columns, delimiter=";")
            writer.writeheader()
            writer.writerows(stock(rows, text))
        elif kind == "jsonl":
            file.writelines(f"{json.dumps(car)}\n" for car in stock(rows, text))
        elif kind == "json":
            file.write('{"stock": {"vehicles": [')
            for number, car in enumerate(stock(rows, text)):
                file.write(f"{',' if number else ''}\n{json.dumps(car)}")
            file.write("]}}")
        else:
            file.write("<stock>\n")
            file.writelines(f"<vehicle>{''.join(map(element, car.items()))}</vehicle>\n" for car in stock(rows, text))
            file.write("</stock>\n")


def element(item: tuple[str, Any]) -> str:
    name, value = item
    return f"<{name}>{escape(str(value))}</{name}>"


def write_xlsx(path: Path, rows: int, text: int, columns: Sequence[str]) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Stock")
    sheet.append(list(columns))
    for car in stock(rows, text):
        sheet.append([car[name] for name in columns])
    book.save(path)


# -- the processes -------------------------------------------------------------------------------------------------


def source_of(kind: str, path: Path) -> Source:
    config = path.with_suffix(".toml")
    config.write_text(CONFIG.format(kind=kind, url=path, options=_OPTIONS.get(kind, "")))
    account = load_settings(config, {"K": "key"}).accounts["dex"]
    return open_source(account, cache_dir=path.parent, current_year=2026)


def read(kind: str, path: Path, client: redis.Redis) -> tuple[int, int]:
    rows = 0
    for block in source_of(kind, path).blocks():
        rows += block.rows
        data = compress(block.data)
        client.rpush(_KEY, msgspec.msgpack.encode(msgspec.structs.replace(block, data=data)))
    return rows, rows


def decode(kind: str, path: Path, client: redis.Redis) -> tuple[int, int]:
    source, rows, valid = source_of(kind, path), 0, 0
    while packed := client.lpop(_KEY):
        block = msgspec.msgpack.decode(packed, type=Block)  # type: ignore[arg-type]
        for row in source.decode(msgspec.structs.replace(block, data=decompress(block.data))):
            rows += 1
            valid += row.listing is not None
    return rows, valid


def plain(kind: str, path: Path, _client: redis.Redis) -> tuple[int, int]:
    return (rows := sum(1 for _ in PLAIN[kind](path))), rows


def _csv(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter=";")


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from map(msgspec.json.decode, file)


def _json(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from json.load(file)["stock"]["vehicles"]


def _xml(path: Path) -> Iterator[Any]:
    parsed = iterparse(path, events=("start", "end"))
    _, root = next(iter(parsed))
    for event, found in parsed:
        if event == "end" and found.tag == "vehicle":
            yield {child.tag: child.text for child in found}
            root.clear()


def _xlsx(path: Path) -> Iterator[Any]:
    rows = openpyxl.load_workbook(path, read_only=True).worksheets[0].iter_rows(values_only=True)
    header = next(rows)
    yield from (dict(zip(header, row, strict=True)) for row in rows)


PLAIN: Final[dict[str, Callable[[Path], Iterator[Any]]]] = {
    "csv": _csv, "jsonl": _jsonl, "json": _json, "xml": _xml, "xlsx": _xlsx,
}  # fmt: skip
STEPS: Final = {"read": read, "decode": decode, "plain": plain}


def child(step: str, kind: str, path: Path, socket: str) -> None:
    client = redis.Redis(unix_socket_path=socket)
    client.ping()
    began = time.perf_counter()
    rows, valid = STEPS[step](kind, path, client)
    seconds = time.perf_counter() - began
    print(json.dumps({"rows": rows, "valid": valid, "seconds": seconds, "peak_mib": peak_mib()}))


def peak_mib() -> float:
    """Return the peak of this process's resident memory; that of `resource` includes the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# -- the benchmark -------------------------------------------------------------------------------------------------


def measure(kind: str, rows: int, text: int, folder: Path, socket: str) -> dict[str, Any]:
    path = folder / f"feed.{kind}"
    write(kind, path, rows, text)
    found: dict[str, Any] = {"format": kind, "rows": rows, "feed_mb": path.stat().st_size / 1e6}
    client = redis.Redis(unix_socket_path=socket)
    for step in STEPS:
        argv = [sys.executable, __file__, "--child", step, kind, str(path), socket]
        found[step] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)
        assert found[step]["rows"] == found[step]["valid"] == rows, (kind, step, found[step])
        if step == "read":
            found["redis_mb"] = sum(map(len, client.lrange(_KEY, 0, -1))) / 1e6  # type: ignore[arg-type]
    path.unlink()
    return found


def show(results: list[dict[str, Any]]) -> None:
    table = Table(title=machine())
    for column in ("format", "rows", "feed MB", "in Redis MB", "reader MiB", "decoder MiB", "read rows/s",
                   "decode rows/s", "plain rows/s", "read : plain"):  # fmt: skip
        table.add_column(column, justify="right")
    for found in results:
        speed = {step: found["rows"] / found[step]["seconds"] for step in STEPS}
        table.add_row(
            found["format"], f"{found['rows']:,}", f"{found['feed_mb']:,.0f}", f"{found['redis_mb']:,.0f}",
            f"{found['read']['peak_mib']:.0f}", f"{found['decode']['peak_mib']:.0f}",
            *(f"{speed[step]:,.0f}" for step in STEPS), f"{speed['read'] / speed['plain']:.2f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", choices=sorted(PLAIN), default=list(PLAIN))
    parser.add_argument("--text", type=int, default=0, help="characters of a description, which makes rows wide")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        socket = str(folder / "redis.sock")
        argv = [find_server().path, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", name]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            while not Path(socket).exists():
                time.sleep(0.05)
            sizes = ((kind, options.rows // SMALL.get(kind, 1)) for kind in options.formats)
            results = [measure(kind, rows, options.text, folder, socket) for kind, rows in sizes]
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(results)) if options.json else show(results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5])
    else:
        main()
