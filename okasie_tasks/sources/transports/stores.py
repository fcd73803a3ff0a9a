"""Feeds in a store of files: ftp, ftps, sftp and S3. One file, or the newest that matches a pattern."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.masking import know_pair
from okasie_tasks.settings import AccountSettings, SourceSettings, masked
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.transports.base import Download, FeedCache, Fetched, PassingFault, with_retries
from okasie_tasks.sources.transports.pattern import Entry, is_pattern, newest

_MODULES: Final = {"ftp": "ftp", "ftps": "ftp", "sftp": "sftp", "s3": "s3"}
"""Each scheme's module here, which is also the name of its extra, if it needs one."""
_GRAIN_SECONDS: Final = 2.0
"""The coarsest times of modification in use: a younger file may change again without a new time."""


class Address(msgspec.Struct, frozen=True):
    """A URL, taken apart. ``place``: its beginning as it is shown, without user and password."""

    scheme: str
    host: str
    port: int | None
    user: str
    password: str
    path: str
    place: str

    @classmethod
    def of(cls, url: str, source: SourceSettings) -> Address:
        scheme, _, rest = url.partition("://")
        place, _, path = rest.partition("/")
        parts = urlsplit(f"{scheme.lower()}://{place}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if source.username is not None:
            user = source.username.value()
        if source.password is not None:
            password = source.password.reveal()
        if password:
            know_pair(user, password)
        path = path if parts.scheme == "s3" else unquote(path)  # keys of S3 are written as they are
        shown = masked(f"{parts.scheme}://{place}")
        return cls(parts.scheme, parts.hostname or "", parts.port, user, password, f"/{path}", shown)

    @property
    def where(self) -> str:
        return self.place + self.path


class Store(Protocol):
    """A connection to a store. Its errors are `SourceError`, passing ones `PassingFault`."""

    def listed(self, folder: str) -> Iterable[Entry]:
        """Yield the entries of a folder."""
        ...

    def stat(self, path: str) -> Entry:
        """Return a file, as it is now."""
        ...

    def read(self, entry: Entry) -> Generator[bytes]:
        """Yield the pieces of a file. Raises when the server does not confirm that they are all."""
        ...


class OpenStore(Protocol):
    """Each module's ``connect``."""

    def __call__(self, address: Address, source: SourceSettings, bounds: Bounds) -> AbstractContextManager[Store]: ...


def open_store(account: AccountSettings, url: str, *, scheme: str, cache_dir: Path) -> StoreTransport:
    address = Address.of(url, account.source)
    try:
        module: Any = importlib.import_module(f"okasie_tasks.sources.transports.{_MODULES[scheme]}")
    except ImportError as error:
        text = f'{scheme}: needs an extra: pip install "okasie-tasks[{_MODULES[scheme]}]" (missing: {error.name})'
        raise ConfigurationError(text, where=address.where) from error
    return StoreTransport(account, address, module.connect, cache_dir=cache_dir)


class StoreTransport:
    """Downloads the file when it has changed since the last download, by its name, size and time or ETag."""

    def __init__(self, account: AccountSettings, address: Address, connect: OpenStore, *, cache_dir: Path) -> None:
        source = account.source
        self._source, self._address, self._connect = source, address, connect
        self._cache = FeedCache(cache_dir, account.name, f"{source.endpoint_url}{address.where}")

    def fetch(self, bounds: Bounds) -> Fetched:
        return with_retries(lambda: self._fetch(bounds), bounds)

    def first_bytes(self, bounds: Bounds, most: int) -> bytes:
        """Return at most the first ``most`` bytes; nothing is stored."""
        data = bytearray()
        with self._connect(self._address, self._source, bounds) as store:
            with contextlib.closing(store.read(self._find(store))) as pieces:
                for piece in pieces:
                    data += piece
                    bounds.check_time(self._address.where)
                    if len(data) >= most:
                        break
            return bytes(data[:most])

    def _find(self, store: Store) -> Entry:
        path = self._address.path
        if is_pattern(path):
            path = newest(path, store.listed, self._address.where, stat=store.stat).path
        return store.stat(path)

    def _fetch(self, bounds: Bounds) -> Fetched:
        address = self._address
        try:
            with self._connect(address, self._source, bounds) as store:
                entry = self._find(store)
                where = address.place + entry.path
                bounds.check_size(entry.size or 0, where)
                download = self._cache.known()
                if not download.token or download.token != _token(entry):
                    download = self._download(store, entry, where, bounds)
        except SourceError:
            bounds.check_time(address.where)  # what failed may have failed because of it
            raise
        return Fetched(self._cache.path, where, download.sha256, _age(entry))

    def _download(self, store: Store, entry: Entry, where: str, bounds: Bounds) -> Download:
        def check(length: int) -> tuple[str, ...]:
            after = store.stat(entry.path)
            if after != entry:
                raise PassingFault("was written while it was downloaded", where=where, code="changing")
            if entry.size is not None and entry.size != length:
                raise PassingFault(f"has {entry.size} bytes, and {length} were received", where=where, code="cut")
            return _token(entry) if _age(entry) >= _GRAIN_SECONDS else ()

        return self._cache.store(store.read(entry), bounds, where, check)


def _token(entry: Entry) -> tuple[str, ...]:
    """Return what identifies the file's content; () if the server says too little for that."""
    if entry.etag:
        return (entry.path, entry.etag, str(entry.size))
    return () if entry.modified is None else (entry.path, repr(entry.modified), str(entry.size))


def _age(entry: Entry) -> float:
    """Return for how long the file has been unchanged, by both clocks; infinite if the server does not say."""
    return math.inf if entry.modified is None else time.time() - entry.modified
