"""Both sides of one listing as they are now: its row in the source, and its row on the marketplace.

The API returns no single listing and has no filter by reference (API docs, listings/list). The listing is therefore
looked for on one page: that of the listings changed since it was last seen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared, differing
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.listing import Listing, brief
from okasie_tasks.core.remote_rows import RemoteListing
from okasie_tasks.errors import NoPermit, OkasieError
from okasie_tasks.masking import clean, mask
from okasie_tasks.ports import SourceRow
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.urgent.accept import checked_references, issues_of
from okasie_tasks.urgent.source_reads import SourceReads

_OVERLAP: Final = timedelta(minutes=2)
"""The marketplace's clock may differ from Redis' clock by less than this."""


def read_both_sides(ctx: AccountContext, preview: str, reference: object, reads: SourceReads) -> dict[str, Any]:
    """Return both sides of a listing, each with the reason where it is not known, and the fields that differ.

    Raises `ConfigurationError` for an invalid reference, `NoPermit` while the source is being read or no request may be
    sent; call again then.
    """
    (name,) = checked_references([reference], "okasie.preview")
    row, source_problem = _source(ctx, preview, name, reads)
    ours = row.listing if row is not None and not row.issues else None
    theirs, problem = _marketplace(ctx, preview, name)
    reads.forget(preview)
    both = (compared(ours), theirs.compared) if ours is not None and theirs is not None else None
    return {
        "reference": name,
        "source": None if row is None else _as_read(row) if row.listing is None else _ours(row.listing),
        "source_problem": _clean(source_problem),
        "source_issues": _issues(row) if row is not None else [],
        "images": list(ours.images) if ours is not None else [],
        "marketplace": None if theirs is None else _theirs(theirs),
        "marketplace_problem": _clean(problem),
        "differs": list(differing(*both)) if both else [],
    }


def no_preview(reference: object, problem: str) -> dict[str, Any]:
    """Return the document of a preview that cannot be made."""
    return {
        "reference": str(reference),
        "source": None,
        "source_problem": problem,
        "source_issues": [],
        "images": [],
        "marketplace": None,
        "marketplace_problem": problem,
        "differs": [],
    }


def _source(ctx: AccountContext, preview: str, name: str, reads: SourceReads) -> tuple[SourceRow | None, str | None]:
    """Return the row, perhaps an invalid one, and what is wrong with it or with the read."""
    try:
        # Kept, so that a retry for want of a permit does not read again.
        rows = reads.read(preview, [name], ctx.runs.now_ms, keep=True).rows.get(name)
    except NoPermit:
        raise
    except OkasieError as error:
        return None, str(error)
    if not rows:
        return None, "the source does not have it"
    if issues := issues_of(rows):
        problem = f"{rows[0].where}: " + "; ".join(map(str, issues))
        return msgspec.structs.replace(rows[0], issues=tuple(issues)), problem
    return rows[0], None


def _marketplace(ctx: AccountContext, preview: str, name: str) -> tuple[RemoteListing | None, str | None]:
    if ctx.runs.controls.paused_ms(ctx.policy.account):
        return None, "the account is paused: the marketplace is not asked"
    entry = ctx.ledger.get([name]).get(name)
    since = _last_seen(entry) if entry is not None else None
    if since is None:
        return None, "no run has seen it on the marketplace yet, and the API cannot be asked for a single listing"
    try:
        with ctx.market.permit(ticket=f"preview:{preview}", lane="urgent", keep_place=False) as call:
            page = call.list_page(1, updated_since=since)
    except NoPermit:
        raise
    except OkasieError as error:
        return None, str(error)
    found = next((row for row in page.rows if row.reference == name), None)
    if found is not None:
        return found, None
    if page.total_pages > 1:
        many = f"the first {len(page.rows)} of {page.total_items} listings changed since {since:%Y-%m-%d %H:%M} UTC"
        return None, f"the API cannot be asked for a single listing, and it is not among {many}"
    return None, "the marketplace no longer returns it"


def _last_seen(entry: Entry) -> datetime | None:
    """Return a time not after the listing's ``updatedAt``: as last compared, or when we have written it since."""
    if entry.changed_at and not entry.has(Flag.ECHO_DUE):
        return datetime.fromtimestamp(entry.changed_at, UTC)
    return datetime.fromtimestamp(entry.sent_ms / 1000, UTC) - _OVERLAP if entry.sent_ms else None


def _clean(problem: str | None) -> str | None:
    """Return a text that may quote a feed or an answer, without secrets and control characters."""
    return None if problem is None else clean(mask(problem))


def _ours(listing: Listing) -> dict[str, Any]:
    dealer = {"dealerProfileId": listing.dealer_profile_id, "dealerLocationCode": listing.dealer_location_code}
    return _filled(compared(listing), dealer)


def _as_read(row: SourceRow) -> dict[str, Any]:
    """Return what an invalid row has, as it was read. The reference is left out, as in `_ours`."""
    wrong = {issue.field: issue.value for issue in row.issues if issue.value and issue.field in FIELDS}
    values = {name: value for name, value in (dict(row.values) | wrong).items() if value}
    return {name: clean(mask(brief(value))) for name, value in values.items() if name != "externalReference"}


def _issues(row: SourceRow) -> list[dict[str, Any]]:
    return [{"field": one.field, "code": one.code, "value": _clean(one.value)} for one in row.issues]


def _theirs(row: RemoteListing) -> dict[str, Any]:
    dealer = {"dealerProfileId": row.dealer_profile_id, "dealerLocationCode": row.dealer_location_code}
    more = {"listingUrl": row.link, "updatedAt": row.updated_at.isoformat() if row.updated_at else None}
    return _filled(row.compared, {**dealer, **more})


def _filled(values: Compared, more: dict[str, Any]) -> dict[str, Any]:
    """Return the filled fields in the form in which the two sides are compared."""
    found = dict(zip(COMPARED_FIELDS, values, strict=True)) | more
    return {name: value for name, value in found.items() if value not in (None, "", (), [])}
