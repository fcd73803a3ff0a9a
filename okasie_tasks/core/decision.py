"""What a decision is, what it may rely on, and the small comparisons that all of them share."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from okasie_tasks.core.fingerprint import decode_compared, differing, echo_learnable
from okasie_tasks.core.ledger_entry import NO_DEALER, Entry, Flag
from okasie_tasks.core.records import Local, Remote

Action = Literal["none", "create", "update", "sell"]
Policy = Literal["local", "remote", "newest"]
Count = Literal["unchanged", "foreign", "drifted", "conflicts", "rejected", "settled", "waiting", "unread"]

SENDS: Final = frozenset({"create", "update"})


class ReadEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What this run knows of its own reading, and the account's policies."""

    full: bool
    """The whole marketplace was walked; without it a reference that was not returned is as the ledger has it."""
    walk_complete: bool
    """Every page was read and the total stood still: only then is a missing reference really missing."""
    source_complete: bool
    """The source was read to its proven end and every reference in it could be read."""
    began_ms: int = 0
    """When the run began to read the marketplace: what was sent since is newer than any page. Redis time."""
    source_began_ms: int = 0
    """When it began to read the source: what was pushed since is newer than any row."""
    policy: Policy = "local"
    missing_reads: int = 1
    sells: bool = True
    taking_over: bool = False
    """No run has yet met the whole marketplace: what stands there may be the dealer's from before our time."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with one listing, and why. ``entry``: what the ledger is to hold from now on, when it changes."""

    action: Action
    reason: str
    count: Count | None = None
    fields: tuple[str, ...] = ()
    entry: Entry | None = None
    answers: bytes = b""
    """For a drift that is answered with ours: the rendering that is answered."""
    yields: bool = False
    """Theirs stands: the source is offered their version of ``fields``."""


def with_remote_state(base: Entry, remote: Remote | None) -> Entry:
    """The entry with the marketplace's row as the new picture of it."""
    if remote is None:
        return base
    return base.replace(status=remote.status, rendering=remote.rendering, changed_at=remote.changed_at)


def status_of(base: Entry, remote: Remote | None) -> Entry:
    """The entry with the marketplace's status alone: what else differs there is yet to be decided."""
    return base.replace(status=remote.status) if remote is not None else base


def with_row_seen(entry: Entry, local: Local, *, keep_row: bool = False) -> Entry:
    """The entry after its row was read; with ``keep_row`` an older or unreadable row changes nothing but that."""
    row = entry.row if keep_row else local.content
    return entry.replace(set_flags=Flag.IN_SOURCE, missed=0, row=row)


def adoption_of(local: Local) -> Entry:
    """The entry of a listing that stands there already and is ours by its row: as if we had sent that row."""
    return Entry(
        content=local.content,
        row=local.content,
        dealer=local.dealer,
        filled=local.filled,
        version=local.version,
        flags=Flag.OWNED | Flag.IN_SOURCE,
    )


def changed_or_none(entry: Entry, base: Entry) -> Entry | None:
    """The entry where it differs from what the ledger holds, else None: nothing is to be written."""
    return None if entry == base else entry


def fields_between(local: Local, remote: Remote) -> tuple[str, ...]:
    """Names of what differs, "dealer" among them; "unknown" where the values did not travel."""
    fields = () if same_dealer(local.dealer, remote) else ("dealer",)
    if local.rendering == remote.rendering:
        return fields
    if local.values is None or remote.values is None:
        return (*fields, "unknown")
    return (*fields, *differing(decode_compared(local.values), decode_compared(remote.values)))


def same_dealer(dealer: bytes, remote: Remote) -> bool:
    """Whether the row is the dealer's, in whichever of the two forms ours is; one that is not known is any."""
    return dealer in (remote.dealer_profile, remote.dealer_code) or dealer == NO_DEALER


def is_spelling(local: Local, remote: Remote) -> bool:
    """Whether they differ in the spelling of free text only."""
    if local.values is None or remote.values is None:
        return False
    return echo_learnable(decode_compared(local.values), decode_compared(remote.values))
