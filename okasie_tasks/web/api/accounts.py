"""Accounts: their state, runs, listings, rejects and held plan; and what an operator or a program asks for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from okasie_tasks.actions import accounts as actions
from okasie_tasks.actions import requests
from okasie_tasks.reports.attention import attention_document
from okasie_tasks.reports.held import held_plan_document
from okasie_tasks.reports.listing import why_document
from okasie_tasks.reports.listings import listings_document
from okasie_tasks.reports.rejects import rejects_page
from okasie_tasks.reports.runs import account_document, runs_document
from okasie_tasks.web.api import models
from okasie_tasks.web.api.caller import Call, Caller, CallerRoute
from okasie_tasks.web.api.errors import RESPONSES, Refused
from okasie_tasks.web.api.idempotency import OnlyOnce

routes = APIRouter(route_class=CallerRoute, prefix="/accounts", tags=["accounts"], responses=RESPONSES)
Account = Annotated[str, Path(max_length=200)]
_MOST = 200


@routes.get("", response_model=models.Accounts)
def accounts(call: Caller) -> Any:
    """The accounts that the token may see, and what waits for a person."""
    if call.identity.role == "push":
        raise Refused(403, f"the token {call.identity.name!r} has the role 'push'")
    found = [_account(call, name) for name in call.accounts]
    attention = attention_document(call.services, call.accounts)
    if call.identity.accounts is not None:
        attention = [entry for entry in attention if entry["account"] is not None]
    return {"accounts": found, "attention": attention}


@routes.get("/{account}", response_model=models.Account)
def account(call: Caller, account: Account) -> Any:
    """What `okasie status --json` says of the account."""
    call.to_read(account)
    return _account(call, account)


def _account(call: Call, name: str) -> dict[str, Any]:
    return account_document(call.services.context(name), call.services.limiter(name).status())


@routes.get("/{account}/runs", response_model=models.Runs)
def runs(
    call: Caller, account: Account, after: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 20,
) -> Any:  # fmt: skip
    """The runs of the account, newest first. ``after``: ``next`` of the page before."""
    call.to_read(account)
    return runs_document(call.services, account, limit, after)


@routes.get("/{account}/listings", response_model=models.Listings)
def listings(
    call: Caller,
    account: Account,
    *,
    search: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[list[str] | None, Query(max_length=20)] = None,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
) -> Any:
    """Listings by reference. ``search``: part of a title, VIN or reference. ``status``: once or several times."""
    return listings_document(call.to_read(account), search=search, status=status or (), after=after, limit=limit)


@routes.get("/{account}/listings/{reference:path}", response_model=models.Listing)
def listing(call: Caller, account: Account, reference: Annotated[str, Path(max_length=200)]) -> Any:
    """What `okasie why --json` says of the listing. An unknown reference has nulls and no events."""
    return why_document(call.to_read(account), reference)


@routes.get("/{account}/rejects", response_model=models.Rejects)
def rejects(call: Caller, account: Account) -> Any:
    """What is rejected now, and the same grouped by reason."""
    return rejects_page(call.to_read(account))


@routes.get("/{account}/plan", response_model=models.Plan)
def plan(call: Caller, account: Account) -> Any:
    """What is held, with old and new values."""
    found = held_plan_document(call.to_read(account))
    return found or {"account": account, "run": None, "holds": [], "items": [], "items_left_out": 0}


# -- what programs ask for -----------------------------------------------------------------------------------------


@routes.post("/{account}/sync", status_code=202, response_model=models.Accepted)
def sync(call: Caller, once: OnlyOnce, account: Account, body: models.SyncRequest | None = None) -> Any:
    """Request a run. One that has not begun to read is joined."""
    call.to_send(account)
    mode = (body or models.SyncRequest()).mode
    return once.send(
        {"mode": mode}, lambda request: requests.sync(call.services, account, mode, by=call.by, request_id=request)
    )


@routes.post("/{account}/push", status_code=202, response_model=models.Accepted)
def push(call: Caller, once: OnlyOnce, account: Account, body: models.PushRequest) -> Any:
    """Send listings now, ahead of any run."""
    call.to_send(account)

    def stored(request: str | None) -> str:
        return requests.push(
            call.services, account, references=body.references, listings=body.listings, version=body.version,
            by=call.by, request_id=request,
        )  # fmt: skip

    return once.send(body.model_dump(), stored)


@routes.post("/{account}/sell", status_code=202, response_model=models.Accepted)
def sell(call: Caller, once: OnlyOnce, account: Account, body: models.SellRequest) -> Any:
    """Mark listings sold now."""
    call.to_send(account)
    return once.send(
        body.model_dump(),
        lambda request: requests.sell(call.services, account, body.references, by=call.by, request_id=request),
    )


# -- what operators decide -----------------------------------------------------------------------------------------


@routes.post("/{account}/pause", response_model=models.Paused)
def pause(call: Caller, once: OnlyOnce, account: Account) -> Any:
    """Stop all work of the account."""
    call.to_operate(account)
    return once.run(None, lambda: actions.pause(call.services, account, by=call.by))


@routes.post("/{account}/resume", response_model=models.Paused)
def resume(call: Caller, once: OnlyOnce, account: Account) -> Any:
    """Resume the account."""
    call.to_operate(account)
    return once.run(None, lambda: actions.resume(call.services, account, by=call.by))


@routes.post("/{account}/retry", status_code=202, response_model=models.Retried)
def retry(call: Caller, once: OnlyOnce, account: Account, body: models.RetryRequest | None = None) -> Any:
    """Send refused listings again, these or all."""
    call.to_operate(account)
    references = (body and body.references) or []
    return once.run(references, lambda: actions.retry(call.services, account, references, by=call.by))
