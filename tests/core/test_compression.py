"""Both codecs write the same format, and what was zipped is read in bounded pieces."""

from __future__ import annotations

import gzip
import zlib
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okasie_tasks.core import compression
from okasie_tasks.core.compression import COMPRESSION_ERRORS, compress, decompress, gunzipped

_TEXT = b"".join(b"stock_no;price_eur;%d\n" % number for number in range(5_000))


@pytest.fixture(params=["found", "zlib"])
def codec(request: pytest.FixtureRequest) -> Any:
    """What is installed, and zlib, which is used where there is no package."""
    before = compression._codec
    compression._codec = zlib if request.param == "zlib" else before
    yield compression._codec
    compression._codec = before


def test_the_fast_codec_is_used_here() -> None:
    assert compression._codec.__name__.endswith("isal_zlib")


@given(data=st.binary(max_size=2_000))
def test_each_reads_what_the_other_wrote(data: bytes) -> None:
    assert zlib.decompress(compress(data)) == data
    assert decompress(zlib.compress(data, 1)) == data


def test_damaged_bytes_are_an_error_that_is_known(codec: ModuleType) -> None:
    packed = compress(_TEXT)
    for damaged in (packed[:-5], b"\0" * 20, packed[:100] + b"?" + packed[101:]):
        with pytest.raises(COMPRESSION_ERRORS):
            decompress(damaged)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=4), cut=st.integers(1, 400), bound=st.integers(1, 900)
)
def test_members_are_read_in_order_in_bounded_pieces(sizes: list[int], cut: int, bound: int) -> None:
    members = [_TEXT[:size] for size in sizes]
    found = list(gunzipped(pieces(b"".join(map(gzip.compress, members)), cut), size=bound))
    assert b"".join(found) == b"".join(members)
    assert all(0 < len(piece) <= bound for piece in found)


def test_what_follows_the_last_member_is_ignored(codec: ModuleType) -> None:
    assert b"".join(gunzipped([gzip.compress(_TEXT) + b"\0\0", b"more"], size=1_000)) == _TEXT


def test_a_file_that_is_cut_off_gives_what_it_has(codec: ModuleType) -> None:
    found = b"".join(gunzipped([gzip.compress(_TEXT)[:2_000]], size=1_000))
    assert 0 < len(found) < len(_TEXT)
    assert _TEXT.startswith(found)


def test_a_damaged_file_is_an_error_that_is_known(codec: ModuleType) -> None:
    with pytest.raises(COMPRESSION_ERRORS):
        list(gunzipped([b"no gzip file at all"], size=1_000))


def test_a_bomb_is_unpacked_no_faster_than_it_is_asked_for() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    read = gunzipped([bomb], size=1_000)
    assert [len(next(read)) for _ in range(3)] == [1_000] * 3
