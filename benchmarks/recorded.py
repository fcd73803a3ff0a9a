"""A worker whose marketplace is in its memory: recorded pages, gzipped as they would arrive.

A request is answered in the place of the connection; the client, its permits and the decoding are unchanged. A worker
uses it with ``celery -A benchmarks.recorded`` and ``PAGES``, the folder of the pages, in its environment.
"""

from __future__ import annotations

import gzip
import os
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from benchmarks.pages import PAGE_ROWS, Market
from benchmarks.stock import kinds
from okasie_tasks.celery import app
from okasie_tasks.marketplace.client import PermittedCall
from okasie_tasks.marketplace.connections import PooledConnection

__all__ = ["app", "record"]

_PAGE = re.compile(r"/listings\?.*\bpage=(\d+)")


def record(folder: Path, work: Path, rows: int) -> None:
    """Write the pages of an inventory of `stock`."""
    market = Market(kinds(work), rows)
    for page in range(1, -(-rows // PAGE_ROWS) + 1):
        (folder / str(page)).write_bytes(market.page("recorded", page, zipped=True))


def _serve(pages: dict[str, bytes]) -> None:
    def exchange(
        _: PermittedCall, __: str, method: str, url: str, ___: dict[str, str], ____: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        assert method == "GET", "nothing is to be written"
        found = _PAGE.search(url)
        body = gzip.decompress(pages[found[1]]) if found else b'{"data":[],"meta":{}}'
        date = format_datetime(datetime.now(UTC), usegmt=True)
        return 200, {"Content-Type": "application/json", "X-RateLimit-Limit": "1000000", "Date": date}, body

    PermittedCall._exchange = exchange  # type: ignore[method-assign,assignment]
    PooledConnection.preconnect = lambda _: None  # type: ignore[method-assign]


if "PAGES" in os.environ:
    _serve({file.name: file.read_bytes() for file in Path(os.environ["PAGES"]).iterdir()})
