"""Pushes share reads of the source: no stale row, no thread held for long, one read for all that wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from okasie_tasks.errors import SourceBusy, SourceError, SourceUnsettled
from okasie_tasks.ports import SourceRow
from okasie_tasks.urgent.source_reads import SourceReads
from tests.sources.support import source

_SECONDS = 30


class Feed:
    """A source whose reads end when the test lets them. ``reads``: the references of each read."""

    def __init__(self) -> None:
        self.version_now, self.reads = 1, list[list[str]]()
        self.reading, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None

    def open(self) -> Any:
        return self

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        self.reads.append(list(references))
        version = self.version_now
        self.reading.release()
        assert self.may_end.acquire(timeout=_SECONDS)
        if self.error is not None:
            raise self.error
        for number, reference in enumerate(references, start=1):
            yield SourceRow(number, reference, None, version=version)


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def versions(reads: SourceReads, push: str) -> list[int]:
    return [row.version for row in reads.read(push, [push], lambda: 0).rows[push]]


def test_pushes_that_arrive_during_a_read_share_the_next_one(feed: Feed, pool: ThreadPoolExecutor) -> None:
    reads = SourceReads(feed.open)
    first = pool.submit(versions, reads, "A")
    assert feed.reading.acquire(timeout=_SECONDS)
    feed.version_now = 2
    later = [f"B{number}" for number in range(10)]
    for push in later:
        with pytest.raises(SourceBusy) as busy:
            versions(reads, push)
        assert 0.1 <= busy.value.seconds <= 1.1
        assert not busy.value.counted
    feed.may_end.release(2)
    assert first.result(_SECONDS) == [1]
    assert [versions(reads, push) for push in later] == [[2]] * 10, "none of them has the row from before it arrived"
    assert feed.reads == [["A"], later]
    assert not reads._of


def test_the_more_pushes_wait_the_later_each_comes_back(feed: Feed, pool: ThreadPoolExecutor) -> None:
    reads = SourceReads(feed.open)
    first = pool.submit(versions, reads, "A")
    assert feed.reading.acquire(timeout=_SECONDS)
    for number in range(100):
        with pytest.raises(SourceBusy) as busy:
            versions(reads, f"B{number}")
    assert busy.value.seconds == pytest.approx(10, abs=0.2), "101 messages, ten a second"
    feed.may_end.release(2)
    assert first.result(_SECONDS) == [1]
    assert versions(reads, "B0") == [1]


def test_a_push_that_arrives_after_a_read_begins_another_one(feed: Feed) -> None:
    reads = SourceReads(feed.open)
    feed.may_end.release(2)
    assert versions(reads, "A") == [1]
    feed.version_now = 2
    assert versions(reads, "A") == [2], "a second push under the same id is a new one"


def test_a_read_that_is_kept_answers_the_same_request_again(feed: Feed) -> None:
    """A preview that waits for a permit does not read its source again."""
    reads = SourceReads(feed.open)
    feed.may_end.release(2)
    first = reads.read("A", ["A"], lambda: 1, keep=True)
    feed.version_now = 2
    assert reads.read("A", ["A"], lambda: 2, keep=True) is first
    assert versions(reads, "B") == [2]
    assert feed.reads == [["A"], ["B"]]
    reads.forget("A")
    assert not reads._of


@pytest.mark.parametrize("share", [1, 2, 4])
def test_the_reads_of_an_account_occupy_its_share_of_the_threads(
    feed: Feed, pool: ThreadPoolExecutor, share: int
) -> None:
    reads = SourceReads(feed.open, share=lambda: share)
    pool.submit(versions, reads, "A")
    assert feed.reading.acquire(timeout=_SECONDS)
    occupied = list[int]()
    wait_for = reads._changed.wait_for

    def waiting(*args: Any) -> bool:
        occupied.append(reads._waiting + 1)
        return wait_for(*args)

    reads._changed.wait_for = waiting  # type: ignore[method-assign]
    pushes = [pool.submit(versions, reads, f"B{number}") for number in range(6)]
    for push in pushes:
        assert isinstance(push.exception(_SECONDS), SourceBusy)
    assert max(occupied, default=1) <= share
    assert len(occupied) >= share - 1
    feed.may_end.release()


def test_all_pushes_of_a_failed_read_get_its_error_and_the_next_read_works(
    feed: Feed, pool: ThreadPoolExecutor
) -> None:
    reads = SourceReads(feed.open)
    feed.error = SourceError("is a web page", where="feed.csv")
    first = pool.submit(versions, reads, "A")
    assert feed.reading.acquire(timeout=_SECONDS)
    for push in ("B", "C"):
        with pytest.raises(SourceBusy):
            versions(reads, push)
    feed.may_end.release(2)
    assert str(first.exception(_SECONDS)) == "feed.csv: is a web page"
    for push in ("B", "C"):
        with pytest.raises(SourceError, match="is a web page"):
            versions(reads, push)
    assert len(feed.reads) == 2
    feed.error = None
    feed.may_end.release()
    assert versions(reads, "D") == [1]


def test_a_row_that_may_be_half_written_waits_until_the_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("ref,title,price\nA,Golf,100\nB,Polo,20")
    reads = SourceReads(lambda: source(tmp_path, "feed.csv"))
    assert versions(reads, "A") == [0], "another row"
    with pytest.raises(SourceUnsettled):
        versions(reads, "B")
    os.utime(path, (1, 1))
    assert versions(reads, "B") == [0], "many feeds lack the last line end"


def test_a_read_that_ends_by_a_defect_leaves_nothing_behind(feed: Feed) -> None:
    reads = SourceReads(feed.open)
    feed.error = ZeroDivisionError()
    feed.may_end.release(2)
    with pytest.raises(ZeroDivisionError):
        versions(reads, "A")
    feed.error = None
    assert versions(reads, "A") == [1]
