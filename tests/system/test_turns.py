"""Turns with real workers: few messages for many pages, and none is lost when a worker stops, or dies, in the middle."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from okasie_tasks.client import Client
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars, write_csv
from okasie_tasks.store.runs import Runs
from tests.chaos.fleet import QUICK
from tests.support import Place, Workers, faults, held, poll, release, state

_PAGES = 30
_PER_MINUTE = 600
_CONFIG = f"""\
{QUICK}
from celery.signals import worker_init

okasie_stalled_seconds = 60.0


@worker_init.connect
def be_patient(**_):
    from okasie_tasks.marketplace import client
    from okasie_tasks.tasks import part_runner

    client._FRESH_SECONDS = client.LATE_SECONDS = 50.0
    client.OkasieApi.__init__.__kwdefaults__["max_wait_seconds"] = 50.0
    part_runner._LONGEST_BATCH_SECONDS = part_runner._HELP_SECONDS = 600.0
"""
"""No slot batch ends because the machine is slow, and none calls for help; those limits have tests with a stepped clock."""
_QUEUES = ("okasie.control,okasie.urgent,okasie.diff", "okasie.api", "okasie.api", "okasie.api")


class Dealer:
    """An account of thirty pages, and what was asked of its marketplace."""

    def __init__(self, folder: Path, redis_url: str, sandbox: Sandbox) -> None:
        self.place, self._sandbox = Place(folder), sandbox
        self.runs, self._client = Runs(redis.Redis.from_url(redis_url), prefix="okasie:"), Client(redis_url)
        (folder / "quick.py").write_text(_CONFIG)
        self.place.env |= {
            "OKASIE_REDIS__URL": redis_url, "CELERY_CONFIG_MODULE": "quick", "PYTHONPATH": str(folder),
        }  # fmt: skip
        write_csv(folder / "feed.csv", cars(_PAGES * 200, seed=1))
        extra = f"requests_per_minute = {_PER_MINUTE}\nburst_per_second = 100\nread_timeout = 300\n"
        self.place.account("dex", feed="feed.csv", base_url=sandbox.base_url, key="secret", extra=extra)

    def pages_read(self) -> int:
        return int(state(self._sandbox, "dex")["requests"].get("list:200", 0))

    def begun(self) -> str:
        """A full run that has read a third of its pages, and reads the others once it `ended`."""
        before, third = self.pages_read(), _PAGES // 3
        faults(self._sandbox, held("list", "dex", seconds=0, times=third), held("list", "dex"))
        self._client.sync("dex", "full")
        poll(lambda: self.pages_read() >= before + third, what="a third of the pages")
        (run,) = self.runs.history("dex", 1)
        return run

    def ended(self, run: str) -> dict[str, Any]:
        """The run's document once it is over, and all as it should be."""
        release(self._sandbox)
        poll(lambda: (found := self.runs.get(run)) is not None and not found.open, what="its end")
        answer = self.place.okasie("run", run, "--json")
        document: dict[str, Any] = answer.document
        assert document["state"] == "done", document
        assert document["listings"]["unchanged"] == _PAGES * 200, document
        assert document["requests"]["bulk"] == document["requests"]["delete"] == 0
        return document


@pytest.fixture
def dealer(tmp_path: Path, redis_url: str, client: object) -> Iterator[Dealer]:
    with Sandbox([Key("secret", "dex")], limit=0, burst_per_second=100_000) as sandbox:
        yield Dealer(tmp_path, redis_url, sandbox)


def messages(workers: Workers) -> int:
    """Of pages, so far."""
    logs = [workers.log(number) for number in range(len(_QUEUES))]
    return len(set(re.findall(r"Task okasie\.fetch_page\[([0-9a-f-]+)\] received", "\n".join(logs))))


@pytest.mark.system
@pytest.mark.slow
def test_thirty_pages_take_few_messages_and_each_is_read_in_spite_of_ends_and_deaths(dealer: Dealer) -> None:
    with Workers(dealer.place, _QUEUES) as workers:
        status, first = dealer.place.sync("dex", "--full")
        assert (status, first["listings"]["created"]) == (0, _PAGES * 200)

        before = messages(workers)
        document = dealer.ended(dealer.begun())
        assert document["requests"]["list"] == document["requests"]["minimum"] == _PAGES
        assert messages(workers) - before == 3, "the first page, and a window of two that go on"

        # A worker that is told to stop hands on what it goes on with: nobody waits for it, no page is read twice.
        run = dealer.begun()
        workers.signal(1, signal.SIGTERM)
        poll(lambda: "Warm shutdown" in workers.log(1), what="the shutdown")
        document = dealer.ended(run)
        assert document["requests"]["list"] == _PAGES
        record = dealer.runs.get(run)
        assert record is not None
        assert "republished_ms" not in record.facts, "nothing was lost, so the watchdog had nothing to do"
        poll(lambda: not workers.alive(1), what="the end of the worker")

        # One that is killed has pages in hand; they are read again.
        run = dealer.begun()
        workers.signal(2, signal.SIGKILL)
        poll(lambda: not workers.alive(2), what="its death")
        document = dealer.ended(run)
        assert _PAGES <= document["requests"]["list"] <= _PAGES + 8
