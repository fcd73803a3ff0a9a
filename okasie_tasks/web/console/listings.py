"""The search of listings, and the page of one: where it stands, both sides, its history, push and sell."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response

from okasie_tasks.actions.requests import preview, push, sell
from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.listing import parse_reference
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.listings import STATES, listings_document
from okasie_tasks.reports.preview import preview_document
from okasie_tasks.reports.requests import request_document
from okasie_tasks.web.console.page import ConsoleRoute, Form, Opened, Page, Sent

_PAGE: Final = 50
Reference = Annotated[str, Query(max_length=200)]
routes = APIRouter(route_class=ConsoleRoute)


@routes.get("/accounts/{account}/listings")
def listings_page(
    page: Opened, account: str, search: Reference = "", status: str = "", after: Reference = ""
) -> Response:
    ctx = page.of_account(account)
    wanted = (status,) if status in STATES else ()
    found = listings_document(ctx, search=search.strip(), status=wanted, after=after, limit=_PAGE)
    return page.show("listings.html", found=found, filter={"search": search, "status": status}, states=STATES)


@routes.get("/accounts/{account}/listing")
def listing_page(
    page: Opened, account: str, reference: Reference, request: Reference = "", sides: Reference = ""
) -> Response:
    """Show one listing. ``request``: a push or sell whose answer is shown; ``sides``: a preview that was asked for."""
    ctx = page.of_account(account)
    services = page.services
    asked = request_document(services.pushes, request, history=services.history) if request else None
    made_for = services.pushes.state(sides) if sides else None
    both = (preview_document(services, sides) or "waiting") if made_for and made_for.account == account else None
    mine = both if isinstance(both, dict) and both["reference"] == reference else None
    return page.show(
        "listing.html",
        why=why_document(ctx, reference),
        asked=asked if asked and asked["account"] == account else None,
        preview=mine or ("waiting" if both == "waiting" else None),
        sides=_sides(mine["source"] or {}, mine["marketplace"] or {}, mine["differs"]) if mine else [],
        faulty=[issue["field"] for issue in mine["source_issues"]] if mine else [],
    )


def _sides(
    source: dict[str, Any], marketplace: dict[str, Any], differs: Collection[str]
) -> list[tuple[str, Any, Any, bool]]:
    """Return the fields that either side has, in the order of the contract, and whether the two differ."""
    names = (name for name in FIELDS if name in source or name in marketplace)
    return [(name, source.get(name), marketplace.get(name), name in differs) for name in names]


@routes.get("/accounts/{account}/listing/{what}")
def ask_page(page: Opened, account: str, what: Literal["push", "sell"], reference: Reference) -> Response:
    """Show what is pushed or sold, and ask."""
    ctx = page.of_account(account)
    _require_sending(page, reference)
    return page.show("ask.html", what=what, why=why_document(ctx, reference))


@routes.post("/accounts/{account}/listing/{what}")
def act(page: Sent, account: str, what: Literal["push", "sell", "preview"], form: Form) -> Response:
    page.of_account(account)
    reference = form.get("reference", "")
    where = f"/accounts/{account}/listing"
    if what == "preview":
        return page.go(where, reference=reference, sides=preview(page.services, account, reference, by=page.by))
    _require_sending(page, reference)
    if what == "push":
        request = push(page.services, account, references=[reference], by=page.by)
    else:
        request = sell(page.services, account, [reference], by=page.by)
    return page.go(where, reference=reference, request=request)


def _require_sending(page: Page, reference: str) -> None:
    if not page.may_send:
        raise HTTPException(403)
    if parse_reference(reference) != reference:
        raise HTTPException(404)
