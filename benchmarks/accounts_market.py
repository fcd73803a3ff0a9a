"""The marketplace of `benchmarks/accounts.py`: every page has one row; every write is accepted.

Over HTTP it is one small server. In memory it answers in the worker's process, in the place of the connection; the
client, the permits and the decoding are unchanged. A worker uses it with ``celery -A benchmarks.accounts_market``, and
writes its requests with their times into a separate file in ``$MARKET_LOG``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from okasie_tasks.celery import app
from okasie_tasks.marketplace.client import PermittedCall
from okasie_tasks.marketplace.connections import PooledConnection

PER_MINUTE = 120
_LARGE, _OTHER = 1_000_000, 100_000

Log = dict[str, list[tuple[float, str]]]
"""By key: the time and kind of each request, and one more entry for each listing that was written."""

__all__ = ["PER_MINUTE", "Log", "app", "read_logs", "serve"]


def _answer(method: str, path: str, key: str, body: bytes) -> tuple[object, list[str]]:
    """The response of the marketplace, and the log entries of the request."""
    if method == "GET":
        return _page(int(path.partition("page=")[2].partition("&")[0] or 1), key), ["page"]
    many = path.endswith("bulk-upsert")
    items = msgspec.json.decode(body)["items"] if many else [{"externalReference": path.rsplit("/", 1)[1]}]
    names = [item["externalReference"] for item in items]
    results = [
        {"index": n, "externalReference": name, "listingId": name, "status": "active", "created": True}
        for n, name in enumerate(names)
    ]
    data = {"successCount": len(results), "errorCount": 0, "results": results, "errors": []}
    return {"data": data if many else results[0]}, ["write", *(f"listing {name}" for name in names)]


def _page(page: int, key: str) -> dict[str, Any]:
    total = _LARGE if key == "key-0" else _OTHER
    row = {"id": f"{key}-{page}", "externalReference": f"P-{page}", "externalProvider": "us", "status": "active"}
    pagination = {"page": page, "pageSize": 200, "totalItems": total, "totalPages": total // 200}
    return {"data": [row], "pagination": pagination, "meta": {}}


def _headers() -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-RateLimit-Limit": str(PER_MINUTE),
        "Date": format_datetime(datetime.now(UTC), usegmt=True),
    }


# -- over HTTP -----------------------------------------------------------------------------------------------------


class _Market(asyncio.Protocol):
    log: ClassVar[defaultdict[str, list[tuple[float, str]]]] = defaultdict(list)
    delay_seconds: ClassVar[float] = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport, self._read = transport, b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            until = end + 4 + int(fields.get("content-length", 0))
            if len(self._read) < until:
                return
            body, self._read = self._read[end + 4 : until], self._read[until:]
            method, path, _ = head[0].split(" ", 2)
            self._write(method, path, fields.get("authorization", "").removeprefix("Bearer "), body)

    def _write(self, method: str, path: str, key: str, body: bytes) -> None:
        if path == "/log":
            document: object = self.log
        else:
            document, came = _answer(method, path, key, body)
            self.log[key] += [(time.time(), what) for what in came]
        answer = msgspec.json.encode(document)
        lines = [f"{name}: {value}" for name, value in {**_headers(), "Content-Length": len(answer)}.items()]
        whole = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + answer
        asyncio.get_running_loop().call_later(self.delay_seconds, self._transport.write, whole)


async def serve(delay_seconds: float) -> None:
    """Serve until the process ends. Prints one line of JSON with its ``base_url``; ``/log`` returns its log."""
    _Market.delay_seconds = delay_seconds
    server = await asyncio.get_running_loop().create_server(_Market, "127.0.0.1", 0, backlog=1000)
    print(f'{{"base_url": "http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}', flush=True)
    await server.serve_forever()


# -- in memory -----------------------------------------------------------------------------------------------------


def _in_memory(folder: Path) -> None:
    files: dict[int, int] = {}

    def exchange(
        _: PermittedCall, __: str, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        if (pid := os.getpid()) not in files:
            files[pid] = os.open(folder / f"{pid}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        key, now = headers["Authorization"].removeprefix("Bearer "), time.time()
        document, came = _answer(method, url, key, body or b"")
        os.write(files[pid], "".join(f"{key}\t{now}\t{what}\n" for what in came).encode())
        return 200, _headers(), msgspec.json.encode(document)

    PermittedCall._exchange = exchange  # type: ignore[method-assign,assignment]
    PooledConnection.preconnect = lambda _: None  # type: ignore[method-assign]


def read_logs(folder: Path) -> Log:
    """The requests that all processes answered in memory."""
    log: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for file in folder.glob("*.log"):
        for line in file.read_text().splitlines():
            key, at, what = line.split("\t")
            log[key].append((float(at), what))
    return log


if "MARKET_LOG" in os.environ:
    _in_memory(Path(os.environ["MARKET_LOG"]))
