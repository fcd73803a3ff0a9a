"""The decision for one listing: a three-way comparison of source, marketplace and ledger.

`decide` is a pure function of what was read. A sell is destructive and needs the most proof. A write that may overwrite
another party's edit is recorded. Equal rows cost nothing.
"""

from __future__ import annotations

import msgspec

from okasie_tasks.core.decision import (
    Count,
    Decision,
    ReadEvidence,
    adoption_of,
    changed_or_none,
    fields_between,
    is_from_before_write,
    is_sell_undone,
    is_spelling,
    same_dealer,
    status_of,
    with_remote_state,
    with_row_seen,
)
from okasie_tasks.core.fingerprint import never_learned
from okasie_tasks.core.ledger_entry import NO_DEALER, Entry, Flag, Version
from okasie_tasks.core.older_ledger import of_lost_write
from okasie_tasks.core.records import Local, Remote
from okasie_tasks.core.unread import completed

_ANSWERED = Flag.ECHO_DUE | Flag.RESENT | Flag.REVIVED | Flag.SELL_IN_DOUBT
"""Flags that are cleared once a row was read and decided."""
_RELISTED = Flag.SOLD_BY_HAND | Flag.REVIVED | Flag.SELL_IN_DOUBT
"""Flags that are cleared when a listing that we sold stays as the marketplace lists it."""
_SOLD_AGAIN = "listed again on the marketplace, sold again"
_STILL_LISTED = "still listed, unchanged since before it was sold, sold again"


def decide(
    local: Local | None,
    remote: Remote | None,
    base: Entry | None,
    evidence: ReadEvidence,
    *,
    same: bool,
    images_due: bool = False,
) -> Decision:
    """Decide for one reference.

    ``remote`` is the marketplace's row, None when none was returned. ``same``: the row was returned and equals the
    ledger entry, or an incremental read did not return it at all. ``images_due``: the marketplace skipped some of its
    images, and a retry is due.
    """
    lacking = False
    if remote is not None:
        remote, lacking = completed(local, remote, base, evidence.lost_fields, resends=evidence.policy == "local")
    decision = _decide(local, remote, base, evidence, same=same)
    if lacking:
        decision = _of_incomplete_row(decision, base)
    if (
        images_due
        and (decision.action, decision.count) == ("none", "unchanged")
        and local is not None
        and not local.issues
        and base is not None
        and base.live
        and not base.has(Flag.INLINE_CONTENT)
    ):
        return Decision(action="update", reason="images were skipped, tried again", fields=("images",))
    return decision


def _of_incomplete_row(decision: Decision, base: Entry | None) -> Decision:
    """The echo is read only once it has all fields that we fill: their spelling is still to be learned."""
    entry = decision.entry
    kept = decision.action == "none" and (decision.count == "unchanged" or decision.yields)
    if entry is not None and kept and (base is None or base.has(Flag.ECHO_DUE) or decision.yields):
        entry = entry.replace(set_flags=Flag.ECHO_DUE, changed_at=0)
        entry = entry if base is None else changed_or_none(entry, base)
    return msgspec.structs.replace(decision, entry=entry, incomplete=True)


def _decide(
    local: Local | None, remote: Remote | None, base: Entry | None, evidence: ReadEvidence, *, same: bool
) -> Decision:
    if base is not None and base.sent_ms >= evidence.began_ms > 0:
        # Sent by the urgent lane while the pages were read: the returned row may predate that write.
        remote, same = None, True
    if remote is not None and not same and (lost := of_lost_write(local, remote, base, evidence)) is not None:
        return lost
    if local is None:
        return absent(remote, base, evidence, same=same)
    if local.issues:
        kept = _invalid(local, remote, base)
        return Decision(action="none", reason="the row is invalid", count="rejected", entry=kept)
    if base is None and remote is not None and not remote.status:
        return Decision(action="none", reason="its status on the marketplace is unknown")
    if base is None:
        return _unknown(local, remote, evidence)
    return _known(local, remote, base, evidence, same=same)


