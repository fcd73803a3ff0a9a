"""Answers a message for an account that this worker's configuration does not have.

The configuration was changed while the worker ran, or another host has another one. The caller waits for an answer, and
this worker cannot tell whether another one knows the account.
"""

from __future__ import annotations

import json
import socket

from okasie_tasks.core.listing import parse_reference
from okasie_tasks.core.pending import PushOutcome
from okasie_tasks.errors import UNKNOWN_ACCOUNT, ConfigurationError
from okasie_tasks.logs import get_logger
from okasie_tasks.services import services
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.tasks.dispatch import RUN_EVENTS

log = get_logger(__name__)


def context_of_run(account: str, run: str = "") -> AccountContext:
    """Return the account's context.

    Raises `ConfigurationError` for an unknown account, and ends ``run``, or without one the account's waiting run.
    """
    try:
        return services().context(account)
    except ConfigurationError as error:
        if error.code == UNKNOWN_ACCOUNT and isinstance(account, str):
            _fail_run(account, run or services().runs.waiting(account) or "")
        raise


def context_of_push(account: str, push: str, references: object) -> AccountContext:
    """Return the account's context.

    Raises `ConfigurationError` for an unknown account, and records the outcome ``failed`` for each reference.
    """
    try:
        return services().context(account)
    except ConfigurationError as error:
        if error.code == UNKNOWN_ACCOUNT:
            _fail_push(account, push, references)
        raise


def _message(account: str) -> str:
    known = ", ".join(sorted(services().settings.accounts)) or "none"
    return (
        f"the worker on {socket.gethostname()} does not know the account {account!r:.60}, only {known}: its"
        " configuration lacks it; send SIGHUP to `okasie up`, or restart the workers, and try again"
    )


def _fail_run(account: str, name: str) -> None:
    message, runs = _message(account), services().runs
    log.error("unknown account", account=account, run=name, reason=message)
    run = runs.get(name) if name else None
    if run is None or not run.open or run.account != account:
        return
    runs.note_once(name, "error", json.dumps({"code": UNKNOWN_ACCOUNT, "message": message, "where": None}))
    runs.end(run, "failed")
    RUN_EVENTS.publish(runs, name, now=True)


def _fail_push(account: str, push: str, references: object) -> None:
    message, pushes = _message(account), services().pushes
    log.error("unknown account", account=account, push=push, reason=message)
    at_ms = pushes.receive(push)
    given = references if isinstance(references, list) else []
    names = [name for name in given if isinstance(name, str) and parse_reference(name) == name]
    if at_ms and names:
        pushes.record({push: {name: PushOutcome(outcome="failed", at_ms=at_ms, message=message) for name in names}})
    elif at_ms:
        pushes.fail(push, message)
