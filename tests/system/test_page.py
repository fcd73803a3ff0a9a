"""``okasie run RUN`` and its page, of real runs: where the time went, the requests, what failed and why."""

from __future__ import annotations

import pytest

from tests.cli.test_html_report import Page
from tests.support import faults
from tests.system.conftest import CARS, Fleet, feed

pytestmark = pytest.mark.system


def test_a_run_as_a_page_of_text_and_of_html(fleet: Fleet) -> None:
    file = feed(fleet.place, "drawn")
    rows = file.read_text().splitlines()
    price = rows[0].split(";").index("price_eur")
    cells = rows[3].split(";")
    cells[price] = "<b>999</b>"
    file.write_text("\n".join([*rows[:3], ";".join(cells), *rows[4:]]) + "\n")
    faults(fleet.sandbox, {"kind": "500", "match": {"key": "drawn", "path": "bulk"}, "times": 1})
    status, document = fleet.place.sync("drawn", "--full")
    assert (status, document["state"]) == (4, "done")
    run, page = document["run"], fleet.place.folder / "run.html"
    found = fleet.place.okasie("run", run, "--html", str(page), "--json").document
    assert found["run"] == run
    assert [phase["phase"] for phase in found["timeline"]] == [
        "first page",
        "read the source",
        "compare",
        "send",
    ]
    assert sum(phase["seconds"] for phase in found["timeline"]) <= found["seconds"] + 0.01
    assert found["timeline"][3]["parts"][1] == {"stage": "upsert", "parts": 1, "closed": 1, "failed": 0}
    sent = sum(slot["requests"] for slot in found["requests_over_time"])
    assert sent == len(found["slowest_requests"]) == 3, "a page and two bulk calls"
    (failed,) = found["failed_requests"]
    assert (failed["status"], failed["items"]) == (500, CARS - 1)
    assert failed["where"].startswith("POST /listings/bulk-upsert")
    text = fleet.place.okasie("run", run).stdout
    for told in ("timeline", "quota", "slowest", f"request {failed['request_id']}", "<b>999</b>"):
        assert told in text
    html = page.read_text(encoding="utf-8")
    assert "<b>" not in html
    assert "got '<b>999</b>'" in Page(html).text
    assert failed["request_id"] in html


def test_a_file_that_cannot_be_written_is_said(fleet: Fleet) -> None:
    run = fleet.place.sync("drawn")[1]["run"]
    answer = fleet.place.okasie("run", run, "--html", "/nowhere/run.html")
    assert answer.status == 2
    assert "/nowhere/run.html" in answer.stderr
