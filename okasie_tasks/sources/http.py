"""Feeds behind a URL: downloaded to a file, checked to be complete, then read like any file.

An unchanged feed is not downloaded again (ETag, Last-Modified). ``Content-Length`` is checked, because an incomplete
feed must be an error and not a short list. Passwords in URLs or headers never appear in a message.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import requests
import urllib3

from okasie_tasks.errors import SourceError
from okasie_tasks.masking import know, know_pair
from okasie_tasks.settings import AccountSettings, masked
from okasie_tasks.sources import download
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.transports.base import (
    PIECE_BYTES,
    Download,
    FeedCache,
    Fetched,
    PassingFault,
    with_retries,
)

_FIRST_BYTES_SECONDS: Final = 60.0
_PASSING: Final = (502, 503, 504)


def first_bytes(url: str, most: int) -> bytes:
    """Return at most the first ``most`` bytes behind a URL. Raises `SourceError`."""
    where, data = masked(url), bytearray()
    until = time.monotonic() + _FIRST_BYTES_SECONDS
    try:
        with download.get(url, seconds=_FIRST_BYTES_SECONDS) as answer:
            if answer.status_code != requests.codes.ok:
                raise SourceError(f"answered {answer.status_code}, expected 200", where=where, code="http")
            while len(data) < most and (piece := answer.raw.read(PIECE_BYTES, decode_content=False)):
                data += piece
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # The text of the library's error may hold the URL with its password.
        raise SourceError(f"cannot be fetched ({type(error).__name__})", where=where, code="http") from None
    if time.monotonic() > until:
        raise SourceError(f"was not read within {_FIRST_BYTES_SECONDS:g} s", where=where, code="too_slow")
    return bytes(data[:most])


class HttpTransport:
    """A feed behind http(s), which is not downloaded again while it is unchanged (ETag, Last-Modified)."""

    def __init__(self, account: AccountSettings, url: str, *, cache_dir: Path) -> None:
        self._source, self._url, self._where = account.source, url, masked(url)
        self._cache = FeedCache(cache_dir, account.name, url)

    def fetch(self, bounds: Bounds) -> Fetched:
        """Return the feed as the server has it; its age is by the server's ``Date`` and ``Last-Modified``."""
        return with_retries(lambda: self._fetch(bounds), bounds)

    def _fetch(self, bounds: Bounds) -> Fetched:
        known = self._cache.known()
        headers = {name: _header(secret.reveal()) for name, secret in self._source.headers.items()}
        etag, modified = known.token or ("", "")
        if etag:
            headers["If-None-Match"] = etag
        elif modified:
            headers["If-Modified-Since"] = modified
        try:
            # A redirect would send the secret headers to another host; requests removes only the password.
            with download.get(
                self._url,
                seconds=bounds.left_seconds,
                headers=headers,
                auth=self._auth(),
                allow_redirects=not self._source.headers,
                verify=self._source.ca_file or True,
            ) as answer:
                if answer.status_code != requests.codes.not_modified or not known.sha256:
                    known = self._download(answer, bounds)
                modified = answer.headers.get("Last-Modified") or (known.token or ("", ""))[1]
                age = _seconds_between(modified, answer.headers.get("Date"))
                return Fetched(self._cache.path, self._where, known.sha256, age)
        except urllib3.exceptions.HTTPError as error:
            bounds.check_time(self._where)
            text = f"download was interrupted ({type(error).__name__})"
            raise PassingFault(text, where=self._where, code="cut") from None
        except requests.RequestException as error:
            bounds.check_time(self._where)
            lasts = not isinstance(error, requests.ConnectionError | requests.Timeout) or isinstance(
                error, requests.exceptions.SSLError
            )
            # The text of the library's error may hold the URL with its password.
            text = f"cannot be fetched ({type(error).__name__})"
            raise (SourceError if lasts else PassingFault)(text, where=self._where, code="http") from None

    def _auth(self) -> tuple[str, str] | None:
        source = self._source
        if source.username is None:
            return None
        user, password = source.username.value(), source.password.reveal() if source.password else ""
        know_pair(user, password)
        return user, password

    def _download(self, answer: requests.Response, bounds: Bounds) -> Download:
        if answer.status_code != requests.codes.ok:
            kind = PassingFault if answer.status_code in _PASSING else SourceError
            raise kind(f"answered {answer.status_code}, expected 200", where=self._where, code="http")

        def pieces() -> Iterator[bytes]:
            # Raw bytes: Content-Length is the number of bytes transferred.
            while piece := answer.raw.read(PIECE_BYTES, decode_content=False):
                yield piece

        return self._cache.store(pieces(), bounds, self._where, lambda length: self._check(answer, length))

    def _check(self, answer: requests.Response, length: int) -> tuple[str, ...]:
        promised = answer.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and int(promised) != length:
            raise PassingFault(f"announced {promised} bytes and sent {length}", where=self._where, code="cut")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError(
                f"is sent with Content-Encoding {answer.headers['Content-Encoding']!r:.20}, expected none"
                " (a .gz is read as such)",
                where=self._where, code="http",
            )  # fmt: skip
        token = (answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))
        return token if any(token) else ()


def _seconds_between(begin: str | None, end: str | None) -> float:
    """Return the seconds between two dates of a response; infinite if one is missing or unreadable."""
    try:
        return (parsedate_to_datetime(end or "") - parsedate_to_datetime(begin or "")).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return math.inf


def _header(value: str) -> str:
    """Return a header's value. The token of ``Bearer TOKEN`` is registered to be masked as well."""
    know(value.rsplit(maxsplit=1)[-1])
    return value
