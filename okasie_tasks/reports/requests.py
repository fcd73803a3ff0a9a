"""What became of a request of an application or a person, as a document."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.reports.listing import iso

if TYPE_CHECKING:
    from okasie_tasks.store.history import History
    from okasie_tasks.store.requests import Requests

_POLL_SECONDS: Final = 0.05


def request_document(requests: Requests, request: str, *, history: Callable[[str], History]) -> dict[str, Any] | None:
    """Return the document of a request; None for an id that is not known.

    ``state``: ``waiting`` or ``done``. ``outcomes``: by reference. ``run``: the run that a sync became. ``error``: why
    the request as a whole was not executed. ``history``: that of an account, by its name.
    """
    state = requests.state(request)
    if state is None:
        return None
    links = history(state.account).links(list(state.outcomes)) if state.account else {}
    return {
        "request": request,
        "kind": state.kind or None,
        "account": state.account or None,
        "by": state.by or None,
        "accepted_at": iso(state.accepted_ms),
        "state": state.state,
        "outcomes": {
            name: {**outcome._asdict(), "listing_url": links.get(name)} for name, outcome in state.outcomes.items()
        },
        "run": state.run,
        "error": state.error,
    }


def wait_until_done(requests: Requests, request: str, *, seconds: float) -> None:
    """Wait until a request is done or its record is gone, at most ``seconds``."""
    deadline = time.monotonic() + seconds
    while (state := requests.state(request)) is not None and state.state == "waiting":
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(_POLL_SECONDS, left))
