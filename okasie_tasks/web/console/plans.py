"""The held plan of an account: its changes with old and new values, and the decision about it."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import Response

from okasie_tasks.actions.plans import approve, reject
from okasie_tasks.errors import PlanOutdated
from okasie_tasks.reports.held import held_plan_document
from okasie_tasks.web.console.page import ConsoleRoute, Form, Opened, Page, Sent

_SHOWN: Final = 200
"""Changes on one page; the filter finds the others."""
Decision = Literal["approve", "reject"]
routes = APIRouter(route_class=ConsoleRoute)


@routes.get("/accounts/{account}/plan")
def plan_page(page: Opened, account: str, search: str = "", dealer: str = "", kind: str = "") -> Response:
    plan = held_plan_document(page.of_account(account))
    wanted = {"search": search, "dealer": dealer, "kind": kind}
    items = [item for item in plan["items"] if _fits(item, **wanted)] if plan else []
    groups = plan["groups"] if plan else []
    return page.show(
        "plan.html",
        plan=plan,
        items=items[:_SHOWN],
        found=len(items),
        filter=wanted,
        dealers={group["dealer"]: group["dealer_name"] or group["dealer"] for group in groups if group["dealer"]},
        kinds=list(dict.fromkeys(group["kind"] for group in groups)),
    )


def _fits(item: dict[str, Any], *, search: str, dealer: str, kind: str) -> bool:
    text = f"{item['reference']} {item['title'] or ''}".casefold()
    return search.casefold().strip() in text and dealer in ("", item["dealer"]) and kind in ("", item["kind"])


@routes.get("/accounts/{account}/plan/{decision}")
def decision_page(page: Opened, account: str, decision: Decision, run: str) -> Response:
    """Show what is sent, or dropped, and ask."""
    page.to_operate(account)
    plan = held_plan_document(page.services.context(account))
    if plan is None or plan["run"] != run:
        return _outdated(page, account, "")
    return page.show("decide.html", plan=plan, decision=decision)


@routes.post("/accounts/{account}/plan/{decision}")
def decide(page: Sent, account: str, decision: Decision, form: Form) -> Response:
    """Approve or reject the plan that was shown: the form names its run."""
    page.to_operate(account)
    run = form.get("run", "")
    plan = held_plan_document(page.services.context(account))
    if plan is None or plan["run"] != run:
        return _outdated(page, account, "")
    try:
        if decision == "approve":
            return page.go(f"/runs/{approve(page.services, run, by=page.by)}", done="approved")
        reject(page.services, run, by=page.by)
    except PlanOutdated as error:
        return _outdated(page, account, str(error))
    return page.go(f"/accounts/{account}", done="dropped")


def _outdated(page: Page, account: str, message: str) -> Response:
    plan = held_plan_document(page.services.context(account))
    return page.show("outdated.html", answer=409, plan=plan, message=message)
