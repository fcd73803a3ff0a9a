"""Whole runs over XML, XLSX and JSON feeds: the same cars, the same changes, and a damaged feed that sells nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from okasie_tasks.reports.runs import run_document
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from tests.sources.formats import workbook
from tests.sync.http_scenario import ACCOUNT, HttpScenario, Row, varied

_ROWS = 40


def as_xml(rows: list[Row]) -> bytes:
    cars = "".join(
        f"<car>{''.join(f'<{name}>{escape(cell)}</{name}>' for name, cell in row.items())}</car>\n" for row in rows
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<export><cars>\n{cars}</cars></export>\n'.encode()


def as_json(rows: list[Row]) -> bytes:
    return json.dumps({"page": 1, "cars": {row["stock_no"]: row for row in rows}}).encode()


def as_xlsx(rows: list[Row]) -> bytes:
    columns = list(rows[0])
    return workbook({"Cars": [columns, *([row[column] for column in columns] for row in rows)]})


FORMATS = {"xml": (as_xml, 'items = "export/cars/car"'), "json": (as_json, 'items = "cars"'), "xlsx": (as_xlsx, "")}


class Scenario(HttpScenario):
    """`HttpScenario` with a feed in another format. ``damage``: how many bytes are missing at its end."""

    kind = "xml"
    damage = 0

    def use(self, kind: str) -> None:
        self.kind = kind
        config = self.folder / "okasie.toml"
        text = config.read_text().replace('type = "csv"', f'type = "{kind}"\n{FORMATS[kind][1]}')
        config.write_text(text.replace('url = "feed.csv"', f'url = "feed.{kind}"').replace('delimiter = ";"\n', ""))
        self.services.redis.close()
        self.services = Services(load_settings(config, environ={}))
        self.ctx = self.services.context(ACCOUNT)

    def _write_feed(self) -> None:
        data = FORMATS[self.kind][0](self.rows)
        part = self.folder / "feed.part"
        part.write_bytes(data[: len(data) - self.damage])
        written = time.time() - 10  # a run reads it at once
        os.utime(part, (written, written))
        part.replace(self.folder / f"feed.{self.kind}")


@pytest.fixture(params=FORMATS)
def scenario(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Scenario]:
    with Scenario(tmp_path, redis_url, rows=varied(_ROWS, seed=7)) as open_:
        open_.use(request.param)
        yield open_


def test_a_feed_is_synced_and_a_cut_one_sells_nothing(scenario: Scenario) -> None:
    first = scenario.good_run()
    assert first["listings"]["created"] == _ROWS
    assert scenario.standing() == scenario.wanted()
    assert scenario.good_run()["listings"]["unchanged"] == _ROWS

    scenario.rows = scenario.rows[: _ROWS // 2]
    scenario.rows[0]["price_eur"] = str(int(scenario.rows[0]["price_eur"]) + 100)
    scenario.damage = 8
    cut = run_document(scenario.ctx.runs, scenario.run())
    assert (cut["state"], len(scenario.standing())) == ("failed", _ROWS)
    assert f"feed.{scenario.kind}" in cut["error"]["where"]

    scenario.damage = 0
    last = scenario.good_run()
    assert (last["listings"]["sold"], last["listings"]["updated"]) == (_ROWS // 2, 1)
    assert scenario.standing() == scenario.wanted()
