"""The least work of a comparison that sees every listing of both sides: what remains of it is what an engine adds.

One process unzips each page, splits it into raw rows, hashes each row and reads its two keys, and splits and hashes the
lines of the feed. It decides nothing. Fetching the pages costs every contender the same, and is not part of the floor.

    python benchmarks/floor.py BASE_URL FEED KEY
"""

from __future__ import annotations

import gzip
import http.client
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import xxhash


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]


class _Keys(msgspec.Struct, rename="camel"):
    id: str
    external_reference: str | None = None


def main() -> None:
    base, feed, key = urlsplit(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    spent: defaultdict[str, float] = defaultdict(float)
    last, began = time.process_time(), time.perf_counter()

    def used(what: str) -> None:
        nonlocal last
        now = time.process_time()
        spent[what] += now - last
        last = now

    remote: dict[str, int] = {}
    pages, keys = msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Keys)
    connection = http.client.HTTPConnection(base.netloc)
    for page in range(1, 1_000_000):
        query = f"{base.path}/listings?page={page}&pageSize=200&status=all"
        connection.request("GET", query, headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        used("fetch")
        if answer.getheader("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
            used("unzip")
        rows = pages.decode(body).data
        for row in rows:
            found = keys.decode(row)
            remote[found.external_reference or found.id] = xxhash.xxh3_64_intdigest(row)
        used("rows")
        if len(rows) < 200:
            break
    with feed.open("rb") as file:
        local = [xxhash.xxh3_64_intdigest(line) for line in file]
    used("feed")
    seconds, fetch = time.perf_counter() - began, spent.pop("fetch")
    same = min(len(remote), len(local) - feed.name.endswith(".csv"))
    print(json.dumps({"seconds": seconds, "cpu": sum(spent.values()), "fetch": fetch, "parts": spent, "same": same}))


if __name__ == "__main__":
    main()
