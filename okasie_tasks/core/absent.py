"""What is decided where the source lacks a listing: the only place that may find something gone."""

from __future__ import annotations

from okasie_tasks.core.decision import Decision, World, if_new, look, seen, status_of
from okasie_tasks.core.entry import Entry, Flag
from okasie_tasks.core.records import Local, Remote


def absent(remote: Remote | None, base: Entry | None, world: World, *, same: bool) -> Decision:  # noqa: PLR0911
    """Decide for a reference that the source does not have; arguments as in `okasie_tasks.core.diff.decide`."""
    if base is None:
        return Decision(action="none", reason="never ours", count="foreign")
    picture = status_of(base, remote)
    if picture.status == "sold":
        # Absent once, and since it was sold: a car sold by hand may be listed again when its row comes back.
        proven = world.source_complete and base.seen_ms <= world.source_began_ms
        gone = Flag.IN_SOURCE | Flag.SOLD_BY_HAND if proven else Flag(0)
        settled = look(base, remote) if proven else picture
        settled = settled.but(clear=gone | Flag.ECHO_DUE | Flag.RESENT | Flag.REVIVED, missed=0)
        return Decision(action="none", reason="sold on both sides", count="settled", entry=if_new(settled, base))
    if not same and remote is None and world.full and world.walk_complete:
        return Decision(action="none", reason="gone on both sides", count="settled", entry=base.but(status="sold"))
    if base.sold_before:
        if world.source_complete:
            return revived(remote, base, world)
        kept = if_new(picture.but(set_flags=Flag.REVIVED), base)
        return Decision(action="none", reason="the source was not read completely", count="waiting", entry=kept)
    if not base.having(Flag.IN_SOURCE):
        return _pushed(remote, base, same=same)
    if base.having(Flag.URGENT) and base.seen_ms > world.source_began_ms:
        # A content that was handed in after the row had gone stands: this absence is spent, it never sells.
        spent = Flag.IN_SOURCE if base.having(Flag.GIVEN) and world.source_complete else Flag(0)
        entry = if_new(picture.but(clear=spent), base)
        return Decision(action="none", reason="pushed after the source was read", count="unchanged", entry=entry)
    if not world.source_complete:
        return Decision(action="none", reason="the source was not read completely", count="waiting")
    if not base.having(Flag.OWNED):
        return Decision(action="none", reason="not owned", count="foreign")
    missed = picture.but(missed=base.missed + 1)
    if missed.missed < world.missing_reads:
        return Decision(action="none", reason="missing, waiting for another read", count="waiting", entry=missed)
    if not world.sells:
        return Decision(action="none", reason="gone, but this account never sells", count="waiting", entry=missed)
    return Decision(action="sell", reason="gone from the source", entry=if_new(picture, base))


def _pushed(remote: Remote | None, base: Entry, *, same: bool) -> Decision:
    """Pushed, and never in the source: it stands. What was sent is not kept, so a drift cannot be answered."""
    if same or remote is None:
        return Decision(action="none", reason="pushed, not from the source", count="unchanged")
    drifted = remote.rendering != base.rendering and not base.having(Flag.ECHO_DUE)
    after = look(base, remote).but(clear=Flag.ECHO_DUE | Flag.RESENT)
    return Decision(
        action="none",
        reason="changed on the marketplace after it was pushed, theirs stands"
        if drifted
        else "pushed, not from the source",
        count="drifted" if drifted else "unchanged",
        entry=if_new(after.yielded() if drifted else after, base),
    )


def revived(
    remote: Remote | None, base: Entry, world: World, *, local: Local | None = None, source_says_sold: bool = False
) -> Decision:
    """What we had sold stands there again, and nobody of ours has said so: a difference made on their side.

    Answered once; a marketplace that lists it again all the same is told as a conflict, not fought.
    """
    picture = look(base, remote) if local is None else seen(look(base, remote), local, keep_row=True)
    if base.having(Flag.RESENT):
        entry = picture.but(set_flags=Flag.DISPUTED, clear=Flag.RESENT | Flag.SOLD_BY_HAND | Flag.REVIVED)
        reason = "the marketplace keeps it listed"
        return Decision(action="none", reason=reason, count="conflicts", fields=("status",), entry=entry)
    if (source_says_sold or world.policy == "local") and base.having(Flag.OWNED) and world.sells:
        # Until it was sold again this is remembered: an incremental run does not return the row a second time.
        entry = status_of(base, remote).but(set_flags=Flag.REVIVED)
        reason = "listed again on the marketplace, sold again"
        return Decision(
            action="sell",
            reason=reason,
            count="drifted",
            fields=("status",),
            entry=if_new(entry, base),
            answers=picture.rendering,
        )
    entry = picture.but(clear=Flag.SOLD_BY_HAND | Flag.REVIVED)
    reason = "listed again on the marketplace, theirs stands"
    return Decision(action="none", reason=reason, count="drifted", fields=("status",), entry=entry)
