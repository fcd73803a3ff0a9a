"""Pushes over HTTP beside a full run that uses the whole quota, with real processes and in real time.

Listings are pushed inline, 50 a second for a minute. Reported: the time of the answer (202), the time until the outcome
is there, by the clock of Redis, and the memory of the web server.

    python benchmarks/http_api.py [--seconds 60] [--rate 50] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import psutil
import requests
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.realtime import KNOWN, Deployment, deployment, percentile, say
from okasie_tasks.core.listing import bulk_item
from okasie_tasks.local.supervisor import Child
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings.web import START_TOKEN
from okasie_tasks.sources import open_source
from tests.support import OKASIE, poll

ACCOUNT = "sliding"
ROWS = 30_000
"""The full run lasts longer than the measurement."""
TOKEN = "start-token-of-the-benchmark"
THREADS = 32


class Push(NamedTuple):
    """``answer``: seconds until the answer; ``outcome``: seconds from the sending until the outcome."""

    status: int
    answer: float
    outcome: float | None


class Pushes:
    """Programs that push at a fixed rate, whatever the server does: a late answer delays no other request."""

    def __init__(self, deployed: Deployment, origin: str, bodies: Sequence[dict[str, Any]]) -> None:
        self._deployed, self._bodies = deployed, bodies
        self._url = f"{origin}/api/v1/accounts/{ACCOUNT}/push"
        self._local = threading.local()
        self._rng = Random(7)

    def play(self, seconds: float, rate: float) -> list[Push]:
        """Push for so long, then wait for the outcomes."""
        count, began = int(seconds * rate), time.monotonic()
        order = list(range(len(self._bodies)))
        self._rng.shuffle(order)
        with ThreadPoolExecutor(THREADS) as pool:
            asked = []
            for number in range(count):
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                body = {**self._bodies[order[number % len(order)]], "price": self._rng.randrange(4_500, 62_000)}
                asked.append(pool.submit(self._push, body))
            found = [one.result() for one in asked]
        return [
            Push(status, answer, self._outcome(request, name, sent) if request else None)
            for status, answer, request, name, sent in found
        ]

    def _push(self, body: dict[str, Any]) -> tuple[int, float, str, str, float]:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        # One machine: its clock is that of Redis.
        sent, began = time.time(), time.monotonic()
        answer = self._local.session.post(
            self._url, json={"listings": [body]}, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )
        took = time.monotonic() - began
        return answer.status_code, took, answer.json().get("request", ""), body["externalReference"], sent

    def _outcome(self, request: str, reference: str, sent: float) -> float | None:
        def at() -> float:
            outcome = self._deployed.pushes.get(request).outcomes.get(reference)
            return outcome.at_ms / 1000 if outcome else 0.0

        try:
            return float(poll(at, seconds=60, what=f"the outcome of {reference}")) - sent
        except AssertionError:
            return None


def web(deployed: Deployment, folder: Path) -> tuple[Child, str]:
    """Start ``okasie web``; returns it and its origin."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**deployed.place.env, "OKASIE_CONFIG": str(deployed.place.config), START_TOKEN: TOKEN}
    argv = [*OKASIE, "web", "--listen", f"127.0.0.1:{port}"]
    child = deployed.supervisor.add(Child("web", argv, log=folder / "logs" / "web.log", env=env))
    poll(lambda: "Ctrl-C" in child.last_line(), seconds=60, what="okasie web")
    return child, f"http://127.0.0.1:{port}"


def measure(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    write_csv(folder / "feed.csv", cars(ROWS, seed=5))
    with deployment({ACCOUNT: "feed.csv"}, folder) as deployed:
        child, origin = web(deployed, folder)
        deployed.place.okasie("sync", ACCOUNT, "--full", "--no-wait")
        poll(lambda: deployed.first_upsert(ACCOUNT), seconds=300, what="the first bulk call")
        account = deployed.settings.accounts[ACCOUNT]
        source = open_source(account, cache_dir=folder, current_year=datetime.now(UTC).year)
        listings = [row.listing for row in islice(source.rows(), KNOWN) if row.listing is not None]
        pushes = Pushes(deployed, origin, [msgspec.json.decode(bulk_item(listing)) for listing in listings])
        say("a minute to warm up")
        time.sleep(60)
        assert child.process is not None
        # The supervisor's child is a wrapper that becomes the program.
        process, memory, ended = psutil.Process(child.process.pid), [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.5) and process.is_running():
                memory[0] = max(memory[0], process.memory_info().rss)

        threading.Thread(target=watch, daemon=True).start()
        say(f"{rate:g} pushes a second for {seconds:g} s")
        load, began = os.getloadavg()[0], time.time()
        found = pushes.play(seconds, rate)
        ended.set()
        at_work = deployed.at_work(ACCOUNT)
        refused = sum(1 for seen in deployed.arrivals(ACCOUNT) if seen["status"] == 429)
    answers = sorted(push.answer for push in found)
    outcomes = sorted(push.outcome for push in found if push.outcome is not None)
    return {
        "pushes": len(found),
        "not_accepted": sum(push.status != 202 for push in found),
        "seconds": round(time.time() - began, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "run_at_work": at_work,
        "answer": _spread(answers),
        "outcome": _spread(outcomes),
        "outcomes_within_1.5_s": round(sum(one <= 1.5 for one in outcomes) / len(found), 4),
        "without_outcome_after_60_s": len(found) - len(outcomes),
        "refused_429": refused,
        "web_rss_mib": round(memory[0] / 2**20, 1),
    }


def _spread(ordered: Sequence[float]) -> dict[str, float]:
    shares = {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99), "slowest": max(ordered, default=None)}
    return {name: round(value, 4) for name, value in shares.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="http-api-"))
    try:
        found = measure(folder, options.seconds, options.rate)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    table = Table("figure", "value")
    for name, value in found.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)


if __name__ == "__main__":
    main()
