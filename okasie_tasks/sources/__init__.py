"""The local inventory: how it is read, and how a row becomes a listing."""

from __future__ import annotations

from pathlib import Path

from okasie_tasks.ports import Source
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.write_back import open_write_back

__all__ = ["open_source", "open_write_back"]


def open_source(account: AccountSettings, *, cache_dir: Path, current_year: int, push: bool = False) -> Source:
    """Return the account's source, by the configured type and URL. Nothing is read yet.

    ``push``: it is opened for a push, which waits less long for it. The time begins now.
    """
    from okasie_tasks.sources.bounds import Bounds  # noqa: PLC0415
    from okasie_tasks.sources.custom import load_custom  # noqa: PLC0415 - each kind has its own imports
    from okasie_tasks.sources.fetched import FetchedSource  # noqa: PLC0415
    from okasie_tasks.sources.files import FileSource  # noqa: PLC0415
    from okasie_tasks.sources.sql import SqlSource  # noqa: PLC0415
    from okasie_tasks.sources.transports import open_transport  # noqa: PLC0415

    kind, bounds = account.source.type, Bounds(account, push=push)
    if kind.startswith("python:"):
        return load_custom(account, current_year=current_year, bounds=bounds)
    url = account.source.location()
    if kind == "sql":
        return SqlSource(account, url, current_year=current_year, bounds=bounds)
    if url.startswith("file://"):
        return FileSource(account, Path(url.removeprefix("file://")), current_year=current_year, bounds=bounds)
    transport = open_transport(account, url, cache_dir=cache_dir)
    return FetchedSource(account, transport, current_year=current_year, bounds=bounds)
