"""The beginning of a feed that is not configured yet, for ``okasie init``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import know_url
from okasie_tasks.settings import AccountSettings, Secret, SourceSettings
from okasie_tasks.settings.source_url import url_problems
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.http import first_bytes as first_bytes_of_http
from okasie_tasks.sources.transports.stores import open_store

_SECONDS: Final = 60.0


def first_bytes(url: str, most: int) -> bytes:
    """Return at most the first ``most`` bytes behind a URL of any scheme; of a pattern, those of the newest file.

    User and password may be in the URL; an SFTP server must be in ``~/.ssh/known_hosts``, keys for S3 in the
    environment. Raises `SourceError`, and `ConfigurationError` for a scheme that is not served.
    """
    know_url(url)
    source = SourceSettings(url=url, read_seconds=_SECONDS)
    for problem in url_problems("FEED", source):
        raise ConfigurationError(problem.removeprefix("FEED.url: "), where="FEED")
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return first_bytes_of_http(url, most)
    account = AccountSettings(name="feed", api_key=Secret("env:OKASIE_API_KEY"), source=source)
    return open_store(account, url, scheme=scheme, cache_dir=Path()).first_bytes(Bounds(account), most)
