"""Ending a run and stopping an account. What of these commands needs Redis and Celery."""

from __future__ import annotations

import time
from typing import Any, Final

from kombu.exceptions import OperationalError

from okasie_tasks.celery import app
from okasie_tasks.cli.follow import known_run, services_of
from okasie_tasks.cli.options import Context
from okasie_tasks.cli.output import say
from okasie_tasks.errors import FixConfiguration
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.runs import run_document
from okasie_tasks.sync import phases

_POLL_SECONDS: Final = 0.1


def cancel(context: Context, name: str) -> dict[str, Any]:
    """End a run and wait for its requests in flight; its document. Raises `FixConfiguration` for one that is over."""
    services = services_of(context)
    record = known_run(services, name)
    tools = services.tools(record.account)
    _open(tools.runs.stops.cancel(name, record.account), name)
    told = False
    # It ends here if no worker is left to end it.
    while phases.advance(tools, name) is None:
        if not told:
            told = True
            say("waiting for the requests in flight; Ctrl-C ends the waiting only")
        time.sleep(_POLL_SECONDS)
    if tools.runs.waiting(record.account):
        _send("okasie.sync", account=record.account, requested=True)
    ended = tools.runs.get(name)
    if ended is None or ended.state != "cancelled":
        # Its last part was faster, or failed.
        _open(ended.state if ended else "", name)
    assert ended is not None  # noqa: S101 - it was cancelled a moment ago
    return run_document(tools.runs, ended)


def _open(state: str, name: str) -> None:
    if state in ("queued", "running"):
        return
    more = f": `okasie reject {name}` drops what it holds" if state == "held" else ", there is nothing left to end"
    raise FixConfiguration(f"the run is {state or 'gone'}{more}", where=name)


def pause(context: Context, account: str) -> dict[str, Any]:
    """Stop the account's work."""
    tools = services_of(context).tools(account)
    before = tools.runs.stops.paused_ms(account)
    since = tools.runs.stops.pause(account)
    return {
        "account": account,
        "paused_since": iso(since),
        "was_paused": bool(before),
        "active": tools.runs.active(account),
        "waiting": tools.runs.waiting(account),
        "pushes_waiting": tools.inbox.count(),
    }


def resume(context: Context, account: str) -> dict[str, Any]:
    """Let the account's work go on."""
    tools = services_of(context).tools(account)
    since = tools.runs.stops.resume(account)
    if since:
        _send("okasie.resume", account=account)
    return {
        "account": account,
        "paused_since": None,
        "was_paused_since": iso(since),
        "active": tools.runs.active(account),
        "waiting": tools.runs.waiting(account),
        "pushes_waiting": tools.inbox.count(),
    }


def _send(task: str, **kwargs: Any) -> None:
    """Tell the workers; when the broker does not take it, the watchdog finds the same within a minute."""
    try:
        app.send_task(task, kwargs=kwargs, expires=3600)
    except OperationalError:
        say("the broker did not take the message; the watchdog will see to it")
