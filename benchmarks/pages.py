"""A read-only marketplace: pages of 200 rows in the real read shape, served from memory.

The rows are a sample dealer's cars as the sandbox returns them. Bytes are made before the first request, plain and
gzipped, so that the client is measured and not this server. As a script it writes the feed into FOLDER and prints its
address.

    python benchmarks/pages.py ROWS FOLDER
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.core.listing import bulk_item
from okasie_tasks.sandbox.api import Api
from okasie_tasks.sandbox.routing import Caller
from okasie_tasks.sandbox.sample import DEALERS, cars, config_text, write_csv
from okasie_tasks.sandbox.store import Store
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

PARTNER = "bench"
PAGE_ROWS = 200
_REQUEST = re.compile(rb"GET (?:/\S*)?/(listings|locations)(?:\?\S*?\bpage=(\d+))?")


def write_feed(folder: Path, rows: int) -> Path:
    feed = folder / "feed.csv"
    write_csv(feed, cars(rows, seed=1))
    return feed


def render(folder: Path, rows: int) -> list[bytes]:
    """The marketplace's pages for the rows of the feed."""
    config = folder / "pages.toml"
    config.write_text(config_text(feed="feed.csv", base_url="http://127.0.0.1:1", key="k", account=PARTNER))
    account = load_settings(config).accounts[PARTNER]
    store = Store()
    dealers = {code: store.add_dealer(PARTNER, code) for code in DEALERS}
    for row in open_source(account, cache_dir=folder, current_year=datetime.now(UTC).year).rows():
        assert row.listing is not None, row.issues
        body = msgspec.json.decode(bulk_item(row.listing))
        dealer = dealers[body["dealerLocationCode"]]
        store.upsert(PARTNER, row.listing.external_reference, body, dealer, 1_760_000_000.0, skipped=[])
    api = Api(store, lambda: 1_760_000_000.0)
    caller = Caller(PARTNER, frozenset({"read:listings"}), tuple(DEALERS), None)
    pages = -(-rows // PAGE_ROWS)
    query = {"pageSize": str(PAGE_ROWS), "status": "all"}
    return [api.list_listings(caller, query | {"page": str(number)}) for number in range(1, pages + 1)]


def _answer(body: bytes, *, zipped: bool) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 1000000\r\n"
        f"X-RateLimit-Remaining: 999999\r\nDate: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n"
        f"Content-Length: {len(body)}\r\n" + ("Content-Encoding: gzip\r\n" if zipped else "") + "\r\n"
    )
    return head.encode() + body


class _Server(asyncio.Protocol):
    plain: ClassVar[list[bytes]] = []
    zipped: ClassVar[list[bytes]] = []
    other = _answer(b'{"data":[],"meta":{}}', zipped=False)

    def connection_made(self, transport: Any) -> None:
        self._transport, self._read = transport, b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            request = _REQUEST.match(head)
            if request is None or request[1] == b"locations":
                self._transport.write(self.other)
                continue
            pages = self.zipped if self.zipped and b"gzip" in head.lower() else self.plain
            self._transport.write(pages[int(request[2] or b"1") - 1])


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", 0)
    print(json.dumps({"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


def main() -> None:
    rows, folder = int(sys.argv[1]), Path(sys.argv[2])
    write_feed(folder, rows)
    pages = render(folder, rows)
    _Server.plain = [_answer(page, zipped=False) for page in pages]
    if "--plain" not in sys.argv:
        _Server.zipped = [_answer(gzip.compress(page, 6), zipped=True) for page in pages]
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
