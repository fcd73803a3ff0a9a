"""Server-sent events: the progress of runs, plans that are held, rejects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from okasie_tasks.web.api.caller import Caller, CallerRoute
from okasie_tasks.web.api.errors import RESPONSES, Refused
from okasie_tasks.web.events import Streams, stream

routes = APIRouter(route_class=CallerRoute, tags=["events"], responses=RESPONSES)


class _Events(StreamingResponse):
    """Calls ``ended`` when the client is gone, too."""

    media_type = "text/event-stream"
    ended: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended()


@routes.get("/events", response_class=_Events)
def events(call: Caller, account: Annotated[str | None, Query(max_length=200)] = None) -> StreamingResponse:
    """Events of one account, or of all that the token may read: ``progress``, ``held``, ``rejects``.

    Each has a number as its id and one JSON document as its data. A comment is sent every 15 s. The stream ends after
    10 min: clients reconnect. A token has 20 streams at most.
    """
    if account is not None:
        call.to_read(account)
    elif call.identity.role == "push":
        raise Refused(403, f"the token {call.identity.name!r} has the role 'push'")
    names = [account] if account is not None else call.accounts
    streams: Streams = call.request.app.state.streams
    if not streams.opened(call.identity.name):
        raise Refused(429, f"the token {call.identity.name!r} has too many streams open", code="too_many_streams")
    response = _Events(stream(call.services, names))
    response.ended = partial(streams.closed, call.identity.name)
    return response
