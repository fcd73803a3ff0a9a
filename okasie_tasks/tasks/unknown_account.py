"""Answers a message for an account that this worker's configuration does not have.

The configuration was changed while the worker ran, or another host has another one. The caller waits for an answer, and
this worker cannot tell whether another one knows the account. The message is counted as a discarded request.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from okasie_tasks.celery import app
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
    return _context(account, lambda: _fail_run(account, run))


def context_of_push(account: str, push: str, references: object) -> AccountContext:
    """Return the account's context.

    Raises `ConfigurationError` for an unknown account, and records the outcome ``failed`` for each reference.
    """
    return _context(account, lambda: _fail_push(account, push, references))


def context_of_request(account: str) -> AccountContext:
    """Return the account's context, for a request without a result. Raises `ConfigurationError` for an unknown one."""
    return _context(account, lambda: _discard(account))


def _context(account: str, answer: Callable[[], object]) -> AccountContext:
    """Return the account's context. Calls ``answer`` for an unknown account."""
    try:
        return services().context(account)
    except ConfigurationError as error:
        if error.code == UNKNOWN_ACCOUNT:
            answer()
        raise


def _message(account: str) -> str:
    known = ", ".join(sorted(services().settings.accounts)) or "none"
    return (
        f"the worker on {socket.gethostname()} does not know the account {account!r:.60}, only {known}: its"
        " configuration lacks it; send SIGHUP to `okasie up`, or restart the workers, and try again"
    )


def _discard(account: str, **facts: str) -> str:
    """Log and count the message of the current task; returns the answer for its caller.

    ``account``: as it is in the message, of any type. ``facts``: for the log.
    """
    message, task = _message(account), app.current_worker_task
    log.error("unknown account", account=account, **facts, reason=message)
    name, task_id = (task.name or "", str(task.request.id)) if task is not None else ("", "")
    services().discarded.add("unknown_account", task=name, task_id=task_id, account=str(account), reason=message)
    return message


def _fail_run(account: str, name: str) -> None:
    runs = services().runs
    run = runs.get(name or runs.waiting(str(account)) or "")
    ours = run is not None and run.open and run.account == account
    if name and not ours:
        return  # the other messages of a run that ended
    message = _discard(account, run=run.id if run is not None else "")
    if run is not None and ours:
        runs.note_once(run.id, "error", json.dumps({"code": UNKNOWN_ACCOUNT, "message": message, "where": None}))
        runs.end(run, "failed")
        RUN_EVENTS.publish(runs, run.id, now=True)


def _fail_push(account: str, push: str, references: object) -> None:
    message, pushes = _discard(account, push=push), services().pushes
    at_ms = pushes.receive(push)
    given = references if isinstance(references, list) else []
    names = [name for name in given if isinstance(name, str) and parse_reference(name) == name]
    if at_ms and names:
        pushes.record({push: {name: PushOutcome(outcome="failed", at_ms=at_ms, message=message) for name in names}})
        pushes.expect(push, names)
    elif at_ms:
        pushes.fail(push, message)
