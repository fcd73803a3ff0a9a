"""The search of listings and the catalogue behind it: time, memory of the process, and bytes of Redis per listing.

Titles are of 30 to 70 characters, each listing has a VIN: longer than those of the sample dealer, so that a listing
costs what it costs a dealer. The marketplace is not asked.

    python benchmarks/search.py [--rows 10000 100000]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fleet import machine
from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import BUCKETS, hash8, partition_of_hash, partitions_for
from okasie_tasks.reports.listings import listings_document
from okasie_tasks.sandbox.sample import config_text
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings

ACCOUNT: Final = "dex"
_MODELS: Final = (
    "Volkswagen Golf", "Audi A3 Sportback", "BMW 320d Touring", "Mercedes-Benz GLA 200", "Peugeot 3008", "Citroën C3",
    "Renault Captur", "Opel Astra Sports Tourer", "Skoda Octavia Combi", "Toyota Corolla TS", "Kia Sportage",
    "Fiat 500", "Volvo XC40", "Dacia Duster", "Cupra Formentor", "Land Rover Evoque",
)  # fmt: skip
_ENGINES: Final = ("1.0 TSI", "1.2 PureTech", "1.5 dCi", "1.6 HDi", "2.0 TDI", "1.4 Hybrid", "Electric 50 kWh")
_TRIMS: Final = ("Business Line", "Highline", "Style", "GT-Line", "M Sport", "Allure", "Titanium", "Techno")
_EXTRAS: Final = ("automaat", "GPS + camera", "trekhaak", "panoramadak", "1ste eigenaar", "garantie 12 maanden")
_MAKERS: Final = ("WVWZZZ", "WBA", "VF3", "VF1", "TMB", "W0L", "WDD", "WAUZZZ", "KNA")
_SEARCHES: Final = ("golf 1.0", "citroen", "no such car", "DG-0004", "")


def car(rng: random.Random) -> Titled:
    words = [rng.choice(_MODELS), rng.choice(_ENGINES), rng.choice(_TRIMS), *rng.sample(_EXTRAS, rng.randint(0, 2))]
    maker = rng.choice(_MAKERS)
    return Titled(" ".join(words), maker + "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", k=17 - len(maker))))


def measure(services: Services, rows: int) -> dict[str, Any]:
    rng, ledger = random.Random(rows), services.ledger(ACCOUNT)
    cars = {f"DG-{number:06}": car(rng) for number in range(rows)}
    entry = Entry(status="active", flags=Flag.OWNED | Flag.IN_SOURCE, sent_ms=1, seen_ms=1)
    ledger.swap((name, None, entry) for name in cars)
    parts: dict[int, dict[str, Titled]] = defaultdict(dict)
    for name, row in cars.items():
        parts[partition_of_hash(hash8(name), partitions_for(rows))][name] = row
    written = timed(lambda: [ledger.catalog.put(part) for part in parts.values()])
    pushed = timed(lambda: [ledger.catalog.put({name: Titled("pushed")}) for name in list(cars)[:100]])
    client, before = services.redis, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    keys = [f"{services.settings.redis.key_prefix}ledger:{ACCOUNT}:{bucket}" for bucket in range(BUCKETS)]
    used = {
        "ledger": sum(client.memory_usage(key, samples=0) or 0 for key in keys),
        "catalog": client.memory_usage(f"{services.settings.redis.key_prefix}catalog:{ACCOUNT}", samples=0) or 0,
    }
    ctx = services.context(ACCOUNT)

    def search(text: str) -> float:
        return min(timed(lambda: listings_document(ctx, search=text)) for _ in range(3))

    return {
        "rows": rows,
        "bytes_a_listing": {name: round(size / rows, 1) for name, size in used.items()},
        "write_s": round(written, 2),
        "push_ms": round(pushed * 10, 2),
        "search_s": {text or "(all)": round(search(text), 3) for text in _SEARCHES},
        "grown_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
    }


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(["redis-server", "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
        try:
            for rows in arguments.rows:
                config = Path(folder) / "okasie.toml"
                text = config_text(feed="feed.csv", base_url="http://127.0.0.1:1", key="none", account=ACCOUNT)
                url = f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\nkey_prefix = "search-{rows}:"\n\n'
                config.write_text(url + text, encoding="utf-8")
                services = Services(load_settings(config, environ={}))
                wait_for(services.redis)
                print(json.dumps(measure(services, rows)))
        finally:
            server.terminate()
            server.wait()
    print(machine())


def wait_for(client: redis.Redis) -> None:
    for _ in range(100):
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.1)
    raise SystemExit("the Redis server does not start")


if __name__ == "__main__":
    main()
