"""``ftp:`` and ``ftps:``, on ftplib, with verified certificates and a deadline.

``ftps:`` is TLS by command (AUTH TLS), and from the first byte on port 990. A server's certificate must be valid for
its name; the data connections are encrypted and reuse the control connection's TLS session, which many servers demand.
"""

from __future__ import annotations

import calendar
import contextlib
import ftplib
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from okasie_tasks.errors import SourceError
from okasie_tasks.settings import SourceSettings
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.transports.base import PIECE_BYTES, PassingFault
from okasie_tasks.sources.transports.deadline import SocketDeadline
from okasie_tasks.sources.transports.pattern import MOST_ENTRIES, Entry
from okasie_tasks.sources.transports.stores import Address

_TIMEOUT_SECONDS: Final = 30.0
_IMPLICIT_PORT: Final = 990
_UNKNOWN_COMMAND: Final = ("500", "501", "502", "504")


class _Ftp(ftplib.FTP):
    """ftplib's client, whose sockets are shut down at the deadline."""

    deadline: SocketDeadline
    _sock: Any = None

    @property
    def sock(self) -> Any:
        return self._sock

    @sock.setter
    def sock(self, value: Any) -> None:
        if value is not None:
            self.deadline.add(value)
        self._sock = value

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        connection, size = super().ntransfercmd(cmd, rest)
        self.deadline.add(connection)
        return connection, size

    def retrlines(self, cmd: str, callback: Callable[[str], object] | None = None) -> str:
        """Return a listing line by line, as long as it is not endless."""
        count = 0

        def counted(line: str) -> None:
            nonlocal count
            count += 1
            if count > MOST_ENTRIES:
                raise SourceError(f"the folder has more than {MOST_ENTRIES:,} entries", code="too_large")
            if callback is not None:
                callback(line)

        return super().retrlines(cmd, counted)


class _Ftps(_Ftp, ftplib.FTP_TLS):
    implicit = False

    @property
    def sock(self) -> Any:
        return self._sock

    @sock.setter
    def sock(self, value: Any) -> None:
        if self.implicit and value is not None and not isinstance(value, ssl.SSLSocket):
            self.deadline.add(value)
            value = self.context.wrap_socket(value, server_hostname=self.host)
        _Ftp.sock.fset(self, value)  # type: ignore[attr-defined]

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321
        self.deadline.add(connection)
        try:
            encrypted = self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session)
        except BaseException:
            connection.close()
            raise
        self.deadline.add(encrypted)
        return encrypted, size


@contextlib.contextmanager
def connect(address: Address, source: SourceSettings, bounds: Bounds) -> Iterator[FtpStore]:
    with SocketDeadline(bounds.left_seconds) as deadline, _errors(address.where):
        client = _Ftp(timeout=_TIMEOUT_SECONDS)
        if address.scheme == "ftps":
            client = _Ftps(timeout=_TIMEOUT_SECONDS, context=_context(address, source))
            client.implicit = address.port == _IMPLICIT_PORT
        client.deadline = deadline
        try:
            client.connect(address.host, address.port or ftplib.FTP_PORT)
            client.login(address.user, address.password)
            if isinstance(client, _Ftps):
                client.prot_p()
            yield FtpStore(client)
        finally:
            client.close()


def _context(address: Address, source: SourceSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=source.ca_file)
    except OSError as error:  # an SSLError is one, too
        raise SourceError(f"ca_file {source.ca_file} cannot be read", where=address.where) from error


class FtpStore:
    """An open connection. A leading ``/~/`` in a path is the folder that the server logs the user in to."""

    def __init__(self, client: _Ftp) -> None:
        self._ftp = client
        self._home = client.pwd().rstrip("/")

    def listed(self, folder: str) -> Iterator[Entry]:
        path = self._absolute(folder)
        try:
            for name, facts in list(self._ftp.mlsd(path or "/")):
                kind = facts.get("type", "file").lower()
                if kind in ("file", "dir"):
                    size = int(facts["size"]) if facts.get("size", "").isdigit() else None
                    yield Entry(f"{path}/{name}", size, _seconds(facts.get("modify", "")), folder=kind == "dir")
        except ftplib.error_perm as error:
            if not str(error).startswith(_UNKNOWN_COMMAND):
                raise
            for name in self._ftp.nlst(path or "/"):
                yield Entry(f"{path}/{name.rpartition('/')[2]}")

    def _absolute(self, path: str) -> str:
        return self._home + path[2:] if path == "/~" or path.startswith("/~/") else path

    def stat(self, path: str) -> Entry:
        path = self._absolute(path)
        self._ftp.voidcmd("TYPE I")
        size, modified = None, None
        # Servers need not have these commands.
        with contextlib.suppress(ftplib.error_perm):
            size = self._ftp.size(path)
        with contextlib.suppress(ftplib.error_perm):
            modified = _seconds(self._ftp.sendcmd(f"MDTM {path}").removeprefix("213").strip())
        return Entry(path, size, modified)

    def read(self, entry: Entry) -> Generator[bytes]:
        self._ftp.voidcmd("TYPE I")
        with self._ftp.transfercmd(f"RETR {entry.path}") as connection:
            while piece := connection.recv(PIECE_BYTES):
                yield piece
        self._ftp.voidresp()  # the server's word that this was all


def _seconds(text: str) -> float | None:
    """Return a time of MLSD or MDTM, which is UTC: ``YYYYMMDDHHMMSS[.sss]``."""
    whole, _, fraction = text.partition(".")
    try:
        return calendar.timegm(time.strptime(whole, "%Y%m%d%H%M%S")) + float(f"0.{fraction or 0}")
    except ValueError:
        return None


@contextlib.contextmanager
def _errors(where: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise SourceError(
            f"the server's certificate is refused ({error.verify_message.rstrip('.')}); ca_file names the certificate"
            " of a private authority",
            where=where, code="certificate",
        ) from None  # fmt: skip
    except ftplib.error_perm as error:
        code = "source_missing" if str(error).startswith("550") else "login" if str(error).startswith("53") else "ftp"
        raise SourceError(f"the server answered {str(error)[:200]}", where=where, code=code) from None
    except ValueError as error:  # a path with a line break, names that are not UTF-8
        raise SourceError(f"cannot be fetched: {error}", where=where, code="ftp") from None
    except (ftplib.Error, EOFError, OSError) as error:
        text = str(error)[:200] or "the connection was closed"
        raise PassingFault(f"cannot be fetched: {text} ({type(error).__name__})", where=where, code="ftp") from None
