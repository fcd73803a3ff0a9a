"""``sftp:``, on sshfs (asyncssh). Only a server whose host key is known is trusted.

Nothing of the machine's SSH set-up counts but ``~/.ssh/known_hosts``, and that only without ``host_key``: neither its
configuration, nor its keys, nor an agent.
"""

from __future__ import annotations

import contextlib
import logging
import stat
from collections.abc import Generator, Iterator
from typing import Any, Final

import asyncssh
from asyncssh.sftp import SFTPBadMessage, SFTPConnectionLost, SFTPNoConnection
from sshfs import SSHFileSystem

from okasie_tasks.errors import SourceError
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.transports.aio import within
from okasie_tasks.sources.transports.base import PassingFault
from okasie_tasks.sources.transports.pattern import MOST_ENTRIES, Entry
from okasie_tasks.sources.transports.stores import Address

asyncssh.set_log_level(logging.WARNING)  # it logs each connection in a dozen lines

_TIMEOUT_SECONDS: Final = 30.0
_READ_BYTES: Final = 1 << 21
"""One call of the library reads this much with several requests at a time."""


@contextlib.contextmanager
def connect(address: Address, source: SourceSettings, bounds: Bounds) -> Iterator[SftpStore]:
    options: dict[str, Any] = {
        "port": address.port or 22,
        "username": address.user or None,
        "known_hosts": _known_hosts(address, source),
        "connect_timeout": _TIMEOUT_SECONDS,
        "login_timeout": _TIMEOUT_SECONDS,
        "config": None,
        "agent_path": None,
        "client_keys": _keys(address, source),
        "password": address.password or None,
    }
    with _errors(address):
        files = _logged_in(address, options, bounds)
        try:
            yield SftpStore(files, address, bounds)
        finally:
            with contextlib.suppress(Exception):
                files._client.abort()


def _logged_in(address: Address, options: dict[str, Any], bounds: Bounds) -> SSHFileSystem:
    try:
        return SSHFileSystem(address.host, skip_instance_cache=True, timeout=max(bounds.left_seconds, 0.01), **options)
    except PermissionError:  # sshfs' word for a refused login
        text = "the server refuses the user with this password or private_key"
        raise SourceError(text, where=address.where, code="login") from None


def _known_hosts(address: Address, source: SourceSettings) -> Any:
    """Return the known hosts: the content of ``host_key``, in which a line may lack the host; () for the user's."""
    if source.host_key is None:
        return ()
    host = f"[{address.host}]:{address.port}" if address.port not in (None, 22) else address.host
    lines = [line.strip() for line in source.host_key.value().splitlines()]
    named = [f"{host} {line}" if line.startswith(("ssh-", "ecdsa-", "sk-")) else line for line in lines]
    try:
        return asyncssh.import_known_hosts("\n".join(named) + "\n")
    except (ValueError, asyncssh.KeyImportError) as error:
        raise SourceError(f"host_key is not in the format of known_hosts: {error}", where=address.where) from None


def _keys(address: Address, source: SourceSettings) -> Any:
    if source.private_key is None:
        if not address.password:
            text = "needs a password or a private_key (accounts.NAME.source)"
            raise SourceError(text, where=address.where, code="login")
        return None
    try:
        # The password, if there is one, may be that of the key.
        return [asyncssh.import_private_key(f"{source.private_key.reveal()}\n", address.password or None)]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise SourceError(f"private_key cannot be used: {error}", where=address.where, code="login") from None


class SftpStore:
    """An open connection. A leading ``/~/`` in a path is the folder that the server logs the user in to."""

    def __init__(self, files: SSHFileSystem, address: Address, bounds: Bounds) -> None:
        self._address, self._bounds, self._loop = address, bounds, files.loop
        self._sftp: Any = self._call(files._client.start_sftp_client)

    def _call(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return within(self._bounds, self._loop, call, *args, **kwargs)

    def listed(self, folder: str) -> Iterator[Entry]:
        path = _path(folder) or "/"
        for found in self._call(self._listing, path):
            kind, linked = stat.S_IFMT(found.attrs.permissions or 0), stat.S_ISLNK(found.attrs.permissions or 0)
            modified = None if linked else found.attrs.mtime
            yield Entry(f"{folder}/{found.filename}", found.attrs.size, modified, folder=kind == stat.S_IFDIR)

    async def _listing(self, path: str) -> list[Any]:
        entries: list[Any] = []
        async for entry in self._sftp.scandir(path):
            if entry.filename not in (".", ".."):
                entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                break
        return entries

    def stat(self, path: str) -> Entry:
        found = self._call(self._sftp.stat, _path(path))
        if found.permissions is not None and not stat.S_ISREG(found.permissions):
            raise SourceError("is not a regular file", where=self._address.place + path, code="source_missing")
        return Entry(path, found.size, found.mtime)

    def read(self, entry: Entry) -> Generator[bytes]:
        file = self._call(self._sftp.open, _path(entry.path), "rb")
        while piece := self._call(file.read, _READ_BYTES):
            yield piece
        self._call(file.close)


def _path(path: str) -> str:
    """Return a path as the server knows it: a relative one begins in the user's folder."""
    return path[3:] or "." if path == "/~" or path.startswith("/~/") else path


@contextlib.contextmanager
def _errors(address: Address) -> Iterator[None]:
    where = address.where
    try:
        yield
    except asyncssh.HostKeyNotVerifiable:
        raise SourceError(
            f"the host key of {address.host} is not known, or is another one than the known one: compare it with the"
            " operator's (ssh-keyscan shows it) and put it into host_key or ~/.ssh/known_hosts",
            where=where, code="host_key",
        ) from None  # fmt: skip
    except (SFTPConnectionLost, SFTPNoConnection, SFTPBadMessage) as error:
        raise PassingFault(f"cannot be fetched: {error.reason}", where=where, code="sftp") from None
    except asyncssh.SFTPError as error:
        raise SourceError(f"cannot be read: {error.reason}", where=where, code="source_missing") from None
    except (asyncssh.Error, OSError, EOFError) as error:
        text = str(error)[:200] or "the connection was closed"
        raise PassingFault(f"cannot be fetched: {text} ({type(error).__name__})", where=where, code="sftp") from None
