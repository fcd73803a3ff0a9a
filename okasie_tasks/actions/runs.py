"""Starts runs, finds them by the beginning of their id, and cancels them."""

from __future__ import annotations

from typing import Any, Final

from okasie_tasks.actions.sending import cleaned_name, notify, redis_errors, send
from okasie_tasks.client import TRY_SECONDS
from okasie_tasks.errors import ConfigurationError, OkasieError
from okasie_tasks.services import Services
from okasie_tasks.store.records import KEEP_RUNS, Run
from okasie_tasks.sync import phases

LEAST: Final = 12
"""Characters of a run's id that a decision needs: the first ten are only its time."""
_ID_CHARACTERS: Final = 26
_NAMED: Final = 3


@redis_errors()
def start(
    services: Services,
    account: str,
    mode: str,
    *,
    by: str,
    plan_only: bool = False,
    approves: str = "",
    try_seconds: float = TRY_SECONDS,
) -> str:
    """Request a run and return its id at once; ``approves``: the run whose held plan it sends.

    Raises `OkasieError` (``busy``) when another run is queued that this one cannot be merged into.
    """
    ctx = services.context(account)
    phases.check_mode(mode)
    run, _ = ctx.runs.request(account, mode, plan_only=plan_only, approves=approves)
    if not run:
        raise OkasieError(
            "another run of this account is already queued; try again when it has started",
            where=account,
            code="busy",
        )
    ctx.runs.note_once(run, "requested_by", cleaned_name(by))
    if approves:
        ctx.runs.note(run, approved_by=cleaned_name(by))
    kwargs = {"account": account, "mode": mode, "requested": True}
    summary = f"{account}: {mode} {'plan' if plan_only else 'run'}, by {cleaned_name(by)}"
    send(services, "okasie.sync", kwargs, summary, by=by, try_seconds=try_seconds)
    return run


@redis_errors()
def find_run(services: Services, prefix: str, *, least: int = 1, hint: str = "`okasie runs ACCOUNT` lists them") -> Run:
    """Return the run whose id begins with ``prefix``, which has at least ``least`` characters, in any case.

    Raises `ConfigurationError` if there is none, or more than one; ``hint`` ends the text.
    """
    name = prefix.strip().upper()
    record = services.runs.get(name) if len(name) == _ID_CHARACTERS else None
    if record is not None:
        return record
    found = _runs_beginning_with(services, name) if name else []
    if len(found) > 1:
        named = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
        raise ConfigurationError(f"{len(found)} runs begin with {prefix!r:.60}: {named}", where="run")
    if found and len(name) < least:
        raise ConfigurationError(
            f"expected at least {least} characters of the run's id, got {len(name)}; it may be {found[0]}", where="run"
        )
    record = services.runs.get(found[0]) if found else None
    if record is None:
        raise ConfigurationError(f"no run {prefix!r:.60}; {hint}", where="run")
    return record


def _runs_beginning_with(services: Services, name: str) -> list[str]:
    accounts = services.settings.accounts
    return [run for account in accounts for run in services.runs.history(account, KEEP_RUNS) if run.startswith(name)]


@redis_errors()
def cancel(services: Services, run: str, *, by: str) -> Run:
    """Cancel a run and return its record: a queued one has ended, a running one ends after its requests in flight.

    Raises `ConfigurationError` for a run that has ended.
    """
    record = find_run(services, run, least=LEAST)
    ctx = services.context(record.account)
    _require_open(ctx.runs.controls.cancel(record.id, record.account), record.id)
    ctx.runs.note_once(record.id, "cancelled_by", cleaned_name(by))
    return settle(services, record, by=by)


@redis_errors()
def settle(services: Services, record: Run, *, by: str) -> Run:
    """End a cancelled run if no request is in flight, let the next one begin, and return the record as it is then.

    The workers do the same; this is for the case that none is running. Raises `ConfigurationError` if its last part
    ended first, or failed.
    """
    ctx, account = services.context(record.account), record.account
    if phases.advance(ctx, record.id) is None:
        return record
    if ctx.runs.waiting(account):
        kwargs: dict[str, Any] = {"account": account, "requested": True}
        notify(services, "okasie.sync", kwargs, f"{account}: the run that waits, by {cleaned_name(by)}")
    ended = ctx.runs.get(record.id)
    if ended is None or ended.state != "cancelled":
        _require_open(ended.state if ended else "", record.id)
    return ended or record


def _require_open(state: str, name: str) -> None:
    """Raises `ConfigurationError` unless a run in this state can be cancelled."""
    if state in ("queued", "running"):
        return
    held = f"the run is held: `okasie reject {name}` drops its plan"
    raise ConfigurationError(held if state == "held" else f"the run has ended: {state or 'deleted'}", where=name)
