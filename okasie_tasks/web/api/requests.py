"""What became of a request."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool

from okasie_tasks.reports.requests import request_document
from okasie_tasks.web.api import models
from okasie_tasks.web.api.caller import Call, Caller, CallerRoute
from okasie_tasks.web.api.errors import RESPONSES, Refused

routes = APIRouter(route_class=CallerRoute, prefix="/requests", tags=["requests"], responses=RESPONSES)
_LONGEST: Final = 60.0
_POLL_SECONDS: Final = 0.05


@routes.get("/{request}", response_model=models.RequestState)
async def request(
    call: Caller,
    request: Annotated[str, Path(max_length=100)],
    wait: Annotated[float, Query(ge=0, le=_LONGEST, description="Seconds to wait until it is done.")] = 0.0,
) -> Any:
    """Return what has become of a request so far, or once it is done. Its record is kept for 24 h."""
    deadline = time.monotonic() + wait
    while True:
        # Waiting occupies no thread.
        document = await run_in_threadpool(_document, call, request)
        left = deadline - time.monotonic()
        if document["state"] == "done" or left <= 0:
            return document
        await asyncio.sleep(min(_POLL_SECONDS, left))


def _document(call: Call, request: str) -> dict[str, Any]:
    services = call.services
    document = request_document(services.pushes, request, history=services.history)
    if document is None or not _may_see(call, document):
        raise Refused(404, "there is no such request; records are kept for 24 h", where="request")
    return document


def _may_see(call: Call, document: dict[str, Any]) -> bool:
    """A program that may only push sees its own requests."""
    account = document["account"] or ""
    mine: bool = document["by"] == call.by
    return call.identity.sees(account) and (mine or call.identity.may_read(account))
