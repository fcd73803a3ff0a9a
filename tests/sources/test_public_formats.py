"""Public formats of vehicle feeds are read without a converter, as docs/feed-formats.md says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source
from tests.sources.formats import DEFAULTS
from tests.sources.public_formats import FEEDS

PAGE = Path(__file__).parents[2] / "docs" / "feed-formats.md"
HEAD = """\
[accounts.dex]
api_key = "env:K"
[accounts.dex.source]
url = "{file}"
"""


@pytest.mark.parametrize("name", FEEDS)
def test_a_public_format_is_read(tmp_path: Path, name: str) -> None:
    feed = FEEDS[name]
    (tmp_path / feed.file).write_bytes(feed.content.encode(feed.encoding))
    config = tmp_path / "okasie.toml"
    config.write_text(HEAD.format(file=feed.file) + textwrap.dedent(feed.source) + DEFAULTS)
    account = load_settings(config, {"K": "key"}).accounts["dex"]
    [row] = open_source(account, cache_dir=tmp_path, current_year=2026).rows()
    assert row.listing is not None, row.issues
    car = row.listing
    assert (row.reference, car.title, car.price, car.mileage, len(car.images)) == feed.car
    assert not row.warnings


def test_the_page_lists_every_format_and_no_other() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ") and "](http" in line]
    read = {
        re.sub(r"[\[\]]|\(http[^)]*\)", "", cells[1]).strip() for cells in rows if cells[3].strip().startswith("yes")
    }
    assert read == set(FEEDS)
    others = [cells for cells in rows if not cells[3].strip().startswith("yes")]
    share = len(read) / len(rows)
    assert f"{len(read)} of {len(rows)} ({share:.0%})" in PAGE.read_text()
    assert all(cells[3].strip().startswith("no") for cells in others)
