"""What all transports share: what they return, the retry of passing faults, and the cached download."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from okasie_tasks.errors import SourceError
from okasie_tasks.logs import get_logger
from okasie_tasks.sources.bounds import Bounds

log = get_logger(__name__)
PIECE_BYTES: Final = 1 << 16
T = TypeVar("T")


class Fetched(msgspec.Struct, frozen=True):
    """The feed as fetched. ``version``: the SHA-256 of its bytes; ``age_seconds``: how long it has been unchanged."""

    path: Path
    name: str
    version: str
    age_seconds: float = math.inf


class Transport(Protocol):
    def fetch(self, bounds: Bounds) -> Fetched:
        """Bring the current feed to a local file. Raises `SourceError`; nothing incomplete is ever stored."""
        ...


# -- passing faults ------------------------------------------------------------------------------------------------

PAUSES_SECONDS: Final = [0.5, 1.5]
"""The pauses before the second and the third try."""


class PassingFault(SourceError):
    """The fetch failed for a reason that may pass: a cut connection, a time-out, a server that is overloaded."""


def with_retries(fetch: Callable[[], T], bounds: Bounds) -> T:
    """Call ``fetch`` again after a passing fault, while the read has time left for it."""
    for pause in PAUSES_SECONDS:
        try:
            return fetch()
        except PassingFault as fault:
            if bounds.left_seconds <= pause:
                raise
            log.warning("fetch is tried again", code=fault.code, reason=fault.message, where=fault.where)
            time.sleep(pause)
    return fetch()


# -- the cached download -------------------------------------------------------------------------------------------


class Download(msgspec.Struct, frozen=True):
    """A stored download. ``token``: what the server said of the feed, equal while the feed is unchanged.

    ``url``: a hash of where it comes from. ``file`` identifies the stored file, as another process may replace it.
    """

    url: str = ""
    sha256: str = ""
    token: tuple[str, ...] = ()
    file: tuple[int, int, int] = (0, 0, 0)


_DOWNLOAD: Final = msgspec.json.Decoder(Download)


class FeedCache:
    """The last complete download of an account's feed on this machine."""

    def __init__(self, folder: Path, account: str, url: str) -> None:
        self._url = hashlib.sha256(url.encode()).hexdigest()
        self.path = folder / f"{account}.feed"
        self._notes = folder / f"{account}.feed.json"

    def known(self) -> Download:
        """Return what is known of the stored file; an empty `Download` if there is none, or from another URL."""
        try:
            download = _DOWNLOAD.decode(self._notes.read_bytes())
            return download if (download.url, download.file) == (self._url, _identity(self.path)) else Download()
        except (OSError, msgspec.DecodeError):
            return Download()

    def store(
        self, pieces: Iterable[bytes], bounds: Bounds, where: str, check: Callable[[int], tuple[str, ...]]
    ) -> Download:
        """Store a feed. ``check``: gets the number of bytes received, raises if they are not the whole feed, and
        returns the feed's token; () if it has none."""
        with self._storing():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}-{threading.get_ident()}.part")
        digest, length = hashlib.sha256(), 0
        try:
            with self._storing():
                file = part.open("wb")
            with file:
                for piece in pieces:
                    length += len(piece)
                    bounds.check_size(length, where)
                    bounds.check_time(where)
                    with self._storing():
                        file.write(piece)
                    digest.update(piece)
                with self._storing():
                    file.flush()
            bounds.check_time(where)  # the download may have ended because of it
            token = check(length)
            download = Download(self._url, digest.hexdigest(), token, _identity(part))
            with self._storing():
                part.replace(self.path)
                self._notes.write_bytes(msgspec.json.encode(download))
        finally:
            part.unlink(missing_ok=True)
        return download

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Raise `SourceError` with the path for an `OSError` in the block. The error of a write does not name its file.

        Errors of the connection may be of the same type, so pieces are read outside.
        """
        try:
            yield
        except OSError as error:
            where, reason = str(error.filename or self.path), error.strerror or type(error).__name__
            raise SourceError(f"cannot be stored: {reason}", where=where, code="storage") from error


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
