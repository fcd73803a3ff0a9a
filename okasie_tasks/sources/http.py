"""Feeds behind a URL: downloaded to a file, checked to be complete, then read like any file.

An unchanged feed is not downloaded again (ETag, Last-Modified). ``Content-Length`` is checked, because an incomplete
feed must be an error and not a short list. Passwords in URLs or headers never appear in a message.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import msgspec
import requests
import urllib3

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import SourceError
from okasie_tasks.masking import know, know_pair
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings, masked
from okasie_tasks.sources import download
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.files import FileSource

_FIRST_BYTES_SECONDS: Final = 60.0
_PIECE_BYTES: Final = 1 << 16


class _Known(msgspec.Struct):
    """Validators and digest of the last download."""

    etag: str | None = None
    modified: str | None = None
    sha256: str = ""


def first_bytes(url: str, most: int) -> bytes:
    """Return at most the first ``most`` bytes behind a URL. Raises `SourceError`."""
    where, data = masked(url), bytearray()
    until = time.monotonic() + _FIRST_BYTES_SECONDS
    try:
        with download.get(url, seconds=_FIRST_BYTES_SECONDS) as answer:
            if answer.status_code != requests.codes.ok:
                raise SourceError(f"answered {answer.status_code}, expected 200", where=where, code="http")
            while len(data) < most and (piece := answer.raw.read(_PIECE_BYTES, decode_content=False)):
                data += piece
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # The text of the library's error may hold the URL with its password.
        raise SourceError(f"cannot be fetched ({type(error).__name__})", where=where, code="http") from None
    if time.monotonic() > until:
        raise SourceError(f"was not read within {_FIRST_BYTES_SECONDS:g} s", where=where, code="too_slow")
    return bytes(data[:most])


class HttpSource:
    """A feed behind http(s). Each object downloads at most once; several parts of a run share the file on disk."""

    sliceable = False
    remembers = True

    def __init__(
        self, account: AccountSettings, url: str, *, cache_dir: Path, current_year: int, bounds: Bounds | None = None
    ) -> None:
        self._account = account
        self._bounds = bounds or Bounds(account)
        self._url = url
        self._where = masked(url)
        self._file = cache_dir / f"{account.name}.feed{'.gz' if url.partition('?')[0].endswith('.gz') else ''}"
        self._year = current_year
        self._fetched: str | None = None
        self._age_seconds = math.inf

    def version(self) -> str:
        """Return the SHA-256 of the current feed."""
        if self._fetched is None:
            self._fetched = self._fetch()
        return self._fetched

    @property
    def settle_seconds(self) -> float:
        return self._account.source.settle_seconds

    def settles_in(self, before: str) -> float:  # noqa: ARG002 - a rename on the server cannot be seen
        """Return how long to wait until the feed is old enough, by the server's ``Date`` and ``Last-Modified``."""
        self.version()
        return min(max(0.0, self.settle_seconds - self._age_seconds), self.settle_seconds)

    def rows(self, start: int = 0, stop: int | None = None, *, known: RowCache | None = None) -> Iterator[SourceRow]:
        """Return rows of the feed as downloaded by this object; see `okasie_tasks.ports.CachingSource`."""
        self.version()
        return self._reader().rows(start, stop, known=known)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows: the feed is scanned."""
        self.version()
        return self._reader().get(references)

    def _reader(self) -> FileSource:
        return FileSource(self._account, self._file, name=self._where, current_year=self._year, bounds=self._bounds)

    def _fetch(self) -> str:
        known = self._known()
        headers = {name: _header(secret.reveal()) for name, secret in self._account.source.headers.items()}
        if known.etag:
            headers["If-None-Match"] = known.etag
        elif known.modified:
            headers["If-Modified-Since"] = known.modified
        try:
            # A redirect would send the secret headers to another host; requests removes only the password.
            with download.get(
                self._url,
                seconds=self._bounds.left_seconds,
                headers=headers,
                auth=self._auth(),
                allow_redirects=not self._account.source.headers,
            ) as answer:
                modified = answer.headers.get("Last-Modified") or known.modified
                self._age_seconds = _seconds_between(modified, answer.headers.get("Date"))
                if answer.status_code == requests.codes.not_modified and known.sha256:
                    return known.sha256
                if answer.status_code != requests.codes.ok:
                    raise SourceError(f"answered {answer.status_code}, expected 200", where=self._where, code="http")
                return self._store(answer)
        except urllib3.exceptions.HTTPError as error:
            self._bounds.check_time(self._where)
            raise SourceError(
                f"download was interrupted ({type(error).__name__})", where=self._where, code="cut"
            ) from None
        except requests.RequestException as error:
            self._bounds.check_time(self._where)
            # The text of the library's error may hold the URL with its password.
            raise SourceError(f"cannot be fetched ({type(error).__name__})", where=self._where, code="http") from None

    def _auth(self) -> tuple[str, str] | None:
        source = self._account.source
        if source.username is None:
            return None
        user, password = source.username.reveal(), source.password.reveal() if source.password else ""
        know_pair(user, password)
        return user, password

    def _store(self, answer: requests.Response) -> str:
        with _storing(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            digest = self._download(answer)
            known = _Known(answer.headers.get("ETag"), answer.headers.get("Last-Modified"), digest)
            self._notes().write_bytes(msgspec.json.encode(known))
        return digest

    def _download(self, answer: requests.Response) -> str:
        """Store the body of a response once it is complete; return its SHA-256."""
        part = self._file.with_name(f"{self._file.name}.{id(self)}.part")
        digest, length = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                # Raw bytes: Content-Length is the number of bytes transferred.
                while piece := answer.raw.read(_PIECE_BYTES, decode_content=False):
                    length += len(piece)
                    self._bounds.check_size(length, self._where)
                    file.write(piece)
                    digest.update(piece)
            self._check(answer, length)
            part.replace(self._file)
        finally:
            part.unlink(missing_ok=True)
        return digest.hexdigest()

    def _check(self, answer: requests.Response, length: int) -> None:
        self._bounds.check_time(self._where)  # the read may have ended because of it
        promised = answer.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and int(promised) != length:
            raise SourceError(f"announced {promised} bytes and sent {length}", where=self._where, code="cut")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError(
                f"is sent with Content-Encoding {answer.headers['Content-Encoding']!r:.20}, expected none"
                " (a .gz is read as such)",
                where=self._where, code="http",
            )  # fmt: skip

    def _notes(self) -> Path:
        return self._file.with_name(f"{self._file.name}.json")

    def _known(self) -> _Known:
        try:
            return msgspec.json.decode(self._notes().read_bytes(), type=_Known) if self._file.exists() else _Known()
        except (OSError, msgspec.DecodeError):
            return _Known()


@contextlib.contextmanager
def _storing(file: Path) -> Iterator[None]:
    """Raise `SourceError` with the path for an `OSError` in the block. The error of a write does not name its file.

    Errors of the connection are no such errors: urllib3 has its own.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = str(error.filename or file)
        raise SourceError(f"cannot be stored: {reason}", where=where, code="storage") from error


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
