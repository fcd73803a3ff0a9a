"""Three accounts of one `okasie up`, one of them in trouble: what do the other two notice?

The source of the troubled account drips for one reader and never ends for the next; it is pushed from and synced all
the time. For 12 seconds of each minute a firewall answers its requests, and malformed messages lie in every queue. The
other two are saturated: their marketplace has a single row a page, and more pages than can be read in the time. Single
listings are pushed to them. All figures are read from the marketplace's log; the first half minute is not measured.

    python benchmarks/beside_trouble.py [--minutes 3] [--rate 3] [--calm]

``--calm``: without the trouble, to compare. Exit status 1: an account has used less than 95 % of its quota, or the 99th
percentile of the pushes is above 1.5 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final

import redis
import requests
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import machine
from okasie_tasks.client import Client
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import COLUMNS, cars, write_csv
from okasie_tasks.settings.redis_url import find_embedded
from tests.support import Place, Up, poll

PER_MINUTE: Final = 120
WARM_SECONDS: Final = 30.0
PUSH_EVERY: Final = 0.5
TROUBLED: Final = "troubled"
OTHERS: Final = ("first", "second")
_FIREWALL: Final = {
    "kind": "answer", "status": 403, "content_type": "text/html", "body": "<h1>Blocked</h1>", "for_seconds": 12,
    "match": {"key": TROUBLED},
}  # fmt: skip
_MALFORMED: Final = (b"not json", b"null", b"[]", b'{"body": 7, "headers": {"timelimit": "x"}}')
_QUEUES: Final = ("okasie.urgent", "okasie.api", "okasie.control", "okasie.diff")


class Feed(BaseHTTPRequestHandler):
    """Every other reader gets a byte a second, the others rows without an end."""

    _readers = count()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/csv")
        self.end_headers()
        drips = next(self._readers) % 2 == 0
        row = ";".join("x" for _ in COLUMNS).encode() + b"\n"
        with contextlib.suppress(OSError):
            self.wfile.write(";".join(COLUMNS).encode() + b"\n")
            while True:
                self.wfile.write(b"x" if drips else row * 2_000)
                self.wfile.flush()
                time.sleep(1.0 if drips else 0.01)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve() -> None:
    """Serve a `Feed`, and print its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Feed)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}/feed.csv", flush=True)
    server.serve_forever()


@contextlib.contextmanager
def feed() -> Iterator[str]:
    """The URL of a `Feed` in a separate process: the marketplace is in this one."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def trouble(sandbox: Sandbox, url: str, over: threading.Event, rate: int) -> None:
    """Everything at once, until it is ``over``: a sync, pushes by reference, a firewall, malformed messages."""
    client, broker = Client(url), redis.Redis.from_url(url)
    for second in count():
        if second % 60 == 10:
            requests.post(f"{sandbox.admin_url}/faults", json=_FIREWALL, timeout=60).raise_for_status()
        if second % 20 == 0:
            client.sync(TROUBLED, "full")
            for queue in _QUEUES:
                broker.rpush(queue, *_MALFORMED)
        for _ in range(rate):
            client.push(TROUBLED, ["DG-00001"])
        if over.wait(1.0):
            return


def measure(minutes: float, folder: Path, *, calm: bool, rate: int) -> dict[str, Any]:
    place, pages = Place(folder), int(PER_MINUTE * (minutes + 3))
    names = (TROUBLED, *OTHERS)
    with feed() as source, Sandbox([Key(f"key-{name}", name) for name in names], limit=PER_MINUTE) as sandbox:
        write_csv(folder / "feed.csv", cars(20, seed=1))
        for name in names:
            where = source if name == TROUBLED and not calm else "feed.csv"
            place.account(name, feed=where, base_url=sandbox.base_url, key=f"key-{name}")
        for name in OTHERS:
            edits = [{"reference": f"F-{number}", "create": {"title": "A car"}} for number in range(pages)]
            requests.post(f"{sandbox.admin_url}/listings", json={"key": name, "edits": edits}, timeout=60)
        requests.post(f"{sandbox.admin_url}/quirks", json={"page_rows": 1}, timeout=60).raise_for_status()
        with Up(place):
            url, over = find_embedded(folder / ".okasie"), threading.Event()
            assert url is not None
            client = Client(url)
            for name in OTHERS:
                client.sync(name, "full")
            poll(lambda: all(len(sandbox.meters[name].requests) for name in OTHERS), what="requests of both")
            if not calm:
                threading.Thread(target=trouble, args=(sandbox, url, over, rate), daemon=True).start()
            time.sleep(WARM_SECONDS)
            begin, pushed = time.time(), []
            while time.time() < begin + 60 * minutes:
                name, reference = OTHERS[len(pushed) % 2], f"PUSH-{len(pushed)}"
                car = {
                    "externalReference": reference,
                    "status": "draft",
                    "title": "A car",
                    "dealerLocationCode": "GENT",
                }
                pushed.append((name, reference, time.time()))
                client.push(name, listings=[car])
                time.sleep(PUSH_EVERY)
            end = time.time()
            time.sleep(5)
            over.set()
            status = place.okasie("status", "--json").document
        more = {"machine": machine(), "minutes": minutes, "calm": calm, "rate": rate}
        more["quarantined"] = status.get("quarantine", {}).get("total")
        return figures(sandbox, pushed, begin, end) | more


def figures(sandbox: Sandbox, pushed: list[tuple[str, str, float]], begin: float, end: float) -> dict[str, Any]:
    allowed = PER_MINUTE * (end - begin) / 60
    arrived = {(name, write.reference): write.at for name in OTHERS for write in sandbox.api.writes[name]}
    waits = sorted(arrived.get((name, reference), end + 60) - at for name, reference, at in pushed)
    return {
        "use": {
            name: round(sum(begin <= sent["at"] < end for sent in sandbox.meters[name].requests) / allowed, 4)
            for name in OTHERS
        },
        "pushes": len(waits),
        "push_p50_s": round(waits[len(waits) // 2], 3),
        "push_p99_s": round(waits[max(0, -(-len(waits) * 99 // 100) - 1)], 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--calm", action="store_true", help="without the trouble")
    parser.add_argument("--rate", type=int, default=3, help="pushes a second into the troubled account")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    try:
        result = measure(options.minutes, folder, calm=options.calm, rate=options.rate)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(result))
    else:
        Console(width=120).print(result)
    return int(min(result["use"].values()) < 0.95 or result["push_p99_s"] > 1.5)


if __name__ == "__main__":
    sys.exit(main())
