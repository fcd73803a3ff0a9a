"""Both sides of a listing, and the search, with real workers."""

from __future__ import annotations

import pytest
from celery import Celery

from okasie_tasks.reports.listings import listings_document
from okasie_tasks.reports.preview import preview_document
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.worker.settings import URGENT
from tests.support import poll
from tests.system.conftest import Fleet
from tests.system.test_push import change, price, url
from tests.system.test_why import CAR, edit

pytestmark = pytest.mark.system


def test_a_worker_reads_both_sides_of_a_listing_that_the_search_found(fleet: Fleet) -> None:
    fleet.place.sync("compared", "--full")
    fleet.place.sync("compared")
    edit(fleet, "compared", CAR, price=1)
    change(fleet.place, "compared", price(CAR, "4321"))
    services = Services(load_settings(fleet.place.folder / "okasie.toml"))
    (listed,) = listings_document(services.context("compared"), search=CAR.lower())["listings"]
    assert (listed["reference"], listed["state"], listed["status"]) == (CAR, "live", "active")
    assert CAR in {
        one["reference"]
        for one in listings_document(services.context("compared"), search=listed["title"][2:-2].upper())["listings"]
    }
    sender = Celery("theirs", broker=url(fleet).replace("unix://", "redis+socket://"), set_as_current=False)
    ids = {}
    for account, reference in (("compared", CAR), ("nobody", CAR), ("compared", "\n")):
        kwargs = {"account": account, "reference": reference}
        ids[account, reference] = sender.send_task("okasie.preview", kwargs=kwargs, queue=URGENT).id
    found = {key: poll(lambda task=task: preview_document(services, task), what=f"{key}") for key, task in ids.items()}  # type: ignore[misc]
    both = found["compared", CAR]
    assert (both["source"]["price"], both["marketplace"]["price"], both["differs"]) == (4321, 1, ["price"])
    assert "no account 'nobody'" in found["nobody", CAR]["source_problem"]
    assert "expected references" in found["compared", "\n"]["source_problem"]
