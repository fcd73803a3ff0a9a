"""The page of a run: the report of ``okasie run --html``, live while it works."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from okasie_tasks.actions.runs import cancel, find_run
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.reports import charts
from okasie_tasks.reports.runs import progress_document, run_details
from okasie_tasks.store.records import Run
from okasie_tasks.web.console.page import ConsoleRoute, Opened, Page, Sent

routes = APIRouter(route_class=ConsoleRoute)


@routes.get("/runs/{run}")
def run_page(page: Opened, run: str) -> Response:
    record = _run(page, run)
    document = run_details(page.services, record)
    ctx = page.services.context(record.account)
    return page.show(
        "run.html",
        run=document,
        running=progress_document(ctx, record) if record.open else None,
        timeline=charts.timeline(document["timeline"]),
        use=charts.use(document["requests_over_time"]),
    )


@routes.post("/runs/{run}/cancel")
def cancel_run(page: Sent, run: str) -> Response:
    record = _run(page, run)
    page.to_operate(record.account)
    cancel(page.services, record.id, by=page.by)
    return page.go(f"/runs/{record.id}", done="cancelled")


def _run(page: Page, name: str) -> Run:
    """Return the record of a run, if the person may see its account."""
    try:
        record = find_run(page.services, name)
    except ConfigurationError:
        raise HTTPException(404) from None
    page.of_account(record.account)
    return record
