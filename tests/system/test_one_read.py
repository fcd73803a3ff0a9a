"""One read a run with real workers: a feed is downloaded once for all of them, and a reader that dies is replaced."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.runs import Runs
from tests.chaos.fleet import QUICK
from tests.support import Place, Workers, poll, stored

_ROWS = 23
_ALL_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"
_CONFIG = f"""\
{QUICK}
from celery.signals import worker_init


@worker_init.connect
def cut_small_blocks(**_):
    from okasie_tasks.sources import csv_format, records

    csv_format.BLOCK_ROWS = records.BLOCK_ROWS = 5
"""
_PLUGIN = """\
import csv, os, pathlib, time


class Waiting:
    def __init__(self, account):
        self.folder = pathlib.Path(os.environ["WAITING_FOLDER"])

    def read(self):
        with (self.folder / "feed.csv").open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter=";")):
                if number == 12:
                    with (self.folder / "readers").open("a") as log:
                        log.write(f"{os.getpid()}\\n")
                    while not (self.folder / "go").exists():
                        time.sleep(0.02)
                yield row
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, without an answer to conditional requests. ``downloads``: the paths that were fetched."""

    downloads: list[str]

    def do_GET(self) -> None:
        self.downloads.append(self.path)
        del self.headers["If-Modified-Since"]
        super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in ("Last-Modified", "ETag"):
            super().send_header(keyword, value)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox([Key("secret", "dex")], limit=0, burst_per_second=100_000) as sandbox:
        yield sandbox


@pytest.fixture
def place(tmp_path: Path, redis_url: str, client: object, sandbox: Sandbox) -> Place:
    place = Place(tmp_path)
    (tmp_path / "quick.py").write_text(_CONFIG)
    place.env |= {
        "OKASIE_REDIS__URL": redis_url, "CELERY_CONFIG_MODULE": "quick", "PYTHONPATH": str(tmp_path),
        "WAITING_FOLDER": str(tmp_path),
    }  # fmt: skip
    write_csv(tmp_path / "feed.csv", cars(_ROWS, seed=1))
    extra = "requests_per_minute = 100000\nburst_per_second = 10000\n"
    place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="secret", extra=extra)
    return place


@pytest.mark.system
@pytest.mark.slow
def test_a_feed_without_an_etag_is_downloaded_once_for_three_workers(place: Place, sandbox: Sandbox) -> None:
    handler = type("Handler", (Quiet,), {"downloads": []})
    serve = partial(handler, directory=str(place.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/feed.csv"
            place.config.write_text(place.config.read_text().replace('"feed.csv"', f'"{url}"'))
            with Workers(place, [_ALL_QUEUES] * 3):
                status, first = place.sync("dex", "--full")
                assert (status, first["listings"]["created"]) == (0, _ROWS), first
                assert handler.downloads == ["/feed.csv"], "five blocks, each loaded and spooled"
                write_csv(place.folder / "feed.csv", cars(_ROWS + 4, seed=1))
                status, second = place.sync("dex")
                assert (second["listings"]["created"], len(handler.downloads)) == (4, 2), second
        finally:
            server.shutdown()
            thread.join()
    assert len(stored(sandbox, "dex")) == _ROWS + 4


@pytest.mark.system
@pytest.mark.slow
def test_only_the_node_that_reads_needs_the_feed(place: Place, sandbox: Sandbox) -> None:
    """The other one decodes, compares and sends."""
    feed = place.folder / "feed.csv"
    place.config.write_text(
        '[feeds]\nqueue = "okasie.feeds"\n' + place.config.read_text().replace('url = "feed.csv"', 'url = "env:FEED"')
    )
    place.env["FEED"] = str(feed)
    elsewhere = {"FEED": str(place.folder / "elsewhere.csv")}
    with Workers(place, [_ALL_QUEUES, "okasie.feeds"], [elsewhere, {}]) as workers:
        assert place.okasie("status", "--json").document["queues"]["okasie.feeds"]["consumers"] == 1
        status, first = place.sync("dex", "--full")
        assert (status, first["listings"]["created"]) == (0, _ROWS), first
        write_csv(feed, cars(_ROWS - 1, seed=1))
        status, second = place.sync("dex", "--full")
        assert (status, second["listings"]["sold"]) == (0, 1), second
        done = [workers.log(number) for number in range(2)]
    assert done[0].count("okasie.load_inventory[") > done[1].count("okasie.load_inventory[") > 0
    assert "okasie.confirm_sells[" in done[1]
    assert "okasie.spool[" not in done[1]


@pytest.mark.system
@pytest.mark.slow
def test_a_reader_that_is_killed_is_replaced_and_no_row_counts_twice(
    place: Place, sandbox: Sandbox, redis_url: str
) -> None:
    metadata = place.folder / "waiting-1.dist-info"
    metadata.mkdir()
    (place.folder / "waiting.py").write_text(_PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[okasie_tasks.sources]\nwaiting = waiting:Waiting\n")
    text = place.config.read_text().replace('type = "csv"\n', "").replace('url = "feed.csv"', 'type = "python:waiting"')
    place.config.write_text(text)
    with Workers(place, [_ALL_QUEUES] * 2), redis.Redis.from_url(redis_url) as client:
        runs, readers = Runs(client, prefix="okasie:"), place.folder / "readers"
        Client(redis_url).sync("dex", "full")
        poll(readers.exists, what="the reader in the middle of the source")
        (run,) = runs.history("dex", 1)

        def load() -> Any:
            return runs.parts.stage(run, "load")

        poll(lambda: load().closed == 2, what="both blocks that are there decoded, while the read goes on")
        assert load().total == 3
        os.kill(int(readers.read_text().split()[0]), signal.SIGKILL)
        poll(lambda: len(readers.read_text().split()) == 2, what="another reader in the middle of the source")
        (place.folder / "go").touch()
        poll(lambda: runs.state(run) != "running", what="its end")
        record = runs.get(run)
        assert record is not None
        assert (record.state, record.fact("rows")) == ("done", _ROWS)
        assert record.fact("load_first") == 3, "the blocks of the first read do not count"
        poll(lambda: not list(client.scan_iter(f"okasie:run:{run}:data:*")), what="the end of its data")
    found = stored(sandbox, "dex")
    assert len(found) == _ROWS
    assert {row["status"] for row in found.values()} == {"active"}
