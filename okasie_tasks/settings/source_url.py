"""Where a feed may be: the schemes that are served, and the settings that each of them has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.settings.model import SourceSettings

_SERVED: Final = ("file", "http", "https", "ftp", "ftps", "sftp", "s3")
_SETTINGS: Final = {
    "private_key": ("sftp",),
    "host_key": ("sftp",),
    "ca_file": ("ftps", "https", "s3"),
    "endpoint_url": ("s3",),
    "region": ("s3",),
    "access_key": ("s3",),
    "secret_key": ("s3",),
}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
"""Of two letters at least: one is a drive."""


def url_problems(key: str, source: SourceSettings) -> Iterator[str]:
    """Yield what is wrong with a feed's URL and its settings. The source is bound: ``env:`` can be resolved."""
    if not source.url or source.type.startswith("python:"):
        return
    scheme = "sql"
    if source.type != "sql":
        try:
            # A relative path has been made absolute; so has what only looks like a URL.
            url = source.location().removeprefix(f"file://{source._base}/")
        except ConfigurationError:
            return  # the variable is missing here; a read of the source reports it
        found = _SCHEME.match(url)
        scheme = found[1].lower() if found else "file"
        problem = _url_problem(url, scheme, complete=found is None or scheme == "file" or bool(found[2]))
        if problem:
            yield f"{key}.url: {problem}"
            return
    for name, schemes in _SETTINGS.items():
        if getattr(source, name) is not None and scheme not in schemes:
            yield f"{key}.{name}: is a setting for {' and '.join(f'{s}:' for s in schemes)}, and url is {scheme}:"
    if (source.access_key is None) != (source.secret_key is None):
        yield f"{key}: got one of access_key and secret_key, expected both or none"


def _url_problem(url: str, scheme: str, *, complete: bool) -> str | None:
    """Return what is wrong with a URL, without showing it: it may hold a password."""
    if scheme not in _SERVED or not complete:
        got = f"{scheme}:" if complete or scheme not in _SERVED else f"{scheme}: without //"
        return f"got {got}, expected a path or {', '.join(f'{s}://' for s in _SERVED[:-1])} or {_SERVED[-1]}://"
    if scheme == "file":
        return None
    place, _, path = url.partition("://")[2].partition("/")
    try:
        host, _ = urlsplit(f"{scheme}://{place}").hostname, urlsplit(f"{scheme}://{place}").port
    except ValueError:
        host = None
    if not host or any(sign in place for sign in "?#") or (":" in place and "@" not in place and "@" in path):
        return "has no host that can be read; in a user or password, / ? # @ and % are written %2F %3F %23 %40 and %25"
    if scheme in ("http", "https") and "*" in path.partition("?")[0]:
        return f"got a pattern, but {scheme} has no list of files; patterns are for file:, ftp:, ftps:, sftp: and s3:"
    if scheme == "s3" and "@" in place:
        return "got a user, expected s3://bucket/key with access_key and secret_key"
    return None
