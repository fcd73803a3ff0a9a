"""What one held change would do: each field with its old and its new value, for the operator who decides on it.

Old values come from the marketplace's row if the run read it with its values, else from the `Snapshot` of what was last
sent. A snapshot has price, mileage and status by value, and the catalogue has title and VIN; of other fields there is
only a hash, so their old value is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, Compared, compared_row
from okasie_tasks.core.guards import TAKE_OVER
from okasie_tasks.core.history import NOT_KEPT, Change, Value, both_versions, brief, sort_changes
from okasie_tasks.core.records import Planned, Remote
from okasie_tasks.core.snapshot import Snapshot, diff, fields_in, hash_of

MOST_SHOWN: Final = 1000
"""Changes of a held plan whose values are kept; the others are counted."""
PREEXISTING: Final = "existed before the first run, not in the source"


class HeldChange(msgspec.Struct, frozen=True, array_like=True):
    """One held change. ``changes``: field, old value, new value; None for empty, `NOT_KEPT` for an unknown value."""

    reference: str
    action: str
    reason: str
    dealer: str
    """The dealer's fingerprint in hex."""
    changes: tuple[Change, ...] = ()
    title: str = ""
    image: str = ""
    """The first picture, of a create or update."""

    @property
    def item(self) -> tuple[str, str]:
        return self.action, self.reference


def of_listing(
    planned: Planned, body: Mapping[str, Any], *, before: Snapshot | None, theirs: Compared | None = None
) -> HeldChange:
    """Return a held create or update. ``before``: what was last sent; ``theirs``: the marketplace's row, if read."""
    if planned.action == "create":
        return _with_body(_held(planned, [(name, None, value) for name, value in fields_in(body).items()]), body)
    if before is None:
        changes: list[Change] = [(name, NOT_KEPT, value) for name, value in fields_in(body).items()]
        changes += [(name, NOT_KEPT, None) for name in planned.loses]
    else:
        changes = list(diff(before, body))
    if theirs is not None:
        changes = [change for change in changes if change[0] not in COMPARED_FIELDS]
        changes += both_versions(theirs, compared_row({**body, "location": body}))
    return _with_body(_held(planned, changes), body)


def _with_body(change: HeldChange, body: Mapping[str, Any]) -> HeldChange:
    images = body.get("images") or ("",)
    return msgspec.structs.replace(change, title=str(body.get("title") or ""), image=str(images[0]))


def of_row(planned: Planned, *, status: str = "") -> HeldChange:
    """Return a held sell, or an invalid row that would empty fields. ``status``: the listing's status now, if known."""
    if planned.action == "invalid":
        return _held(planned, [(name, NOT_KEPT, None) for name in planned.loses])
    return _held(planned, [("status", brief(status) or NOT_KEPT, "sold")])


def of_preexisting(row: Remote) -> tuple[HeldChange, HeldChange]:
    """Return the sell of a pre-existing row, both as a sell within the limits and as part of the take-over."""
    dealer, changes = (row.dealer_code or row.dealer_profile).hex(), (("status", row.status, "sold"),)
    actions = ("sell", TAKE_OVER)
    sell, take_over = (HeldChange(row.reference, action, PREEXISTING, dealer, changes) for action in actions)
    return sell, take_over


def known_fields(titled: Titled | None, before: Snapshot | None) -> dict[str, Value]:
    """Return the values of the catalogue that were sent. It follows the source: a held title was not sent."""
    if titled is None or before is None:
        return {}
    values = titled._asdict().items()
    return {name: brief(value) for name, value in values if before.hashes.get(name) == hash_of(value)}


def with_old_values(change: HeldChange, known: Mapping[str, Value]) -> HeldChange:
    """Return the change with the old values that were not kept, as far as they are ``known``."""
    values = ((name, known.get(name) or old if old == NOT_KEPT else old, new) for name, old, new in change.changes)
    return msgspec.structs.replace(change, changes=tuple(values))


def _held(planned: Planned, changes: Sequence[Change]) -> HeldChange:
    return HeldChange(planned.reference, planned.action, planned.why, planned.dealer.hex(), sort_changes(changes))
