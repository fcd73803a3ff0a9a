"""When an account's daily full run is due: a local time of day, in a zone that may change its clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

EARLY: Final = timedelta(minutes=5)
"""How early a Beat tick may start a run, because Beat's clock may be ahead of the clock that decides.

Shorter than any daylight-saving shift, so that the tick for the other half of the year does not count.
"""
LATE: Final = timedelta(hours=12)
"""A run that is overdue by more than this waits for the next day."""


def due_at(day: date, at: time, zone: tzinfo) -> datetime:
    """Return the UTC time of ``at`` local time on ``day``.

    An ambiguous time means its first occurrence. A skipped time uses the offset before the change: 02:30 becomes 03:30
    in the new offset.
    """
    return datetime.combine(day, at, zone).astimezone(UTC)


def utc_times(at: time, zone: tzinfo, first: date) -> tuple[list[int], list[int]]:
    """Return the UTC hours and minutes at which ``at`` falls during the year from ``first``."""
    moments = [due_at(first + timedelta(days=n), at, zone) for n in range(366)]
    return sorted({moment.hour for moment in moments}), sorted({moment.minute for moment in moments})


def due_day(now: datetime, at: time, zone: tzinfo) -> date | None:
    """Return the local day whose run is due at ``now`` (aware), or None. `EARLY` and `LATE` are inclusive."""
    today = now.astimezone(zone).date()
    # Tomorrow's run may be due just before midnight, or in the repeated hour where clocks go back across midnight.
    days = (today + timedelta(days=n) for n in (1, 0, -1))
    return next((day for day in days if -EARLY <= now - due_at(day, at, zone) <= LATE), None)