def _invalid(local: Local, remote: Remote | None, base: Entry | None) -> Entry | None:
    """Return the ledger entry for an invalid row, which only proves that the car is in the source."""
    if base is None:
        # A listing sold on the marketplace must not count as new, and be revived, once the row is fixed.
        unread = Entry(flags=Flag.OWNED | Flag.IN_SOURCE)
        return with_remote_state(unread, remote) if remote is not None and remote.status == "sold" else None
    # A car that was sold as gone comes back only with a valid row.
    stands = base.live or base.has(Flag.IN_SOURCE)
    sold_there = remote is not None and remote.status == "sold"
    return with_row_seen(status_of(base, remote) if sold_there else base, local, keep_row=True) if stands else None


# -- the ledger does not have it -----------------------------------------------------------------------------------


def _unknown(local: Local, remote: Remote | None, evidence: ReadEvidence) -> Decision:
    if remote is None:
        if local.status == "sold":
            return Decision(action="none", reason="sold before it was ever listed", count="settled")
        if evidence.taking_over and evidence.full and not evidence.walk_complete:
            # It may exist, edited or sold, on a page that shifted during the read.
            return Decision(action="none", reason="new, but the list was not read completely", count="unread")
        return Decision(action="create", reason="new in the source")
    adopted = with_remote_state(adoption_of(local), remote)
    if "sold" in (local.status, remote.status):
        return _sold_somewhere(local, remote, adopted)
    fields = fields_between(local, remote)
    if reason := _why_adopted(local, remote, fields):
        return Decision(action="none", reason=reason, count="unchanged", entry=adopted)
    return Decision(action="update", reason="on the marketplace, but different", fields=fields or ("images",))


def _sold_somewhere(local: Local, remote: Remote, adopted: Entry) -> Decision:
    """It is sold on one side. The ledger adopts it as it is: an upsert never revives or sells a listing."""
    if local.status == remote.status:
        return Decision(action="none", reason="sold on both sides", count="settled", entry=adopted)
    if local.status == "sold":
        # The next run sells it, subject to the guards; so its row counts as not yet read.
        reason, unread = "sold in the source, taken over to be sold", adopted.replace(row=Entry().row)
        return Decision(action="none", reason=reason, count="waiting", entry=unread)
    reason = "sold on the marketplace by someone"
    return Decision(action="none", reason=reason, count="conflicts", fields=("status",), entry=adopted)


def _why_adopted(local: Local, remote: Remote, fields: tuple[str, ...]) -> str:
    """Return why an existing row needs no write; "" if it does. Images are compared by count."""
    if remote.images >= 0 and local.images != remote.images:
        return ""
    if not fields:
        return "equal, adopted"
    # Treated like the first echo of our own write: after losing the ledger, a run must not rewrite every listing.
    spelling = same_dealer(local.dealer, remote) and is_spelling(local, remote)
    return "equal but for the spelling, adopted" if spelling else ""


# -- both have it --------------------------------------------------------------------------------------------------


def _known(local: Local, remote: Remote | None, base: Entry, evidence: ReadEvidence, *, same: bool) -> Decision:  # noqa: PLR0911
    picture = with_remote_state(base, remote)
    changed = local.content != base.row
    if changed and Version(local.version, evidence.source_began_ms).older_than(base.stamp):
        # A push that read the source has seen a newer row than this one.
        newer_row = base.has(Flag.URGENT) and not base.has(Flag.INLINE_CONTENT)
        entry = changed_or_none(with_row_seen(status_of(base, remote), local, keep_row=newer_row), base)
        return Decision(action="none", reason="older than what was pushed", count="unchanged", entry=entry)
    if base.has(Flag.INLINE_CONTENT) and not changed and (same or remote is not None):
        return _inline(local, None if same else remote, base, picture)
    if local.status == "sold":
        if base.sold_before and picture.live:
            return revived(remote, base, evidence, local=local, source_says_sold=True)
        return _sold_in_source(local, base, picture, evidence)
    if picture.status == "sold":
        return _sold_there(local, base, picture, changed=changed)
    if base.sold_before and base.has(Flag.SOLD_BY_HAND):
        return revived(remote, base, evidence, local=local)
    if not same and remote is None and evidence.full and evidence.walk_complete:
        return Decision(action="create", reason="missing on the marketplace")
    if remote is None or same:
        if changed and local.content != base.content:
            return Decision(action="update", reason="changed in the source")
        return _nothing("equal", local, base, picture)
    return _compare(local, remote, base, picture, evidence, changed=changed and local.content != base.content)


