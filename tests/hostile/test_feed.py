"""A half file counts as a version if it stood long enough to be read as a whole one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.hostile.feed import Feed
from tests.sync.http_scenario import varied


@pytest.mark.parametrize(("seconds", "is_version"), [(1.2, False), (1.9, False), (2.0, True), (60.0, True)])
def test_a_half_file_is_a_version_once_it_is_at_rest(tmp_path: Path, seconds: float, is_version: bool) -> None:
    now = [0.0]
    feed = Feed(tmp_path / "feed.csv", varied(20, seed=1), lambda: now[0], Random(1))
    feed.in_place()
    lines = len((tmp_path / "feed.csv").read_bytes().splitlines())
    now[0] += seconds
    feed.step()
    half, whole = feed.since(0)
    assert (half.rows is not None, len(whole.rows or {})) == (is_version, 20)
    assert half.rows is None or list(half.rows) == list(feed.rows)[: lines - 1]
