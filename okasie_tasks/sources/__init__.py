"""The local inventory: how it is read, and how a row becomes a listing."""

from __future__ import annotations

from pathlib import Path

from okasie_tasks.ports import Source
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.write_back import open_write_back

__all__ = ["open_source", "open_write_back"]


def open_source(account: AccountSettings, *, cache_dir: Path, current_year: int) -> Source:
    """Return the account's source, by the configured type and URL. Nothing is read yet."""
    from okasie_tasks.sources.custom import load_custom  # noqa: PLC0415 - each kind has its own imports
    from okasie_tasks.sources.files import FileSource  # noqa: PLC0415
    from okasie_tasks.sources.http import HttpSource  # noqa: PLC0415
    from okasie_tasks.sources.sql import SqlSource  # noqa: PLC0415

    kind = account.source.type
    if kind.startswith("python:"):
        return load_custom(account, current_year=current_year)
    url = account.source.location()
    if kind == "sql":
        return SqlSource(account, url, current_year=current_year)
    if url.startswith(("http://", "https://")):
        return HttpSource(account, url, cache_dir=cache_dir, current_year=current_year)
    return FileSource(account, Path(url.removeprefix("file://")), current_year=current_year)
