"""The time of a run as a multiple of its unavoidable work, measured within one run of this script.

Real Redis, two real worker processes, real HTTP against a sandbox without limit. The floor is one process that only
reads and validates the feed.

    python benchmarks/throughput.py [VEHICLES]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Supervisor
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source
from tests.support import Place, Workers

ALL = "okasie.control,okasie.urgent,okasie.api,okasie.diff"
FAST = "requests_per_minute = 1000000\nburst_per_second = 100000\n"


def read_alone(place: Place) -> float:
    account = load_settings(place.config).accounts["dex"]
    began = time.perf_counter()
    rows = sum(1 for _ in open_source(account, cache_dir=place.folder, current_year=datetime.now(UTC).year).rows())
    spent = time.perf_counter() - began
    assert rows, "a benchmark of nothing"
    return spent


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    server, supervisor = EmbeddedRedis(folder), Supervisor(print)
    table = Table("what", "seconds", "vehicles / s", "times the floor", "requests (fewest)")
    try:
        server.wait(supervisor.add(server.child()))
        with Sandbox([Key("k", "dex")], limit=0, burst_per_second=100_000) as sandbox:
            place = Place(folder)
            place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="k", extra=FAST)
            place.env["OKASIE_REDIS__URL"] = server.url
            rows = cars(count, seed=1)
            write_csv(folder / "feed.csv", rows)
            floor = read_alone(place)
            table.add_row("read and validate the feed (floor)", f"{floor:.2f}", f"{count / floor:.0f}", "1.0", "")
            with Workers(place, [ALL, ALL]):
                for what, options in (
                    ("first full run, all new", ["--full"]),
                    ("full run, nothing changed", ["--full"]),
                    ("full run, 1 % changed", ["--full"]),
                ):
                    if "1 %" in what:
                        for row in rows[::100]:
                            row["price_eur"] = str(int(row["price_eur"]) + 1)
                        write_csv(folder / "feed.csv", rows)
                    status, document = place.sync("dex", *options, seconds=900)
                    assert status == 0, document
                    sent = sum(document["requests"][kind] for kind in ("list", "bulk", "put", "delete"))
                    assert sent == document["requests"]["minimum"]
                    seconds = document["seconds"]
                    table.add_row(
                        what,
                        f"{seconds:.2f}",
                        f"{count / seconds:.0f}",
                        f"{seconds / floor:.1f}",
                        f"{sent} ({document['requests']['minimum']})",
                    )
    finally:
        supervisor.stop(10)
        shutil.rmtree(folder, ignore_errors=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