def _inline(local: Local, remote: Remote | None, base: Entry, picture: Entry) -> Decision:
    """Inline content is kept until its row changes. It is not stored, so a drift cannot be overwritten."""
    if picture.status == "sold":
        return _sold_there(local, base, picture, changed=False)
    drifted = remote is not None and remote.rendering != base.rendering and not base.has(Flag.ECHO_DUE)
    clear = Flag.ECHO_DUE | Flag.RESENT | Flag.REJECTED if remote is not None else Flag.REJECTED
    after = picture.replace(clear=clear)
    return Decision(
        action="none",
        reason="changed on the marketplace after it was pushed, theirs stands" if drifted else "pushed, its row stands",
        count="drifted" if drifted else "unchanged",
        entry=changed_or_none(with_row_seen(after.with_remote_accepted() if drifted else after, local), base),
    )


def _sold_in_source(local: Local, base: Entry, picture: Entry, evidence: ReadEvidence) -> Decision:
    if picture.status == "sold":
        return Decision(
            action="none",
            reason="sold on both sides",
            count="settled",
            entry=changed_or_none(with_row_seen(picture, local), base),
        )
    if not base.has(Flag.OWNED) or not evidence.sells:
        return Decision(action="none", reason="sold in the source, but not ours to sell", count="foreign")
    return Decision(action="sell", reason="sold in the source", entry=changed_or_none(picture, base))


def _sold_there(local: Local, base: Entry, picture: Entry, *, changed: bool) -> Decision:
    if base.has(Flag.SOLD_BY_HAND):
        entry = changed_or_none(with_row_seen(picture.replace(clear=Flag.REVIVED), local), base)
        return Decision(
            action="none", reason="sold manually, the row is still in the source", count="settled", entry=entry
        )
    if not base.has(Flag.IN_SOURCE) or base.has(Flag.SELL_IN_DOUBT):
        return Decision(action="update", reason="back in the source")
    if changed and base.row != Entry().row:
        return Decision(action="update", reason="changed in the source after it was sold on the marketplace")
    return Decision(
        action="none",
        reason="sold on the marketplace by someone",
        count="conflicts",
        fields=("status",),
        entry=changed_or_none(with_row_seen(picture.replace(clear=_ANSWERED, rendering=base.rendering), local), base),
    )


def _compare(
    local: Local, remote: Remote, base: Entry, picture: Entry, evidence: ReadEvidence, *, changed: bool
) -> Decision:
    drifted = remote.rendering != base.rendering or not same_dealer(base.dealer, remote)
    if drifted and base.has(Flag.ECHO_DUE) and not changed and same_dealer(base.dealer, remote):
        fields = fields_between(local, remote)
        if _may_learn(local, remote, base, fields):
            return _nothing("the marketplace's rendering, learned", local, base, picture)
        if base.answered(remote.rendering):
            disputed = with_row_seen(picture.replace(set_flags=Flag.DISPUTED, clear=_ANSWERED), local)
            return Decision(
                action="none",
                reason="the marketplace keeps its own value",
                count="conflicts",
                fields=fields,
                entry=disputed,
            )
    if changed and (not drifted or base.has(Flag.ECHO_DUE)):
        # The difference may be only the echo of our last write, which was not read yet.
        return Decision(action="update", reason="changed in the source")
    if not drifted:
        return _nothing("equal", local, base, picture)
    fields = fields_between(local, remote) if local.values and remote.values else ()
    # A spelling beside another change is most likely a learned one, not an edit to offer to the source.
    fields = tuple(name for name in fields if not is_spelling(local, remote, only=name)) or fields
    count: Count = "conflicts" if changed else "drifted"
    # The old row after a write that was confirmed and not done is no edit; ours is sent again, once.
    lost = base.has(Flag.ECHO_DUE) and not base.has(Flag.RESENT) and is_from_before_write(base, remote)
    if not lost and not _ours_wins(local, remote, evidence, changed=changed):
        reason = "changed on both sides, theirs stands" if changed else "changed on the marketplace, theirs stands"
        # The ledger takes the marketplace's version, so that it is decided and recorded once.
        entry = with_row_seen(picture.replace(clear=_ANSWERED).with_remote_accepted(), local)
        if not same_dealer(base.dealer, remote):
            entry = entry.replace(dealer=remote.dealer_code or remote.dealer_profile or NO_DEALER)
        return Decision(action="none", reason=reason, count=count, fields=fields, entry=entry, yields=True)
    reason = "changed on both sides, ours sent" if changed else "changed on the marketplace, ours sent again"
    if lost:
        reason = "not changed by our last write, ours sent again"
    return Decision(action="update", reason=reason, count=count, fields=fields, answers=remote.rendering)


