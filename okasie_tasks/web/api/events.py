"""Server-sent events: the progress of runs, plans that are held, rejects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from okasie_tasks.web.api.caller import Caller
from okasie_tasks.web.api.errors import RESPONSES, Refused
from okasie_tasks.web.events import stream

routes = APIRouter(tags=["events"], responses=RESPONSES)


class _Events(StreamingResponse):
    media_type = "text/event-stream"


@routes.get("/events", response_class=_Events)
def events(call: Caller, account: Annotated[str | None, Query(max_length=200)] = None) -> StreamingResponse:
    """Events of one account, or of all that the token may read: ``progress``, ``held``, ``rejects``.

    Each has a number as its id and one JSON document as its data. A comment is sent every 15 s.
    """
    if account is not None:
        call.to_read(account)
    elif call.identity.role == "push":
        raise Refused(403, f"the token {call.identity.name!r} has the role 'push'")
    names = [account] if account is not None else call.accounts
    return _Events(stream(call.services, names))
