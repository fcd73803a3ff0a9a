"""When an account's daily full run is due: a local time of day, in a zone that may change its clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

EARLY: Final = timedelta(minutes=5)
"""A tick counts for a run that is due this soon: Beat's clock may be ahead of the one that decides.

Shorter than any change of clocks, so that the tick for the other half of the year does not count.
"""
LATE: Final = timedelta(hours=12)
"""A run that has been due for longer waits for the next day."""


def due_at(day: date, at: time, zone: tzinfo) -> datetime:
    """When it is ``at`` o'clock on ``day``, in UTC.

    A time that comes twice counts the first time. One that is skipped is read with the offset before the change: 02:30
    is 03:30 by the new clock.
    """
    return datetime.combine(day, at, zone).astimezone(UTC)


def utc_times(at: time, zone: tzinfo, first: date) -> tuple[list[int], list[int]]:
    """The hours and the minutes in UTC at which ``at`` falls in the year from ``first``."""
    moments = [due_at(first + timedelta(days=n), at, zone) for n in range(366)]
    return sorted({moment.hour for moment in moments}), sorted({moment.minute for moment in moments})


def due_day(now: datetime, at: time, zone: tzinfo) -> date | None:
    """The local day whose run is due at ``now`` (aware), or None. `EARLY` and `LATE` are included."""
    today = now.astimezone(zone).date()
    # Tomorrow's may be due just before midnight, and in the hour that comes again where clocks go back over midnight.
    days = (today + timedelta(days=n) for n in (1, 0, -1))
    return next((day for day in days if -EARLY <= now - due_at(day, at, zone) <= LATE), None)
