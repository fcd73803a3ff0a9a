"""Runs: their documents, and the decisions about them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from okasie_tasks.actions import plans
from okasie_tasks.actions import runs as actions
from okasie_tasks.reports.runs import run_details, run_document
from okasie_tasks.store.records import Run
from okasie_tasks.web.api import models
from okasie_tasks.web.api.caller import Call, Caller, CallerRoute
from okasie_tasks.web.api.errors import RESPONSES, Refused
from okasie_tasks.web.api.idempotency import OnlyOnce

routes = APIRouter(route_class=CallerRoute, prefix="/runs/{run}", tags=["runs"], responses=RESPONSES)
RunId = Annotated[str, Path(max_length=40)]


@routes.get("", response_model=models.Run)
def run(call: Caller, run: RunId) -> Any:
    """What `okasie run --json` says."""
    record = _found(call, run)
    call.to_read(record.account)
    return run_details(call.services, record)


@routes.post("/cancel", response_model=models.Run)
def cancel(call: Caller, once: OnlyOnce, run: RunId) -> Any:
    """Cancel the run: at once if it is queued, else after its requests in flight."""
    record = _to_operate(call, run)
    return once.run(
        None, lambda: run_document(call.services.runs, actions.cancel(call.services, record.id, by=call.by))
    )


@routes.post("/approve", status_code=202, response_model=models.Started)
def approve(call: Caller, once: OnlyOnce, run: RunId) -> Any:
    """Send the held plan of the run, if it has not changed. 409 when it is outdated: nothing is sent then."""
    record = _to_operate(call, run)
    return once.run(None, lambda: {"run": plans.approve(call.services, record.id, by=call.by)})


@routes.post("/reject", response_model=models.Run)
def reject(call: Caller, once: OnlyOnce, run: RunId) -> Any:
    """Drop the held plan of the run; later runs plan again."""
    record = _to_operate(call, run)

    def dropped() -> dict[str, Any]:
        plans.reject(call.services, record.id, by=call.by)
        return run_document(call.services.runs, call.services.runs.get(record.id) or record)

    return once.run(None, dropped)


def _to_operate(call: Call, name: str) -> Run:
    record = _found(call, name)
    call.to_operate(record.account)
    return record


def _found(call: Call, name: str) -> Run:
    """Return a run by its whole id. One of an account that the caller must not see is as unknown as any other."""
    record = call.services.runs.get(name.upper())
    if record is None or not call.identity.sees(record.account):
        raise Refused(404, f"there is no run {name!r:.60}", where="run")
    return record
