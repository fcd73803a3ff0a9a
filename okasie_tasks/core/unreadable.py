"""Rows of the source whose reference cannot be read, and the sells that wait because of them.

Such a row may be any listing, so a read that contains one does not prove that a listing is absent. The row is a reject
that is identified by its content: it stays the same reject when it moves to another line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from okasie_tasks.core.fields import CONTRACT
from okasie_tasks.core.listing import Issue
from okasie_tasks.core.records import Reject

MOST_NAMED: Final = 1_000
"""Rows that are kept with place and reason, and listings whose waiting sell is kept by reference. All are counted."""


class UnreadableRow(msgspec.Struct, frozen=True, array_like=True):
    """One row. ``content``: the fingerprint of the raw row; ``text``: what stands where the reference should be."""

    where: str
    content: bytes
    text: str
    issues: tuple[Issue, ...]


class UnreadableRows(msgspec.Struct):
    """The rows of the last read, as rejects. ``count`` includes those beyond `MOST_NAMED`."""

    count: int = 0
    rejects: list[Reject] = []


class WaitingSells(msgspec.Struct):
    """The sells that wait since run ``run``, because the source was not read completely. ``references``: the first."""

    count: int = 0
    reason: str = ""
    run: str = ""
    references: list[str] = []


def rejects_of(rows: Sequence[UnreadableRow], *, run: str, now: int) -> list[Reject]:
    """Return the rejects of the first `MOST_NAMED` rows. ``now``: whole seconds, Redis time."""
    return [
        Reject(
            reference=row.text,
            where=row.where,
            code=row.issues[0].code,
            message="; ".join(f"{issue.field}: {issue.message}" for issue in row.issues),
            fields=[issue.field for issue in row.issues],
            content=row.content.hex(),
            contract=CONTRACT,
            attempts=0,
            first_seen=now,
            last_seen=now,
            run=run,
            unreadable=True,
        )
        for row in rows[:MOST_NAMED]
    ]


def merged(before: UnreadableRows, now: UnreadableRows, *, complete: bool) -> tuple[UnreadableRows, int]:
    """Return the rows after a read, and how many of them are new.

    ``complete``: the read reached the proven end of a settled source, so a row that it lacks is gone.
    """
    first_seen = {reject.content: reject.first_seen for reject in before.rejects}
    for reject in now.rejects:
        reject.first_seen = first_seen.get(reject.content, reject.first_seen)
    had, has = (Counter(reject.content for reject in rows.rejects) for rows in (before, now))
    beyond = max(0, (now.count - len(now.rejects)) - (before.count - len(before.rejects)))
    new = (has - had).total() + beyond
    if complete:
        return now, new
    kept = [reject for reject in before.rejects if reject.content not in has]
    return UnreadableRows(now.count + len(kept), [*now.rejects, *kept][:MOST_NAMED]), new
