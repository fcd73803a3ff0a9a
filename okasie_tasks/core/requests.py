"""What became of a request to the workers, read from its record.

The record is a hash in Redis: the producer writes ``task``, ``account``, ``by`` and ``made``, the workers ``at``,
``run``, ``expects``, ``error`` and one field ``={reference}`` for each outcome. `okasie_tasks.client` reads it too, so
this module needs nothing but the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

KEEP_REQUEST_SECONDS: Final = 24 * 3600
"""How long a record is kept after its last change."""
OUTCOME: Final = "="
"""Begins the field of a reference's outcome."""
_WITHDRAWN: Final = "no worker took it up; it was withdrawn, nothing was sent"
_OPEN_RUNS: Final = ("queued", "running")


class Outcome(NamedTuple):
    """What became of one listing.

    ``outcome``: ``created``, ``updated``, ``sold``, ``rejected``, ``not_found``, ``overtaken``, ``failed`` or
    ``waiting``. ``message``: the reason, if there is one. ``fields``: those that were refused. ``warnings``: what was
    left out of the listing or cut.
    """

    outcome: str
    message: str | None = None
    fields: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class RequestState(NamedTuple):
    """One request and its outcomes, by reference.

    ``run``: the run that a sync became. ``error``: why the request as a whole was not executed. ``accepted_ms``: when
    the producer stored it, in ms since the epoch, Redis time; 0 if the producer left no record.
    """

    request: str
    kind: str
    account: str
    by: str
    accepted_ms: int
    state: Literal["waiting", "done"]
    outcomes: dict[str, Outcome]
    run: str | None = None
    error: str | None = None


def state_of(request: str, record: Mapping[str, str], *, run_state: str = "") -> RequestState:
    """Return the state of a request. ``run_state``: that of the run in its record; "" if the run is not kept."""
    outcomes = {name[1:]: _outcome(value) for name, value in record.items() if name.startswith(OUTCOME)}
    error = record.get("error") or (_WITHDRAWN if "withdrawn" in record else None)
    run = record.get("run")
    return RequestState(
        request=request,
        kind=record.get("task", "").removeprefix("okasie."),
        account=record.get("account", ""),
        by=record.get("by", ""),
        accepted_ms=int(record.get("made") or record.get("at") or 0),
        state="done" if error or _settled(record, outcomes, run, run_state) else "waiting",
        outcomes=outcomes,
        run=run,
        error=error,
    )


def _settled(record: Mapping[str, str], outcomes: Mapping[str, Outcome], run: str | None, run_state: str) -> bool:
    if run is not None:
        return run_state not in _OPEN_RUNS
    if "expects" not in record:
        return False
    final = {name for name, outcome in outcomes.items() if outcome.outcome != "waiting"}
    return final.issuperset(json.loads(record["expects"]))


def _outcome(value: str) -> Outcome:
    given: dict[str, Any] = json.loads(value)
    fields, warnings = tuple(given.get("fields", ())), tuple(given.get("warnings", ()))
    return Outcome(given["outcome"], given.get("message"), fields, warnings)
