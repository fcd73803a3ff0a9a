"""The marketplace of the engine's benchmarks: a small server of pages of 200 wide rows, which also accepts writes.

Its inventory is that of `stock`: by key it keeps the price of each listing, and no more. The inventory of a key that
begins with ``empty`` starts empty. Pages are cached while they stay the same, so that the client is measured and not
this server: one that makes them takes half of the machine. They are gzipped below ``/gzip``, if the client accepts it,
and not below ``/plain``, where they are made for each request above `CACHED_PLAIN_ROWS`. As a script it prints its
address; with ``--log``, ``/log`` returns the time and kind of each request by key.

    python benchmarks/pages.py ROWS FOLDER [--per-minute 1000000] [--unlimited KEY] [--delay SECONDS] [--log]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import stock

PAGE_ROWS = 200
CACHED_PLAIN_ROWS = 200_000
"""A gzipped million takes some hundred megabytes."""
_REQUEST = re.compile(
    r"(?P<method>\w+) /(?P<form>gzip|plain)/(?P<what>[\w-]+)(?:/(?P<name>[\w-]+))?(?:\?(?P<query>\S*))?"
)
_NO_LIMIT = 1_000_000
_PAGE = re.compile(r"\bpage=(\d+)")
_META = {
    "partner": {"id": "p-bench", "name": "bench", "source": f"sandbox-{stock.PARTNER}", "access": {"scope": "global"}},
    "filters": {}, "profileScope": {},
}  # fmt: skip


class _Body(msgspec.Struct):
    price: float = 0
    status: str = "draft"


class _Item(_Body, rename="camel", kw_only=True):
    external_reference: str


class _Items(msgspec.Struct):
    items: list[_Item]


class _Inventory:
    """The price of each listing by its number; 0: it does not exist."""

    def __init__(self, rows: int, *, full: bool) -> None:
        self.prices = array("l", [0, *(stock.price(n) if full else 0 for n in range(1, rows + 1))])
        self.total = rows if full else 0

    def numbers(self, page: int) -> Sequence[int]:
        first, last = (page - 1) * PAGE_ROWS, min(page * PAGE_ROWS, self.total)
        if self.total == len(self.prices) - 1:
            return range(first + 1, last + 1)
        return [number for number, price in enumerate(self.prices) if price][first:last]

    def write(self, number: int, price: int) -> bool:
        """Whether the listing is new."""
        created, self.prices[number] = not self.prices[number], price
        self.total += created
        return created


class Market:
    """The inventories by key, and the pages of them."""

    def __init__(self, known: list[stock.Kind], rows: int) -> None:
        self._known, self._rows = known, rows
        self._inventories: dict[str, _Inventory] = {}
        self._cache: dict[tuple[int, int, bool], tuple[bytes, bytes]] = {}
        """By total, page and encoding: the prices in it, and its body."""

    def inventory(self, key: str) -> _Inventory:
        if key not in self._inventories:
            self._inventories[key] = _Inventory(self._rows, full=not key.startswith("empty"))
        return self._inventories[key]

    def page(self, key: str, page: int, *, zipped: bool) -> bytes:
        inventory = self.inventory(key)
        prices, total, numbers = inventory.prices, inventory.total, inventory.numbers(page)
        costs = array("l", map(prices.__getitem__, numbers)).tobytes()
        known = self._cache.get((total, page, zipped))
        if known is not None and known[0] == costs:
            return known[1]
        pagination = {"page": page, "pageSize": PAGE_ROWS, "totalItems": total, "totalPages": -(-total // PAGE_ROWS)}
        tail = msgspec.json.encode({"pagination": pagination, "meta": _META})
        body = b'{"data":[' + b",".join(stock.rows(self._known, numbers, prices.__getitem__)) + b"]," + tail[1:]
        if zipped:
            body = gzip.compress(body, 6)
        if zipped or self._rows <= CACHED_PLAIN_ROWS:
            self._cache[total, page, zipped] = (costs, body)
        return body

    def write(self, key: str, items: list[_Item]) -> list[dict[str, Any]]:
        """The result of each item. All are accepted; only the price of those of `stock` is kept."""
        inventory, results = self.inventory(key), []
        for index, item in enumerate(items):
            prefix, _, digits = item.external_reference.rpartition("-")
            created = True
            if prefix == stock.PREFIX:
                assert item.price > 0, item
                created = inventory.write(int(digits), int(item.price))
            results.append({
                "index": index, "externalReference": item.external_reference, "status": item.status,
                "listingId": stock.identity(int(digits)), "created": created,
            })  # fmt: skip
        return results

    def answer(self, request: re.Match[str], key: str, body: bytes, *, zips: bool) -> tuple[bytes, bool, list[str]]:
        """The body of a response, whether it is gzipped, and what the log says of the request."""
        if request["what"] != "listings":
            return b'{"data":[],"meta":{}}', False, ["other"]
        if request["method"] == "GET":
            zipped = zips and request["form"] == "gzip"
            found = _PAGE.search(request["query"] or "")
            return self.page(key, int(found[1]) if found else 1, zipped=zipped), zipped, ["page"]
        if request["name"] == "bulk-upsert":
            sent = msgspec.json.decode(body, type=_Items | list[_Item])
            items = sent.items if isinstance(sent, _Items) else sent
            results = self.write(key, items)
            data = {"successCount": len(results), "errorCount": 0, "results": results, "errors": []}
        else:
            assert request["method"] == "PUT", request
            sent = msgspec.json.decode(body, type=_Body)
            items = [_Item(sent.price, sent.status, external_reference=request["name"])]
            (data,) = self.write(key, items)
        written = [f"listing {item.external_reference}" for item in items]
        return msgspec.json.encode({"data": data}), False, ["write", *written]


class _Server(asyncio.Protocol):
    market: ClassVar[Market]
    per_minute: ClassVar[int]
    unlimited: ClassVar[str]
    delay_seconds: ClassVar[float]
    log: ClassVar[defaultdict[str, list[tuple[float, str]]] | None]

    def connection_made(self, transport: Any) -> None:
        self._transport, self._read = transport, b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            lines = self._read[:end].decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            until = end + 4 + int(fields.get("content-length", 0))
            if len(self._read) < until:
                return
            body, self._read = self._read[end + 4 : until], self._read[until:]
            if lines[0].startswith("GET /log "):
                self._send(msgspec.json.encode(self.log), zipped=False)
                continue
            request = _REQUEST.match(lines[0])
            assert request is not None, lines[0]
            key = fields.get("authorization", "").removeprefix("Bearer ")
            zips = "gzip" in fields.get("accept-encoding", "")
            answer, zipped, kinds = self.market.answer(request, key, body, zips=zips)
            if self.log is not None:
                self.log[key] += [(time.time(), kind) for kind in kinds]
            self._send(answer, zipped=zipped, limit=_NO_LIMIT if key == self.unlimited else self.per_minute)

    def _send(self, body: bytes, *, zipped: bool, limit: int = _NO_LIMIT) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: {limit}\r\n"
            f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n"
            f"Content-Length: {len(body)}\r\n" + ("Content-Encoding: gzip\r\n" if zipped else "") + "\r\n"
        )
        asyncio.get_running_loop().call_later(self.delay_seconds, self._transport.writelines, (head.encode(), body))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", 0)
    print(json.dumps({"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-minute", type=int, default=_NO_LIMIT, help="the limit that it reports")
    parser.add_argument("--unlimited", default="", metavar="KEY", help="no limit is reported to this key")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--log", action="store_true")
    options = parser.parse_args()
    _Server.market = Market(stock.kinds(options.folder), options.rows)
    _Server.per_minute, _Server.delay_seconds = options.per_minute, options.delay
    _Server.unlimited = options.unlimited
    _Server.log = defaultdict(list) if options.log else None
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
