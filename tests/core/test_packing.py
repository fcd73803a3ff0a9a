from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core.estimates import BYTES_PER_BULK, halves, minimum_requests, pack
from okasie_tasks.core.records import BUCKETS, bucket_of, buckets_of, hash8, partition_of_hash, partitions_for


@given(st.lists(st.integers(1, 400), max_size=1000))
def test_small_bodies_need_the_fewest_calls(sizes: list[int]) -> None:
    calls = pack(sizes, flush=True)
    assert sum(calls) == len(sizes)
    assert len(calls) == ceil(len(sizes) / 100)


@given(st.lists(st.integers(1, 300_000), max_size=300))
def test_no_call_is_too_large_and_nothing_is_lost(sizes: list[int]) -> None:
    calls = pack(sizes, flush=True)
    assert sum(calls) == len(sizes)
    start = 0
    for length in calls:
        assert 1 <= length <= 100
        assert length == 1 or sum(sizes[start : start + length]) + length <= BYTES_PER_BULK + 1
        start += length


def test_what_does_not_fill_a_call_waits() -> None:
    assert pack([10] * 250, flush=False) == [100, 100]
    assert pack([10] * 200, flush=False) == [100, 100]
    assert pack([], flush=True) == []


@pytest.mark.parametrize(
    ("rows", "upserts", "sells", "fewest"),
    [(0, 0, 0, 1), (200, 0, 0, 1), (201, 0, 0, 2), (0, 100, 0, 2), (0, 101, 0, 3), (46_404, 340, 25, 233 + 4 + 25)],
)
def test_minimum(rows: int, upserts: int, sells: int, fewest: int) -> None:
    assert minimum_requests(rows_listed=rows, upserts=upserts, sells=sells) == fewest


def test_halving_ends_at_one() -> None:
    assert halves(2) == (1, 1)
    assert sum(halves(99)) == 99


@given(st.text(min_size=1, max_size=64), st.integers(0, 3_000_000))
def test_every_reference_has_one_partition(reference: str, listings: int) -> None:
    partitions = partitions_for(listings)
    assert BUCKETS % partitions == 0
    assert bucket_of(reference) in buckets_of(partition_of_hash(hash8(reference), partitions), partitions)
