"""Requests that the workers execute: a sync, a push, a sell, a preview. Each returns the id of the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from okasie_tasks.actions.sending import send
from okasie_tasks.client import TRY_SECONDS, summary_of
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.services import Services
from okasie_tasks.sync import phases
from okasie_tasks.urgent.accept import checked_listings, checked_references, checked_version


def sync(services: Services, account: str, mode: str, *, by: str, request_id: str | None = None) -> str:
    """Request a run of ``account``, ``incremental`` or ``full``. The request's document names the run it became."""
    services.account(account)
    phases.check_mode(mode)
    kwargs = {"account": account, "mode": mode}
    return send(services, "okasie.sync", kwargs, f"{account}: {mode} run", by=by, request_id=request_id)


def push(
    services: Services,
    account: str,
    *,
    references: Sequence[str] | None = None,
    listings: Sequence[Mapping[str, Any]] | None = None,
    version: int = 0,
    by: str,
    request_id: str | None = None,
    try_seconds: float = TRY_SECONDS,
) -> str:
    """Send listings now: ``references``, which are read from the source, or ``listings`` in write shape.

    ``version``: the caller's version of the ``listings``, ms since the epoch; 0 for none.
    """
    services.account(account)
    kwargs: dict[str, Any] = {"account": account}
    if (references is None) == (listings is None):
        raise ConfigurationError("expected references or listings, one of them", where="push")
    if references is not None:
        named = kwargs["references"] = checked_references(_listed(references), "push")
    else:
        kwargs["listings"] = checked_listings(_listed(listings))
        kwargs["version"] = checked_version(version)
        named = [str(listing.get("externalReference")) for listing in kwargs["listings"]]
    summary = summary_of(account, "push", named)
    return send(services, "okasie.push", kwargs, summary, by=by, request_id=request_id, try_seconds=try_seconds)


def sell(
    services: Services,
    account: str,
    references: Sequence[str],
    *,
    by: str,
    request_id: str | None = None,
    try_seconds: float = TRY_SECONDS,
) -> str:
    """Mark listings sold now."""
    services.account(account)
    kwargs = {"account": account, "references": checked_references(_listed(references), "sell")}
    summary = summary_of(account, "sell", kwargs["references"])
    return send(services, "okasie.sell", kwargs, summary, by=by, request_id=request_id, try_seconds=try_seconds)


def preview(services: Services, account: str, reference: str, *, by: str) -> str:
    """Read one listing from the source and the marketplace. `okasie_tasks.reports.preview` has the result."""
    services.account(account)
    checked_references([reference], "preview")
    kwargs = {"account": account, "reference": reference}
    return send(services, "okasie.preview", kwargs, summary_of(account, "preview", [reference]), by=by)


def _listed(values: object) -> object:
    """Return a tuple as a list, which is what the checks expect: anything else is left to them."""
    return list(values) if isinstance(values, tuple) else values
