"""How long a run will take: from what is left to send and the quota."""

from __future__ import annotations

import pytest

from okasie_tasks.core.estimates import duration, forecast, to_read, to_send


def test_four_minutes_at_this_quota() -> None:
    assert forecast(480, per_minute=120).text == "about 4 min at this quota"
    assert forecast(480, per_minute=60).text == "about 8 min at this quota"
    assert forecast(15, per_minute=120, at_least=True).text == "at least 8 s at this quota"


def test_a_pause_comes_first_unless_nothing_is_left() -> None:
    assert forecast(120, per_minute=120, pause_seconds=30).seconds == 90
    assert forecast(0, per_minute=120, pause_seconds=30).seconds == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "1 s"), (89, "89 s"), (90, "2 min"), (5_300, "88 min"), (10_800, "3 h")]
)
def test_durations_are_told_with_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_reading_costs_every_page_of_a_full_run_and_one_of_an_incremental() -> None:
    assert [to_read(n, full=True) for n in (0, 1, 200, 201)] == [1, 1, 1, 2]
    assert to_read(10_000, full=False) == 1


def test_what_is_left_counts_chunks_that_came_on_top() -> None:
    plan = {"upserts": 250, "sells": 4}
    assert to_send(**plan, chunks_done=0, chunks_open=0, sells_done=0) == 3 + 4
    assert to_send(**plan, chunks_done=2, chunks_open=1, sells_done=1) == 1 + 3
    assert to_send(**plan, chunks_done=3, chunks_open=2, sells_done=4) == 2, "a chunk was halved"
