"""Whole runs over csv feeds in odd dress: what is read is created, and only what is gone is sold."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.sandbox.sample import COLUMNS
from tests.sync.http_scenario import HttpScenario, varied

_CARS = 4
_SETTING = "OKASIE_ACCOUNTS__DEX__SOURCE__"


class Scenario(HttpScenario):
    """`HttpScenario` with a feed whose text is changed before it is written."""

    encoding = "utf-8"
    line_end = "\n"
    edits: tuple[tuple[str, str], ...] = ()

    def _write_feed(self) -> None:
        lines = [";".join(COLUMNS), *(";".join(row[name] for name in COLUMNS) for row in self.rows)]
        text = "".join(line + self.line_end for line in lines)
        for old, new in self.edits:
            assert old in text
            text = text.replace(old, new, 1)
        self._feed.write_bytes(text.encode(self.encoding))
        written = time.time() - 10  # a run reads it at once
        os.utime(self._feed, (written, written))


def scenario(folder: Path, redis_url: str, **settings: str) -> Scenario:
    rows = varied(_CARS, seed=3)
    for row in rows:
        row.update(notes="", options="")
    environ = {_SETTING + name.upper(): value for name, value in settings.items()}
    return Scenario(folder, redis_url, rows=rows, environ=environ)


def counts(document: dict[str, Any]) -> tuple[int, int, int, int]:
    found = document["listings"]
    return found["local"], found["created"], found["sold"], found["rejected"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_the_car_that_is_gone_from_a_feed_in_another_encoding_is_sold(
    tmp_path: Path, redis_url: str, encoding: str, end: str
) -> None:
    with scenario(tmp_path, redis_url, encoding=encoding) as dealer:
        dealer.encoding, dealer.line_end = encoding, end
        assert counts(dealer.good_run()) == (4, 4, 0, 0)
        dealer.rows.pop()
        assert counts(dealer.good_run("incremental")) == (3, 0, 1, 0)


def test_stray_quotes_sell_no_car_that_is_in_the_feed(tmp_path: Path, redis_url: str) -> None:
    with scenario(tmp_path, redis_url) as dealer:
        assert counts(dealer.good_run()) == (4, 4, 0, 0)
        first, last = dealer.rows[0], dealer.rows[2]
        dealer.edits = (
            (f"{first['stock_no']};{first['branch']};", f'{first["stock_no"]};"{first["branch"]};'),
            (f"{last['stock_no']};{last['branch']};", f'{last["stock_no"]};{last["branch"]}";'),
        )
        assert counts(dealer.good_run("full"))[2:] == (0, 0)


def test_a_row_whose_columns_are_unknown_makes_the_sells_wait(tmp_path: Path, redis_url: str) -> None:
    with scenario(tmp_path, redis_url) as dealer:
        assert counts(dealer.good_run()) == (4, 4, 0, 0)
        make = dealer.rows[0]["make"]
        dealer.edits = ((f";{make};", f';"{make}" "a;b";'),)
        dealer.rows.pop()
        document = dealer.good_run()
        assert counts(document) == (3, 0, 0, 1)
        assert document["listings"]["sells_waiting"] == 2