def _may_learn(local: Local, remote: Remote, base: Entry, fields: tuple[str, ...]) -> bool:
    """Accept the first echo, and after one resend any echo, except for price, status and mileage."""
    if not fields:
        return True
    if never_learned.intersection(fields):
        return False
    if local.values is None or remote.values is None:
        return False
    return base.answered(remote.rendering) or is_spelling(local, remote)


def _ours_wins(local: Local, remote: Remote, evidence: ReadEvidence, *, changed: bool) -> bool:
    if evidence.policy == "newest":
        # Without a local change the marketplace is newest. Compare the source's own version, else its read time.
        return changed and (local.version or evidence.source_began_ms) >= remote.changed_at * 1000
    return evidence.policy == "local"


def _nothing(reason: str, local: Local, base: Entry, picture: Entry) -> Decision:
    disputed = base.has(Flag.DISPUTED) and picture.rendering == base.rendering
    clear = _ANSWERED | (Flag(0) if disputed else Flag.DISPUTED)
    # An echo that was not returned is still due.
    if picture is base:
        clear = Flag.REVIVED | Flag.SELL_IN_DOUBT
    # The row matches the listing again, so an earlier refusal no longer applies.
    clear |= Flag.REJECTED
    entry = changed_or_none(with_row_seen(picture.replace(clear=clear), local), base)
    count: Count = "conflicts" if disputed else "unchanged"
    return Decision(action="none", reason=reason, count=count, entry=entry)


def absent(remote: Remote | None, base: Entry | None, evidence: ReadEvidence, *, same: bool) -> Decision:  # noqa: PLR0911
    """Decide for a reference that the source does not have; arguments as in `okasie_tasks.core.reconcile.decide`."""
    if base is None:
        return Decision(action="none", reason="never ours", count="foreign")
    picture = status_of(base, remote)
    if picture.status == "sold":
        # The row was absent after the sale: a car sold manually may be listed again when its row comes back.
        proven = evidence.source_complete and base.seen_ms <= evidence.source_began_ms
        gone = Flag.IN_SOURCE | Flag.SOLD_BY_HAND if proven else Flag(0)
        settled = with_remote_state(base, remote) if proven else picture
        settled = settled.replace(clear=gone | _ANSWERED, missed=0)
        return Decision(
            action="none", reason="sold on both sides", count="settled", entry=changed_or_none(settled, base)
        )
    if not same and remote is None and evidence.full and evidence.walk_complete:
        return Decision(action="none", reason="gone on both sides", count="settled", entry=base.replace(status="sold"))
    if base.sold_before:
        if evidence.source_complete:
            return revived(remote, base, evidence)
        kept = changed_or_none(picture.replace(set_flags=Flag.REVIVED), base)
        return Decision(action="none", reason="the source was not read completely", count="waiting", entry=kept)
    if not base.has(Flag.IN_SOURCE):
        return _pushed(remote, base, same=same)
    if base.has(Flag.URGENT) and base.seen_ms > evidence.source_began_ms:
        # Inline content pushed after the row had gone is kept: this absence is used up and never sells.
        used = Flag.IN_SOURCE if base.has(Flag.INLINE_CONTENT) and evidence.source_complete else Flag(0)
        entry = changed_or_none(picture.replace(clear=used), base)
        return Decision(action="none", reason="pushed after the source was read", count="unchanged", entry=entry)
    if not evidence.source_complete:
        return Decision(action="none", reason="the source was not read completely", count="waiting")
    if not base.has(Flag.OWNED):
        return Decision(action="none", reason="not owned", count="foreign")
    missed = picture.replace(missed=base.missed + 1)
    if missed.missed < evidence.missing_reads:
        return Decision(action="none", reason="missing, waiting for another read", count="waiting", entry=missed)
    if not evidence.sells:
        return Decision(action="none", reason="gone, but this account never sells", count="waiting", entry=missed)
    return Decision(action="sell", reason="gone from the source", entry=changed_or_none(picture, base))


