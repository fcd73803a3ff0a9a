"""One full run a day at the account's local time, across changes of summer time: a table, and a year tick by tick."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from okasie_tasks.core.daily import EARLY, LATE, due_at, due_day, utc_times

BRUSSELS, NEW_YORK, LORD_HOWE = "Europe/Brussels", "America/New_York", "Australia/Lord_Howe"
FIRST = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("zone", "at", "day", "utc"),
    [
        # Brussels goes forward at 02:00 on 29 March and back at 03:00 on 25 October.
        (BRUSSELS, "02:30", "2026-03-28", "2026-03-28 01:30"),
        (BRUSSELS, "02:30", "2026-03-29", "2026-03-29 01:30"),  # 03:30 by the clock: 02:30 does not exist
        (BRUSSELS, "02:30", "2026-03-30", "2026-03-30 00:30"),
        (BRUSSELS, "02:30", "2026-10-24", "2026-10-24 00:30"),
        (BRUSSELS, "02:30", "2026-10-25", "2026-10-25 00:30"),  # the first of two
        (BRUSSELS, "02:30", "2026-10-26", "2026-10-26 01:30"),
        (BRUSSELS, "03:30", "2026-03-29", "2026-03-29 01:30"),
        (BRUSSELS, "03:30", "2026-10-25", "2026-10-25 02:30"),
        (BRUSSELS, "00:15", "2026-03-29", "2026-03-28 23:15"),
        (BRUSSELS, "00:15", "2026-10-25", "2026-10-24 22:15"),
        # New York goes forward at 02:00 on 8 March and back at 02:00 on 1 November.
        (NEW_YORK, "02:30", "2026-03-08", "2026-03-08 07:30"),
        (NEW_YORK, "03:30", "2026-03-08", "2026-03-08 07:30"),
        (NEW_YORK, "02:30", "2026-03-09", "2026-03-09 06:30"),
        (NEW_YORK, "01:30", "2026-11-01", "2026-11-01 05:30"),
        (NEW_YORK, "02:30", "2026-11-01", "2026-11-01 07:30"),
        # Lord Howe goes back by half an hour at 02:00 on 5 April and forward at 02:00 on 4 October.
        (LORD_HOWE, "03:30", "2026-04-04", "2026-04-03 16:30"),
        (LORD_HOWE, "01:45", "2026-04-05", "2026-04-04 14:45"),
        (LORD_HOWE, "03:30", "2026-04-05", "2026-04-04 17:00"),
        (LORD_HOWE, "02:15", "2026-10-04", "2026-10-03 15:45"),  # 02:45 by the clock
        (LORD_HOWE, "03:30", "2026-10-04", "2026-10-03 16:30"),
        ("UTC", "02:30", "2026-03-29", "2026-03-29 02:30"),
        ("UTC", "00:15", "2026-10-25", "2026-10-25 00:15"),
    ],
)
def test_where_a_local_time_falls(zone: str, at: str, day: str, utc: str) -> None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    wanted, clock = date.fromisoformat(day), (time.fromisoformat(at), ZoneInfo(zone))
    assert due_at(wanted, *clock) == moment
    assert due_day(moment, *clock) == wanted


@pytest.mark.parametrize(
    ("zone", "at", "times"),
    [
        (BRUSSELS, "03:30", ([1, 2], [30])),
        (BRUSSELS, "00:15", ([22, 23], [15])),
        (BRUSSELS, "01:30", ([0, 23], [30])),
        (NEW_YORK, "02:30", ([6, 7], [30])),
        (LORD_HOWE, "03:30", ([16, 17], [0, 30])),
        ("Africa/Casablanca", "03:30", ([2, 3], [30])),  # an hour back for Ramadan only
        ("UTC", "03:30", ([3], [30])),
    ],
)
def test_the_utc_times_of_a_year(zone: str, at: str, times: tuple[list[int], list[int]]) -> None:
    assert utc_times(time.fromisoformat(at), ZoneInfo(zone), FIRST) == times


def test_a_tick_may_be_late_by_half_a_day_and_early_by_what_clocks_differ() -> None:
    clock = (time(3, 30), ZoneInfo(BRUSSELS))
    day, moment = date(2026, 6, 1), datetime(2026, 6, 1, 1, 30, tzinfo=UTC)
    assert due_day(moment - EARLY, *clock) == due_day(moment + LATE, *clock) == day
    second = timedelta(seconds=1)
    assert due_day(moment - EARLY - second, *clock) is due_day(moment + LATE + second, *clock) is None


def test_a_date_that_comes_back_after_midnight_has_one_run() -> None:
    """St. John's went back at 00:01 until 2011: a minute of the new date, then the last hour of the old one again."""
    clock = (time(0, 0), ZoneInfo("America/St_Johns"))
    moment = due_at(date(2010, 11, 7), *clock)
    later = moment + timedelta(minutes=30)
    assert later.astimezone(clock[1]).date() == date(2010, 11, 6)
    assert due_day(moment, *clock) == due_day(later, *clock) == date(2010, 11, 7)


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(minutes=-4), timedelta(minutes=20), timedelta(hours=11)])
@pytest.mark.parametrize("at", ["00:02", "00:15", "01:45", "02:30", "03:30", "12:00", "23:45"])
@pytest.mark.parametrize("zone", [BRUSSELS, NEW_YORK, LORD_HOWE, "Pacific/Chatham", "Africa/Casablanca", "UTC"])
def test_a_year_tick_by_tick_has_one_run_each_local_day(zone: str, at: str, delay: timedelta) -> None:
    """Each tick is taken up ``delay`` after Beat's moment, and claims its day where it is newer than the last."""
    clock = (time.fromisoformat(at), ZoneInfo(zone))
    hours, minutes = utc_times(*clock, FIRST)
    runs: dict[date, datetime] = {}
    for n, hour, minute in product(range(366), hours, minutes):
        now = datetime.combine(FIRST + timedelta(days=n), time(hour, minute), UTC) + delay
        day = due_day(now, *clock)
        if day is not None and (not runs or day > max(runs)):
            runs[day] = now
    days = sorted(runs)
    assert days == [days[0] + timedelta(days=n) for n in range(len(days))], "no day without a run"
    assert len(days) >= 365
    # The first of all ticks may make up for one before it.
    late = {day: runs[day] - due_at(day, *clock) for day in days[1:]}
    assert all(-EARLY <= by <= delay for by in late.values())
    if not delay:
        local = {day: runs[day].astimezone(clock[1]) for day in late}
        moved = [day for day in late if (local[day].date(), local[day].time()) != (day, clock[0])]
        assert len(moved) <= 1, "the day on which clocks skip the time"
        assert all(local[day].date() == day and local[day].time() > clock[0] for day in moved)
