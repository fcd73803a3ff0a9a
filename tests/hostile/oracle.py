"""What is right, by what the dealer, the operators and the marketplace's people did; nothing of the package is asked.

Where the oracle allows more than one result, it is because of one of these:

- A car that is absent from a version of the feed that a run could read may be sold. With guards off that holds for a
  shortened and for a re-keyed feed, too: they look like a dealer who has sold cars.
- A listing that was handed in and confirmed stands until its row changes. If the confirmation was a lie, or if nobody
  knows whether a version without the row was read, its row may stand as well.
- How free text is rendered after a write is learned, so nobody edits the colour of a car that was just pushed or edited.
  The package keeps no content of listings that were handed in, so an edit of those stands; nobody makes one.
- A table changes between runs only. An edit whose row vanishes while it is written back counts as offered.
- A car that people sold on the marketplace stays sold while its row stands. If the row had not been sent as it is, or
  changes, or is away for a time, the car may be listed again, as its row says.
- A listing that was refused with a verdict that the contract allows is sent again when its row changes; a refused sell
  is repeated by nobody. Other refusals must leave no reject.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from okasie_tasks.sandbox.api import Write
from tests.hostile.feed import Feed
from tests.sync.http_scenario import Row

FREE_SELLS: Final = 5
"""Per dealer: the guard's ``free_sold_count`` when nothing is said."""


class Push(msgspec.Struct):
    """A listing handed in. ``row``: the car's row then; ``read``: a run had read it."""

    at: float
    body: dict[str, Any]
    row: Row
    read: bool
    sent: bool = False


class SoldThere(NamedTuple):
    """A car that the marketplace's people sold. ``row``: the car's row then, if it was certainly sent."""

    at: float
    row: Row | None


class Oracle:
    """``sold_by_hand``: reference -> when an operator sold it."""

    def __init__(self, feed: Feed, *, guarded: bool, ours: set[str]) -> None:
        self.feed, self.guarded, self.ours = feed, guarded, ours
        self.sold_by_hand: dict[str, float] = {}
        self.sold_there: dict[str, SoldThere] = {}
        self.pushes: dict[str, Push] = {}
        self.pushed_at: dict[str, float] = {}
        """The last push of any kind."""
        self.edits: dict[tuple[str, str], set[str]] = {}
        """Reference and column -> the values that people set on the marketplace."""
        self.refused: set[str] = set()
        """What the marketplace refused for good, as the contract allows."""

    # -- during a round --------------------------------------------------------------------------------------------

    def sells(self, writes: list[Write], began: float) -> Iterator[str]:
        """A car that stood in every version that could be read, and that no operator sold, is not sold."""
        versions = self.feed.since(began)
        absent = [version.rows for version in versions if version.rows is not None]
        by_branch: dict[str, set[str]] = {}
        for write in writes:
            if write.outcome != "sold" or self._is_sold_by_hand(write.reference):
                continue
            if all(write.reference in rows for rows in absent):
                yield f"{write.reference} was sold, and every version of the feed had it"
            by_branch.setdefault(self._branch(write.reference), set()).add(write.reference)
        for branch, sold in by_branch.items():
            if self.guarded and len(sold) > FREE_SELLS:
                yield f"{len(sold)} cars of {branch} were sold at once without approval"

    def cells(self) -> Iterator[str]:
        """A cell is written only with what a person set on the marketplace."""
        self.feed.absorb()
        for reference, column, value in self.feed.written:
            if value not in self.edits.get((reference.removeprefix("N-"), column), ()):
                yield f"{column} of {reference} was written back as {value!r:.60}, which nobody set"
        self.feed.written.clear()

    def _branch(self, reference: str) -> str:
        for version in reversed(self.feed.versions):
            if version.rows and reference in version.rows:
                return version.rows[reference]["branch"]
        return ""

    # -- at its end ------------------------------------------------------------------------------------------------

    def differences(self, stored: list[dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> Iterator[str]:
        """What the marketplace holds beside what it should hold."""
        found = {row["externalReference"]: row for row in stored if row["externalProvider"] != "somebody-else"}
        for reference in sorted(found.keys() | wanted.keys()):
            row, body = found.get(reference), wanted.get(reference)
            live = row is not None and row["status"] != "sold"
            if reference in self.sold_there and (not live or self._may_be_revived(reference)):
                if live and body is not None and (wrong := self._older(reference, row["body"], body)):
                    yield wrong
                continue
            if reference in self.sold_there:
                yield f"{reference} was sold there by somebody and is live again"
                continue
            if body is None:
                if live and not self._stands(reference):
                    yield f"{reference} is not in the feed and is still live"
            elif self._is_sold_by_hand(reference):
                if live and self._always_there(reference, self.sold_by_hand[reference]):
                    yield f"{reference} was sold by hand and is live again"
            elif row is None or not live:
                yield f"{reference} is in the feed and {'sold' if row else 'missing'} on the marketplace"
            elif wrong := self._older(reference, row["body"], body):
                yield wrong

    def _older(self, reference: str, shown: dict[str, Any], body: dict[str, Any]) -> str:
        push, allowed = self.pushes.get(reference), [body]
        if push is not None and push.row == self.feed.rows.get(reference):
            rows = [version.rows.get(reference) for version in self.feed.since(push.at) if version.rows is not None]
            # It stands until its row changes. Whether a version without the row was ever read, nobody knows.
            stands = push.sent and push.read and all(row == push.row for row in rows)
            allowed = [push.body] if stands else [push.body, body]
        if shown in allowed:
            return ""
        fields = [name for name in shown.keys() | allowed[0].keys() if shown.get(name) != allowed[0].get(name)]
        return f"{reference} shows " + ", ".join(
            f"{name} {shown.get(name)!r:.40} instead of {allowed[0].get(name)!r:.40}" for name in sorted(fields)
        )

    def _is_sold_by_hand(self, reference: str) -> bool:
        """Sold by an operator, and not pushed since."""
        at = self.sold_by_hand.get(reference)
        return at is not None and self.pushed_at.get(reference, 0) <= at

    def _may_be_revived(self, reference: str) -> bool:
        """Sold there by somebody, and pushed since, or its row was not the same all the time."""
        at, row = self.sold_there[reference]
        stood = all(v.rows is None or v.rows.get(reference) == row for v in self.feed.since(at))
        return row is None or not stood or self.pushed_at.get(reference, 0) > at

    def _stands(self, reference: str) -> bool:
        """A car that was pushed while the feed lacked it stands."""
        at = self.pushed_at.get(reference)
        return at is not None and all(
            version.rows is None or reference not in version.rows for version in self.feed.since(at)
        )

    def _always_there(self, reference: str, since: float) -> bool:
        return all(version.rows is None or reference in version.rows for version in self.feed.since(since))