def would_sell(remote: Remote | None, base: Entry | None, evidence: ReadEvidence, *, same: bool) -> bool:
    """Return whether a listing that the source does not have would be sold if the source had been read completely."""
    complete = msgspec.structs.replace(evidence, source_complete=True)
    return _decide(None, remote, base, complete, same=same).action == "sell"


def _pushed(remote: Remote | None, base: Entry, *, same: bool) -> Decision:
    """A push that was never in the source is kept. Its content is not stored, so a drift cannot be overwritten."""
    if same or remote is None:
        return Decision(action="none", reason="pushed, not from the source", count="unchanged")
    drifted = remote.rendering != base.rendering and not base.has(Flag.ECHO_DUE)
    after = with_remote_state(base, remote).replace(clear=Flag.ECHO_DUE | Flag.RESENT)
    return Decision(
        action="none",
        reason="changed on the marketplace after it was pushed, theirs stands"
        if drifted
        else "pushed, not from the source",
        count="drifted" if drifted else "unchanged",
        entry=changed_or_none(after.with_remote_accepted() if drifted else after, base),
    )


def revived(
    remote: Remote | None,
    base: Entry,
    evidence: ReadEvidence,
    *,
    local: Local | None = None,
    source_says_sold: bool = False,
) -> Decision:
    """Decide for a sold listing that is live again although we did not list it: a change on the marketplace.

    It is sold again once. If the marketplace lists it yet again, the run reports a conflict and stops selling it.
    If it has not changed since before the sell, the sell was confirmed and not done: every run sells it until it is.
    """
    undone = is_sell_undone(base, remote)
    picture = (
        with_remote_state(base, remote)
        if local is None
        else with_row_seen(with_remote_state(base, remote), local, keep_row=True)
    )
    if base.has(Flag.RESENT) and not undone:
        entry = picture.replace(set_flags=Flag.DISPUTED, clear=_RELISTED | Flag.RESENT)
        reason = "the marketplace keeps it listed"
        return Decision(action="none", reason=reason, count="conflicts", fields=("status",), entry=entry)
    if (undone or source_says_sold or evidence.policy == "local") and base.has(Flag.OWNED) and evidence.sells:
        # Remembered until it is sold again: an incremental read does not return the row a second time.
        doubt = Flag.SELL_IN_DOUBT if undone else Flag(0)
        entry = status_of(base, remote).replace(set_flags=Flag.REVIVED | doubt)
        return Decision(
            action="sell",
            reason=_STILL_LISTED if undone else _SOLD_AGAIN,
            count="drifted",
            fields=("status",),
            entry=changed_or_none(entry, base),
            answers=picture.rendering,
        )
    entry = picture.replace(clear=_RELISTED)
    reason = "listed again on the marketplace, theirs stands"
    return Decision(action="none", reason=reason, count="drifted", fields=("status",), entry=entry)
