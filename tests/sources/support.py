"""An account with a source, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from okasie_tasks.ports import Source, SourceRow
from okasie_tasks.settings import load_settings
from okasie_tasks.sources import open_source

HEAD = """\
[accounts.dex]
api_key = "env:K"
[accounts.dex.source]
url = "{url}"
reference = "ref"
{options}
[accounts.dex.source.defaults]
status = "active"
mileage = 10
postalCode = "9000"
city = "Gent"
province = "Oost-Vlaanderen"
dealerLocationCode = "GENT"
"""


def source(
    folder: Path, url: str, options: str = "", *, reference: str = "ref", push: bool = False, **environ: str
) -> Source:
    config = folder / "okasie.toml"
    text = HEAD.format(url=url, options=options)
    config.write_text(text.replace('reference = "ref"', f'reference = "{reference}"'))
    account = load_settings(config, {"K": "key", **environ}).accounts["dex"]
    return open_source(account, cache_dir=folder / "feeds", current_year=2026, push=push)


def brief(rows: Any) -> list[tuple[int, str | None, str | None]]:
    """Row number, reference, and the title or the first issue's code."""
    return [(r.row, r.reference, r.listing.title if r.listing else r.issues[0].code) for r in rows]


def one(rows: Any) -> SourceRow:
    (found,) = list(rows)
    assert isinstance(found, SourceRow)
    return found
