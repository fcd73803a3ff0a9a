"""Decisions after a failover of Redis, while the ledger may lack writes that the marketplace has.

The ledger is then older than its last write. A row that the marketplace changed since the first lost write, and that
differs from the ledger, may show a push that the ledger has forgotten. It is no drift: the ledger takes it as it is,
nothing is sent over it, and it is never sold for being listed again. A row that has changed in the source is sent as
usual, since it would win over the push, too.
"""

from __future__ import annotations

from okasie_tasks.core.decision import (
    CLOCKS_DIFFER_MS,
    Decision,
    ReadEvidence,
    adoption_of,
    fields_between,
    is_spelling,
    same_dealer,
    with_remote_state,
    with_row_seen,
)
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import Local, Remote

_PUSHED = Flag.INLINE_CONTENT | Flag.URGENT
"""What the lost write may have set: content that its row does not have stands until the row changes."""
_ANSWERED = Flag.ECHO_DUE | Flag.RESENT | Flag.REVIVED | Flag.SELL_IN_DOUBT
_KEPT = "changed while writes of the ledger were lost, perhaps by a push; it stays"
_LISTED = "listed while writes of the ledger were lost, perhaps by a push; it is not sold"
_SOLD = "sold while writes of the ledger were lost, perhaps by us; it stays sold"


def of_lost_write(  # noqa: PLR0911
    local: Local | None, remote: Remote, base: Entry | None, evidence: ReadEvidence
) -> Decision | None:
    """Return the decision for a row that may show a lost write; None for one that is decided as usual."""
    if not _may_be_lost(remote, base, evidence) or (local is not None and local.issues):
        return None
    if local is None:
        return None if base is None or remote.status == "sold" else _without_row(remote, base)
    if local.status == "sold":
        return None
    if base is None:
        return _unknown(local, remote)
    if remote.status == "sold":
        return None if base.status == "sold" else _sold(local, remote, base)
    fields = fields_between(local, remote)
    if local.content != base.row and fields:
        return None  # the row has changed: it wins over a push, too
    if (remote.rendering == base.rendering and same_dealer(base.dealer, remote) and base.live) or (
        base.has(Flag.ECHO_DUE) and is_spelling(local, remote)
    ):
        return None
    if not fields:
        entry = with_remote_state(adoption_of(local), remote)
        return Decision(action="none", reason="equal, adopted", count="unchanged", entry=entry)
    return _kept(with_row_seen(with_remote_state(base, remote), local), fields)


def _may_be_lost(remote: Remote, base: Entry | None, evidence: ReadEvidence) -> bool:
    """Whether the row has changed since the first lost write, and the entry has not been written since the last."""
    if not evidence.lost_until_ms or not remote.status:
        return False
    if base is not None and base.sent_ms > evidence.lost_until_ms:
        return False
    return not remote.changed_at or remote.changed_at * 1000 >= evidence.lost_from_ms - CLOCKS_DIFFER_MS


def _kept(picture: Entry, fields: tuple[str, ...]) -> Decision:
    entry = picture.replace(set_flags=_PUSHED, clear=_ANSWERED | Flag.SOLD_BY_HAND).with_remote_accepted()
    return Decision(action="none", reason=_KEPT, count="conflicts", fields=fields, entry=entry)


def _unknown(local: Local, remote: Remote) -> Decision | None:
    fields = fields_between(local, remote)
    if not fields or remote.status == "sold":
        return None
    return _kept(with_remote_state(adoption_of(local), remote), fields)


def _without_row(remote: Remote, base: Entry) -> Decision | None:
    """The source lacks it. A sell must not follow from an entry that a push may have replaced, in a later run either.

    Inline content that was pushed after the row had gone stays listed. The lost entry may have held such a push.
    """
    if base.sold_before:
        picture = with_remote_state(base, remote).replace(
            set_flags=_PUSHED, clear=_ANSWERED | Flag.SOLD_BY_HAND | Flag.IN_SOURCE
        )
        return Decision(
            action="none", reason=_LISTED, count="conflicts", fields=("status",), entry=picture.with_remote_accepted()
        )
    if remote.rendering == base.rendering:
        return None
    picture = with_remote_state(base, remote).replace(set_flags=_PUSHED, clear=_ANSWERED | Flag.IN_SOURCE)
    return Decision(action="none", reason=_KEPT, count="conflicts", entry=picture.with_remote_accepted())


def _sold(local: Local, remote: Remote, base: Entry) -> Decision:
    """It is not listed again for a change of its row: it may have been sold manually."""
    picture = with_remote_state(base, remote).replace(
        set_flags=Flag.SOLD_BY_HAND, clear=_ANSWERED, rendering=base.rendering
    )
    entry = with_row_seen(picture, local)
    return Decision(action="none", reason=_SOLD, count="conflicts", fields=("status",), entry=entry)
