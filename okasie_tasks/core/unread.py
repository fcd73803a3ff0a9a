"""What a row of the marketplace does not say: fields that are unknown are taken to be as we know them.

A field that a row does not contain is unknown, not empty. So is an empty field if most rows have lost it at once, if an
active listing must have it, or if the row was not changed since it was last compared. The ledger stores no values, so
an unknown field is filled in with our value before the row is compared: it is never a difference, it is not offered to
the source, and the ledger does not learn its absence.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.fingerprint import (
    COMPARED_FIELDS,
    Compared,
    compared_fingerprint,
    decode_compared,
    differing,
    echo_learnable,
    encode_compared,
    never_learned,
)
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import Local, Remote

_REQUIRED: Final = frozenset({"status", "title", "price", "postalCode", "city", "province"})
"""Fields that an active listing cannot lack (API docs, listings/upsert)."""
_BITS: Final = tuple(1 << tuple(FIELDS).index(name) for name in COMPARED_FIELDS)


def completed(
    local: Local | None, remote: Remote, base: Entry | None, lost: Collection[str], *, resends: bool
) -> tuple[Remote, bool]:
    """Return the row with our values in place of what is unknown, and whether a field that we fill was unknown.

    ``lost``: fields that most rows have lost; see `okasie_tasks.sync.lost_fields`. A row whose difference
    may come from its unknown fields alone has the ledger's rendering. ``resends``: a field that the marketplace dropped
    from our last write is sent once more; otherwise it is unknown, since it is no edit to offer to the source.
    """
    row = remote if remote.status or base is None else msgspec.structs.replace(remote, status=base.status)
    if row.values is None:  # the ledger knows this rendering
        return row, False
    theirs = decode_compared(row.values)
    ours = decode_compared(local.values) if local is not None and local.values is not None else None
    doubtful = _REQUIRED.union(lost) if _touched(row, base, resends=resends) else COMPARED_FIELDS
    unknown = _unknown(ours, theirs, row.absent, base, doubtful)
    if not unknown:
        return row, False
    if ours is not None:
        values = tuple(ours[i] if i in unknown else value for i, value in enumerate(theirs))
        row = msgspec.structs.replace(row, values=encode_compared(values), rendering=compared_fingerprint(values))
        if base is None or base.has(Flag.ECHO_DUE) or _differs(local, row, base, ours, values):
            return row, True
    if base is None:
        return row, True
    return msgspec.structs.replace(row, values=None, rendering=base.rendering), True


def _unknown(
    ours: Compared | None, theirs: Compared, absent: int, base: Entry | None, doubtful: Collection[str]
) -> set[int]:
    """Return the positions of the fields that are unknown and that we fill or filled.

    ``doubtful``: fields that are unknown where they are empty.
    """
    filled = base.filled if base is not None else 0
    return {
        i
        for i, name in enumerate(COMPARED_FIELDS)
        if theirs[i] is None
        and (absent >> i & 1 or name in doubtful)
        and (filled & _BITS[i] or (ours is not None and ours[i] is not None))
    }


def _touched(row: Remote, base: Entry | None, *, resends: bool) -> bool:
    """Return whether the row may have been changed since it was last compared."""
    if base is not None and base.has(Flag.ECHO_DUE):
        return resends
    if base is None or not base.changed_at:
        return True
    return row.changed_at > base.changed_at


def _differs(local: Local | None, row: Remote, base: Entry, ours: Compared, values: Compared) -> bool:
    """Return whether the fields that the row has prove a change on the marketplace.

    An unknown field may have been rendered differently from ours, so the fingerprint alone proves nothing. A price,
    status or mileage does, since its rendering is never learned, and so does a row that was changed since it was last
    compared. If our own content is not what the marketplace had, nothing is proven.
    """
    if row.rendering == base.rendering or local is None or local.content != base.row:
        return False
    touched = row.changed_at > base.changed_at > 0
    if base.content != local.content or base.has(Flag.DISPUTED):
        return touched
    if never_learned.intersection(differing(ours, values)):
        return True
    return touched and not echo_learnable(ours, values)
