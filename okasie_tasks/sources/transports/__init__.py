"""Transports: each brings the current feed to a local file, whole or not at all.

``file:`` is read where it is. ``http:`` and ``https:`` are in `okasie_tasks.sources.http`; ``ftp:``, ``ftps:``,
``sftp:`` and ``s3:`` are stores of files, which `StoreTransport` downloads from.
"""

from __future__ import annotations

from pathlib import Path

from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.transports.base import Fetched, Transport

__all__ = ["Fetched", "Transport", "open_transport"]


def open_transport(account: AccountSettings, url: str, *, cache_dir: Path) -> Transport:
    """Return the transport of a remote URL. Nothing is fetched yet.

    Raises `ConfigurationError` when its extra is not installed.
    """
    # Each scheme has its own imports, some of them extras.
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        from okasie_tasks.sources.http import HttpTransport  # noqa: PLC0415

        return HttpTransport(account, url, cache_dir=cache_dir)
    from okasie_tasks.sources.transports.stores import open_store  # noqa: PLC0415

    return open_store(account, url, scheme=scheme, cache_dir=cache_dir)
