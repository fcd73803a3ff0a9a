"""Accepts push and sell messages: each listing becomes a pending change in the account's urgent queue.

Messages come from other applications and are validated. An invalid listing is rejected with its reason; the other
listings of the message are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from okasie_tasks.core.catalog import Titled, shelf_of, titled
from okasie_tasks.core.fingerprint import content_fingerprint
from okasie_tasks.core.listing import InvalidListing, Issue, Listing, parse_reference
from okasie_tasks.core.pending import MOST_REFERENCES, PendingChange, PushOutcome
from okasie_tasks.core.records import Reject, outgoing
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.errors import ConfigurationError, OkasieError, RetryLater
from okasie_tasks.ports import SourceRow
from okasie_tasks.sync import rejects
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.urgent.source_reads import SourceReads


class _AcceptedMessage:
    """The pending changes, outcomes and rejects of one message."""

    def __init__(self, ctx: AccountContext, push: str, at_ms: int) -> None:
        self._ctx, self.push, self._at_ms = ctx, push, at_ms
        self._by = ctx.pushes.by(push)
        self.changes: dict[str, PendingChange] = {}
        self._outcomes: dict[str, PushOutcome] = {}
        self._rejects: list[Reject] = []
        self._titles: dict[str, Titled] = {}

    def listing(self, listing: Listing, warnings: Sequence[Issue], *, own: int, seen_ms: int, inline: bool) -> None:
        item = outgoing(listing, action="push", reason="pushed", version=own, seen_ms=seen_ms)
        sells = listing.status == "sold"
        self._titles[listing.external_reference] = titled(listing.title, listing.vin)
        self.changes[listing.external_reference] = PendingChange(
            reference=listing.external_reference,
            own=own,
            seen_ms=seen_ms,
            waiters=(self.push,),
            item=None if sells else item,
            status=listing.status,
            inline=inline,
            warnings=() if sells else tuple(map(str, warnings)),
            by=self._by,
            asked_ms=self._at_ms,
        )

    def sell(self, reference: str) -> None:
        self.changes[reference] = PendingChange(
            reference=reference,
            own=0,
            seen_ms=self._at_ms,
            waiters=(self.push,),
            status="sold",
            by=self._by,
            asked_ms=self._at_ms,
        )

    def refuse(self, reference: str, issues: Sequence[Issue], where: str, run: str = "") -> None:
        """Report the issues to the caller, and record a reject if the reference is valid."""
        reject = rejects.invalid(reference, issues, where=where, run=run, now=self._at_ms // 1000)
        self._outcomes[reference] = PushOutcome(
            outcome="rejected", at_ms=self._at_ms, message=reject.message, fields=tuple(reject.fields)
        )
        if parse_reference(reference) == reference:
            self._rejects.append(reject)

    def missing(self, reference: str) -> None:
        message = "the source does not have it; nothing was sent"
        self._outcomes[reference] = PushOutcome(outcome="not_found", at_ms=self._at_ms, message=message)

    def store(self) -> None:
        """Write all of it. Changes go first: a caller that sees an outcome can rely on the others being queued."""
        self._ctx.pushes.note_trace(self.push)
        self._ctx.urgent_queue.put(self.changes.values())
        self._ctx.ledger.put_rejects(self._rejects)
        rejects.log_new(self._ctx, self._rejects)
        self._ctx.pushes.record({self.push: self._outcomes} if self._outcomes else {})
        self._ctx.ledger.catalog.put(self._titles)
        self._ctx.ledger.catalog.mark_new(set(map(shelf_of, self._titles)))
        self._ctx.pushes.expect(self.push, dict.fromkeys((*self.changes, *self._outcomes)))


def accept_push(
    ctx: AccountContext,
    push: str,
    *,
    references: object = None,
    listings: object = None,
    version: object = 0,
    reads: SourceReads | None = None,
) -> None:
    """Accept an ``okasie.push`` message: ``references`` (read from the source) or ``listings`` (write shape).

    ``version``: the caller's own version of the ``listings``, ms since the epoch; 0 for none. ``reads``: those of the
    account's source, shared with other pushes. Raises `ConfigurationError` for an invalid message, `RunAborted` when
    the source cannot be read, `RetryLater` while it is read for another push.
    """
    at_ms = ctx.pushes.receive(push)
    if not at_ms:
        return
    accepted = _AcceptedMessage(ctx, push, at_ms)
    try:
        if (references is None) == (listings is None):
            raise ConfigurationError("expected references or listings, one of them", where="okasie.push")
        if references is not None:
            names = checked_references(references, "okasie.push")
            _by_reference(ctx, accepted, names, reads or SourceReads(ctx.source))
        else:
            _inline(accepted, checked_listings(listings), own=checked_version(version), at_ms=at_ms)
    except RetryLater:
        raise
    except OkasieError as error:
        ctx.pushes.fail(push, str(error))
        raise
    accepted.store()


def accept_sell(ctx: AccountContext, push: str, *, references: object) -> None:
    """Accept an ``okasie.sell`` message. Raises `ConfigurationError` for an invalid one."""
    at_ms = ctx.pushes.receive(push)
    if not at_ms:
        return
    accepted = _AcceptedMessage(ctx, push, at_ms)
    try:
        for reference in checked_references(references, "okasie.sell"):
            accepted.sell(reference)
    except OkasieError as error:
        ctx.pushes.fail(push, str(error))
        raise
    accepted.store()


# -- the message ---------------------------------------------------------------------------------------------------


def checked_references(references: object, where: str) -> list[str]:
    """The references of a message, each once. Raises `ConfigurationError` with what was expected."""
    rows = _rows(references, "references", where)
    for row in rows:
        if not isinstance(row, str) or parse_reference(row) != row:
            raise ConfigurationError(
                f"expected references of 1 to 64 printable characters, got {str(row)!r:.60}", where=where
            )
    return list(dict.fromkeys(rows))


def checked_listings(listings: object) -> list[dict[str, Any]]:
    """The listings of a message. Raises `ConfigurationError` when they are not objects."""
    rows = _rows(listings, "listings", "okasie.push")
    if not all(isinstance(row, dict) for row in rows):
        raise ConfigurationError("expected listings to be objects in write shape", where="okasie.push")
    return rows


def checked_version(version: object) -> int:
    """The version of a message. Raises `ConfigurationError` for anything but ms since the epoch, or 0."""
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**48:
        got = f"{version!r:.40}"
        raise ConfigurationError(f"expected version to be ms since the epoch, or 0, got {got}", where="okasie.push")
    return version


def _rows(value: object, name: str, where: str) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_REFERENCES:
        got = f"{len(value)}" if isinstance(value, list) else type(value).__name__
        raise ConfigurationError(f"expected a list of 1 to {MOST_REFERENCES} {name}, got {got}", where=where)
    return value


# -- where the content comes from ----------------------------------------------------------------------------------


def _inline(accepted: _AcceptedMessage, rows: list[dict[str, Any]], *, own: int, at_ms: int) -> None:
    year = datetime.now(UTC).year
    for number, row in enumerate(rows, start=1):
        try:
            listing, warnings = parse_listing(row, current_year=year)
        except InvalidListing as invalid:
            named = row.get("externalReference", row.get("external_reference"))
            reference = parse_reference(named)
            accepted.refuse(reference or f"listing {number}", invalid.found, f"okasie.push, listing {number}")
        else:
            accepted.listing(listing, warnings, own=own, seen_ms=at_ms, inline=True)


def _by_reference(ctx: AccountContext, accepted: _AcceptedMessage, references: list[str], reads: SourceReads) -> None:
    read = reads.read(accepted.push, references, ctx.runs.now_ms)
    for reference in references:
        if not (rows := read.rows.get(reference)):
            accepted.missing(reference)
        elif issues := issues_of(rows):
            accepted.refuse(reference, issues, rows[0].where, rejects.PUSHED_ROW)
        else:
            listing = rows[0].listing
            assert listing is not None  # noqa: S101 - it has no issues
            own, warnings = rows[0].version, rows[0].warnings
            accepted.listing(listing, warnings, own=own, seen_ms=read.began_ms, inline=False)


def issues_of(rows: list[SourceRow]) -> Sequence[Issue]:
    """What is wrong with the rows of one reference; equal rows count as one."""
    for row in rows:
        if row.listing is None:
            return row.issues
    if len({content_fingerprint(row.listing) for row in rows if row.listing is not None}) > 1:
        numbers = ", ".join(str(row.row) for row in rows[:10])
        return [Issue("externalReference", "duplicate_reference", f"rows {numbers} differ under one reference")]
    return ()
