"""The rejected listings of an account, by reason, and their retry."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import Response

from okasie_tasks.actions.accounts import retry
from okasie_tasks.reports.rejects import kind_of, rejects_page
from okasie_tasks.web.console.page import ConsoleRoute, Form, Opened, Sent

_SHOWN: Final = 100
"""Rejects of one reason on the page."""
routes = APIRouter(route_class=ConsoleRoute)


@routes.get("/accounts/{account}/rejects")
def rejects(page: Opened, account: str) -> Response:
    found = rejects_page(page.of_account(account))
    return page.show("rejects.html", found=found, groups=[_group(group, found["rejects"]) for group in found["groups"]])


def _group(group: dict[str, Any], rejects: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [one for one in rejects if kind_of(one) == kind_of(group)]
    return {**group, "rejects": mine[:_SHOWN]}


@routes.post("/accounts/{account}/retry")
def retry_rejects(page: Sent, account: str, form: Form) -> Response:
    """Release one reject, or all."""
    page.to_operate(account)
    references = [form["reference"]] if form.get("reference") else []
    document = retry(page.services, account, references, by=page.by)
    return page.go(f"/runs/{document['run']}" if document["run"] else f"/accounts/{account}/rejects", done="retry")
