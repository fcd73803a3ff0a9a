"""An XML feed, synced by real worker processes; one that is cut sells nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars
from tests.support import Place, Workers, stored
from tests.sync.test_formats import as_xml

_CARS = 120
_QUEUES = "okasie.control,okasie.urgent,okasie.api,okasie.diff"


def live(sandbox: Sandbox) -> int:
    return sum(row["status"] == "active" for row in stored(sandbox, "xml").values())


@pytest.mark.system
def test_workers_sync_an_xml_feed_and_a_cut_one_sells_nothing(tmp_path: Path, redis_url: str, client: object) -> None:
    place, feed = Place(tmp_path), tmp_path / "stock.xml"
    with Sandbox([Key("key-xml", "xml")], limit=0, burst_per_second=100_000) as sandbox:
        place.env["OKASIE_REDIS__URL"] = redis_url
        place.account("xml", feed="stock.xml", base_url=sandbox.base_url, key="key-xml")
        text = place.config.read_text().replace('type = "csv"', 'type = "xml"\nitems = "cars/car"\nsettle_seconds = 0')
        place.config.write_text(text)
        feed.write_bytes(as_xml(cars(_CARS, seed=3)))
        assert f"{_CARS} rows, {_CARS} valid" in place.okasie("doctor", "xml").stdout
        with Workers(place, [_QUEUES, _QUEUES]):
            status, first = place.sync("xml", "--full")
            assert (status, first["state"], first["listings"]["created"]) == (0, "done", _CARS), first
            feed.write_bytes(as_xml(cars(_CARS - 5, seed=3))[:-100])
            status, cut = place.sync("xml", "--full")
            assert (status, cut["state"], live(sandbox)) == (1, "failed", _CARS)
            feed.write_bytes(as_xml(cars(_CARS - 5, seed=3)))
            status, last = place.sync("xml", "--full")
            assert (status, last["state"], last["listings"]["sold"], live(sandbox)) == (0, "done", 5, _CARS - 5)
