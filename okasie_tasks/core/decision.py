"""The decision for one listing, the evidence it relies on, and the comparisons that decisions share."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from okasie_tasks.core.fingerprint import DEALER_UNREAD, decode_compared, differing, echo_learnable
from okasie_tasks.core.ledger_entry import LIVE, NO_DEALER, Entry, Flag, price_code
from okasie_tasks.core.records import Local, Remote

Action = Literal["none", "create", "update", "sell"]
Policy = Literal["local", "remote", "newest"]
Count = Literal["unchanged", "foreign", "drifted", "conflicts", "rejected", "settled", "waiting", "unread"]

SENDS: Final = frozenset({"create", "update"})
CLOCKS_DIFFER_MS: Final = 60_000
"""A row that changed this long before our write, by two clocks, changed before it."""


class ReadEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What this run's reads prove, and the account's policies."""

    full: bool
    """The run read the whole marketplace. Otherwise a reference that was not returned matches the ledger."""
    walk_complete: bool
    """Every page was read and the total did not change: only then is a missing reference proven missing."""
    source_complete: bool
    """The source was read to its proven end, and every reference in it was readable."""
    began_ms: int = 0
    """When the run began to read the marketplace (ms, Redis time). Anything sent since is newer than any page."""
    source_began_ms: int = 0
    """When the run began to read the source (ms, Redis time). Anything pushed since is newer than any row."""
    policy: Policy = "local"
    missing_reads: int = 1
    sells: bool = True
    lost_fields: tuple[str, ...] = ()
    """Fields that most of the marketplace's rows have lost at once: empty in a row, they are unknown."""
    taking_over: bool = False
    """No run has read the whole marketplace yet, so its listings may be pre-existing ones of the dealer."""
    lost_from_ms: int = 0
    lost_until_ms: int = 0
    """The ledger may lack writes between these moments (ms, Redis time), after a failover. 0: it lacks none."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with one listing, and why. ``entry``: the new ledger entry, None when it does not change."""

    action: Action
    reason: str
    count: Count | None = None
    fields: tuple[str, ...] = ()
    entry: Entry | None = None
    answers: bytes = b""
    """The marketplace's rendering that a resend overwrites, for a drift; else empty."""
    incomplete: bool = False
    """The marketplace's row lacks fields that we fill; see `okasie_tasks.core.unread`."""
    yields: bool = False
    """The marketplace's version is kept; its values of ``fields`` are offered to the source."""


def with_remote_state(base: Entry, remote: Remote | None) -> Entry:
    """Return the entry with the state of the marketplace's row."""
    if remote is None:
        return base
    # A row without a readable time: the time of the row before, if the entry holds one.
    known_at = 0 if base.has(Flag.ECHO_DUE) else base.changed_at
    return base.replace(status=remote.status, rendering=remote.rendering, changed_at=remote.changed_at or known_at)


def status_of(base: Entry, remote: Remote | None) -> Entry:
    """Return the entry with only the marketplace's status; other differences are still to be decided."""
    return base.replace(status=remote.status) if remote is not None else base


def with_row_seen(entry: Entry, local: Local, *, keep_row: bool = False) -> Entry:
    """Return the entry after its row was read. ``keep_row`` ignores the content of an older or unreadable row."""
    row = entry.row if keep_row else local.content
    return entry.replace(set_flags=Flag.IN_SOURCE, missed=0, row=row)


def adoption_of(local: Local) -> Entry:
    """Return the entry for a listing that already exists and matches a source row, as if that row had been sent."""
    return Entry(
        content=local.content,
        row=local.content,
        dealer=local.dealer,
        filled=local.filled,
        price=price_code(local.price),
        version=local.version,
        flags=Flag.OWNED | Flag.IN_SOURCE,
    )


def claim_of(remote: Remote) -> Entry:
    """Return the entry for a listing that the source lacks and that is ours, so that it is sold like others."""
    return Entry(
        rendering=remote.rendering,
        dealer=remote.dealer_code or remote.dealer_profile or NO_DEALER,
        status=remote.status,
        flags=Flag.OWNED | Flag.IN_SOURCE,
        changed_at=remote.changed_at,
    )


def is_sell_undone(base: Entry, remote: Remote | None) -> bool:
    """Return whether a listing that we sold is still as it was before the sell: it was not listed again.

    Without a row, an earlier run has seen that.
    """
    if remote is None:
        return base.has(Flag.REVIVED) and base.has(Flag.SELL_IN_DOUBT)
    return remote.status in LIVE and is_from_before_write(base, remote)


def is_from_before_write(base: Entry, remote: Remote) -> bool:
    """Return whether the row has not changed since before our last write, so that the write was not done."""
    before = remote.changed_at == base.known_at or remote.changed_at * 1000 < base.sent_ms - CLOCKS_DIFFER_MS
    return remote.changed_at > 0 and base.sent_ms > 0 and before


def changed_or_none(entry: Entry, base: Entry) -> Entry | None:
    """Return the entry if it differs from the ledger's, else None, which means nothing to write."""
    return None if entry == base else entry


def fields_between(local: Local, remote: Remote) -> tuple[str, ...]:
    """Return the names of the differing fields, including "dealer"; "unknown" when the values were not included."""
    fields = () if same_dealer(local.dealer, remote) else ("dealer",)
    if local.rendering == remote.rendering:
        return fields
    if local.values is None or remote.values is None:
        return (*fields, "unknown")
    return (*fields, *differing(decode_compared(local.values), decode_compared(remote.values)))


def same_dealer(dealer: bytes, remote: Remote) -> bool:
    """Return whether the row belongs to this dealer, by profile or location code. An unknown dealer matches any row.

    A row that lacks one of the two forms does not prove another dealer: the ledger may have that form.
    """
    known = dealer in (remote.dealer_profile, remote.dealer_code) or dealer == NO_DEALER
    return known or bool(remote.absent & DEALER_UNREAD)


def is_spelling(local: Local, remote: Remote, *, only: str = "") -> bool:
    """Return whether the rows differ only in the spelling of free text; ``only``: in this field."""
    if local.values is None or remote.values is None:
        return False
    return echo_learnable(decode_compared(local.values), decode_compared(remote.values), only=only)
