"""What a row of the marketplace does not say: fields that are unknown are taken to be as we know them.

A field that a row does not contain is unknown, not empty. The same holds for an empty field that most rows have lost at
once. The ledger stores no values, so an unknown field is filled in with our value before the row is compared: it is
never a difference, it is not offered to the source, and the ledger does not learn its absence.
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

_BITS: Final = tuple(1 << tuple(FIELDS).index(name) for name in COMPARED_FIELDS)


def completed(local: Local | None, remote: Remote, base: Entry | None, lost: Collection[str]) -> tuple[Remote, bool]:
    """Return the row with our values in place of what is unknown, and whether a field that we fill was unknown.

    ``lost``: fields whose empty values are unknown too; see `okasie_tasks.sync.unread_fields`. A row whose difference
    may come from its unknown fields alone has the ledger's rendering.
    """
    row = remote if remote.status or base is None else msgspec.structs.replace(remote, status=base.status)
    if row.values is None:  # the ledger knows this rendering
        return row, False
    theirs = decode_compared(row.values)
    ours = decode_compared(local.values) if local is not None and local.values is not None else None
    unknown = _unknown(ours, theirs, row.absent, base, lost)
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
    ours: Compared | None, theirs: Compared, absent: int, base: Entry | None, lost: Collection[str]
) -> set[int]:
    """Return the positions of the fields that are unknown and that we fill or filled."""
    filled = base.filled if base is not None else 0
    return {
        i
        for i, name in enumerate(COMPARED_FIELDS)
        if theirs[i] is None
        and (absent >> i & 1 or name in lost)
        and (filled & _BITS[i] or (ours is not None and ours[i] is not None))
    }


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
