"""Many accounts at once: does each get its whole quota, and is a pushed price change still quick?

Every account has a key of its own and is saturated: its marketplace, in the memory of one small server, has more pages
than can be read in the time, each with a single row, so that what is measured is limiter and dispatch, not comparing.
Single listings are pushed to accounts by chance meanwhile. All figures are read from the server's own log; the first
minute is not measured. One account is `large`: its marketplace tells of 1,000,000 listings, the others' of 100,000.

    python benchmarks/accounts.py [--accounts 200] [--minutes 3] [--nodes 2] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import msgspec
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import ALL_QUEUES, Fleet, fleet, machine
from okasie_tasks.cli.local import _WORKERS
from okasie_tasks.client import Client
from okasie_tasks.sandbox.sample import cars, write_csv
from tests.support import poll

PER_MINUTE = 120
WARM_SECONDS = 60.0
PUSH_EVERY = 0.5
_LARGE, _OTHER = 1_000_000, 100_000


class _Market(asyncio.Protocol):
    """The marketplace of all accounts: a page of one row, whatever page; every write is accepted."""

    log: ClassVar[defaultdict[str, list[tuple[float, str]]]] = defaultdict(list)
    """By key: when a request came, and what; a line more for each listing that was written."""

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
            self._answer(method, path, fields.get("authorization", "").removeprefix("Bearer "), body)

    def _answer(self, method: str, path: str, key: str, body: bytes) -> None:
        if path == "/log":
            document: Any = self.log
        elif method == "GET":
            self.log[key].append((time.time(), "page"))
            document = self._page(int(path.partition("page=")[2].partition("&")[0] or 1), key)
        else:
            items = (
                msgspec.json.decode(body)["items"]
                if path.endswith("bulk-upsert")
                else [{"externalReference": path.rsplit("/", 1)[1]}]
            )
            references = [item["externalReference"] for item in items]
            self.log[key].append((time.time(), "write"))
            self.log[key] += [(time.time(), f"listing {reference}") for reference in references]
            results = [
                {"index": n, "externalReference": name, "listingId": name, "status": "active", "created": True}
                for n, name in enumerate(references)
            ]
            data = {"successCount": len(results), "errorCount": 0, "results": results, "errors": []}
            document = {"data": data if path.endswith("bulk-upsert") else results[0]}
        answer = msgspec.json.encode(document)
        self._transport.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: {PER_MINUTE}\r\n"
            f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n"
            f"Content-Length: {len(answer)}\r\n\r\n".encode()
            + answer
        )

    def _page(self, page: int, key: str) -> dict[str, Any]:
        total = _LARGE if key == "key-0" else _OTHER
        row = {"id": f"{key}-{page}", "externalReference": f"P-{page}", "externalProvider": "us", "status": "active"}
        told = {"page": page, "pageSize": 200, "totalItems": total, "totalPages": total // 200}
        return {"data": [row], "pagination": told, "meta": {}}


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Market, "127.0.0.1", 0, backlog=1000)
    print(json.dumps({"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await server.serve_forever()


def start(deployed: Fleet, accounts: int, nodes: int, folder: Path) -> str:
    base_url: str = deployed.ready("market", [sys.executable, __file__, "--serve"])["base_url"]
    write_csv(folder / "feed.csv", cars(200, seed=1))
    for number in range(accounts):
        deployed.place.account(f"a{number}", feed="feed.csv", base_url=base_url, key=f"key-{number}")
    for number in range(nodes):
        deployed.worker(f"api{number}", "-Q", "okasie.api", "-P", "threads", "-c", "16")
    deployed.worker("urgent", *_WORKERS["urgent"])
    deployed.worker(
        "rest", "-Q", ALL_QUEUES.replace("okasie.api,", "").replace("okasie.urgent,", ""), "-P", "threads", "-c", "4"
    )
    poll(lambda: deployed.place.okasie("status", seconds=300).status == 0, seconds=300, what="a consumer everywhere")
    return base_url


def measure(accounts: int, minutes: float, nodes: int, folder: Path) -> dict[str, Any]:
    with fleet(folder) as deployed:
        base_url = start(deployed, accounts, nodes, folder)
        client, chance = Client(deployed.server.url), Random(1)
        for number in range(accounts):
            client.sync(f"a{number}", "full")
        log = lambda: json.loads(urllib.request.urlopen(f"{base_url}/log", timeout=60).read())  # noqa: E731
        poll(lambda: len(log()) >= accounts, seconds=300, what="a request of every account")
        time.sleep(WARM_SECONDS)
        begin, spent, commands = time.time(), deployed.spent(), calls(deployed.client)
        pushed: list[tuple[str, str, float]] = []
        while time.time() < begin + 60 * minutes:
            name, reference = f"a{chance.randrange(accounts)}", f"PUSH-{len(pushed)}"
            car = {"externalReference": reference, "status": "draft", "title": "A car", "dealerLocationCode": "GENT"}
            pushed.append((name, reference, time.time()))
            client.push(name, listings=[car])
            time.sleep(PUSH_EVERY)
        end, used, after = time.time(), deployed.spent(), calls(deployed.client)
        time.sleep(5)
        found = log()
    told = figures(found, pushed, accounts, begin, end)
    requests = told["mean_use"] * accounts * PER_MINUTE / 60 * (end - begin)
    return told | {
        "redis_commands_per_request": round((sum(after.values()) - sum(commands.values())) / requests, 1),
        "messages_per_request": round((after["lpush"] - commands["lpush"]) / requests, 2),
        "cpu_ms_per_request": round((sum(used.values()) - sum(spent.values())) / requests * 1000, 2),
        "machine": machine(), "minutes": minutes, "nodes": nodes,
        "cores": {name: round((used[name] - spent[name]) / (end - begin), 2) for name in used},
    }  # fmt: skip


def calls(client: Any) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in client.info("commandstats").items()}


def figures(
    log: dict[str, list[list[Any]]], pushed: list[tuple[str, str, float]], accounts: int, begin: float, end: float
) -> dict[str, Any]:
    rates = [
        sum(begin <= at < end and what in ("page", "write") for at, what in log.get(f"key-{number}", []))
        * 60
        / (end - begin)
        / PER_MINUTE
        for number in range(accounts)
    ]
    arrived = {(key.replace("key-", "a"), what): at for key, seen in log.items() for at, what in seen}
    waits = sorted(arrived.get((name, f"listing {reference}"), end + 60) - at for name, reference, at in pushed)
    return {
        "accounts": accounts,
        "least_use": round(min(rates), 4),
        "mean_use": round(sum(rates) / accounts, 4),
        "large_use": round(rates[0], 4),
        "jain": round(sum(rates) ** 2 / (accounts * sum(rate**2 for rate in rates)), 5),
        "pushes": len(waits),
        "push_p50_s": round(waits[len(waits) // 2], 3),
        "push_p99_s": round(waits[max(0, -(-len(waits) * 99 // 100) - 1)], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--nodes", type=int, default=2, help="worker processes that send")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        found = measure(options.accounts, options.minutes, options.nodes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found))
    else:
        Console(width=120).print(found)


if __name__ == "__main__":
    main()
