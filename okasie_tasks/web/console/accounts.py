"""The overview, and the page of an account: its runs, what it does now, sync, pause and resume."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from okasie_tasks.actions.accounts import pause, resume
from okasie_tasks.actions.requests import sync
from okasie_tasks.reports.attention import attention_document
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.runs import account_document, progress_document, runs_document
from okasie_tasks.web.console.page import ConsoleRoute, Form, Opened, Sent

_RUNS: Final = 20
routes = APIRouter(route_class=ConsoleRoute)


@routes.get("/")
def overview(page: Opened) -> Response:
    services = page.services
    attention = attention_document(services, page.accounts)
    accounts = [account_document(services.context(n), services.limiter(n).status()) for n in page.accounts]
    return page.show(
        "overview.html",
        accounts=accounts,
        guards={one["account"]: list(dict.fromkeys(hold["guard"] for hold in one["held"])) for one in accounts},
        attention=[entry for entry in attention if entry["account"] or page.sees_all],
        missing=not services.workers.live(),
        zones=page.zones(),
    )


@routes.get("/accounts/{account}")
def account_page(page: Opened, account: str, after: str = "") -> Response:
    ctx = page.of_account(account)
    status = account_document(ctx, page.services.limiter(account).status())
    found = runs_document(page.services, account, limit=_RUNS, after=after)
    active, good = (ctx.runs.get(name) if name else None for name in (status["active"], status["last_success_run"]))
    return page.show(
        "account.html",
        status=status,
        runs=found["runs"],
        older=found["next"],
        running=progress_document(ctx, active) if active is not None and active.open else None,
        last_success=iso(good.ended_ms) if good is not None else None,
    )


@routes.post("/accounts/{account}/sync")
def sync_account(page: Sent, account: str, form: Form) -> Response:
    page.of_account(account)
    if not page.may_send or form.get("mode") not in ("incremental", "full"):
        raise HTTPException(403)
    sync(page.services, account, form["mode"], by=page.by)
    return page.go(f"/accounts/{account}", done="sync")


@routes.post("/accounts/{account}/pause")
def pause_account(page: Sent, account: str) -> Response:
    page.to_operate(account)
    pause(page.services, account, by=page.by)
    return page.go(f"/accounts/{account}", done="paused")


@routes.post("/accounts/{account}/resume")
def resume_account(page: Sent, account: str) -> Response:
    page.to_operate(account)
    resume(page.services, account, by=page.by)
    return page.go(f"/accounts/{account}", done="resumed")
