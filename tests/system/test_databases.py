"""Runs of real workers from a real PostgreSQL and a real MariaDB."""

from __future__ import annotations

from pathlib import Path

import pytest

from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.sample import cars
from tests import databases
from tests.support import Place, Up, stored

pytestmark = pytest.mark.system

CARS = 30
SERVERS = {"postgresql": databases.postgresql, "mariadb": databases.mariadb}


@pytest.mark.parametrize("name", SERVERS)
def test_a_full_and_an_incremental_run_and_a_line_that_is_cut(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path)
    with SERVERS[name]() as url, databases.Line(url) as line, Sandbox([Key("key", name)]) as sandbox:
        place.account(name, feed="none.csv", base_url=sandbox.base_url, key="key")
        place.env |= databases.settings(name, line.url)
        rows = cars(CARS, seed=1)
        databases.fill(url, rows)
        with Up(place):
            status, document = place.sync(name, "--full")
            assert (status, document["listings"]["created"]) == (0, CARS), document
            databases.fill(url, rows[:-2])
            line.passed, line.most = 0, 4_000
            status, document = place.sync(name)
            assert (status, document["state"], document["error"]["code"]) == (1, "failed", "source"), document
            line.most = None
            status, document = place.sync(name)
            assert (status, document["listings"]["sold"]) == (0, 2), document
            reference = databases.reference_of(url, rows[0])
            answer = place.okasie("push", name, reference, "--json")
            assert [row["outcome"] for row in answer.document["listings"]] == ["updated"], answer.text
        gone = {databases.reference_of(url, row) for row in rows[-2:]}
        assert {name for name, row in stored(sandbox, name).items() if row["status"] == "sold"} == gone
