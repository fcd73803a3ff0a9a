"""A PostgreSQL and a MariaDB of the tests' own, from the packages of the system, and a line to them that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import pytest
from pymysql.connections import MySQLResult
from pymysql.cursors import SSCursor
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

_SECONDS = 120
"""Bounds a server that does not start; decides nothing."""
_PASSWORD = "any-7c1e0d"
"""Neither server asks for it. Without one, the user of a URL counts as a secret, and is masked in every text."""


def program(*names: str) -> str | None:
    """The first of these programs that the system has; PostgreSQL's are not in the path."""
    folders = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), "/usr/sbin"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def _user(*names: str) -> str | None:
    """The user to run a server as, when the tests run as root, which a database server refuses to."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in names if name in known)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class _Server:
    """A server process in a folder of its own. Use as a context manager."""

    def __init__(self, user: str | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="okasie-db-"))
        self.port = _free_port()
        self._user = user
        if user:
            shutil.chown(self.folder, user)

    def _argv(self, argv: Sequence[str]) -> list[str]:
        return ["runuser", "-u", self._user, "--", *argv] if self._user else list(argv)

    def prepare(self, *argv: str) -> None:
        done = subprocess.run(self._argv(argv), cwd=self.folder, capture_output=True, timeout=_SECONDS, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")

    @contextlib.contextmanager
    def running(self, url: str, *argv: str) -> Iterator[None]:
        """Run the server until the end of the block. ``url``: the SQLAlchemy URL of its database."""
        with (self.folder.parent / f"{self.folder.name}.log").open("wb+") as log:
            process = subprocess.Popen(self._argv(argv), cwd=self.folder, stdout=log, stderr=log)
            try:
                self._wait(url, process, Path(log.name))
                yield
            finally:
                process.terminate()
                process.wait(timeout=_SECONDS)
                shutil.rmtree(self.folder, ignore_errors=True)
                Path(log.name).unlink(missing_ok=True)

    def _wait(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            with contextlib.suppress(OperationalError):
                execute(url, "select 1")
                return
            time.sleep(0.05)
        raise AssertionError(log.read_text(errors="replace")[-2000:])


def execute(url: str, *statements: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Execute statements in one transaction; the last one once for each of the ``rows``, if there are any."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements[:-1] if rows else statements:
            connection.exec_driver_sql(statement)
        if rows:
            connection.execute(text(statements[-1]), [dict(row) for row in rows])


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A running PostgreSQL; its SQLAlchemy URL."""
    initdb, postgres = program("initdb"), program("postgres")
    if not initdb or not postgres:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    server = _Server(_user("postgres", "nobody"))
    data = str(server.folder / "data")
    server.prepare(initdb, "-D", data, "-U", "okasie", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    options = [
        f"port={server.port}",
        "listen_addresses=127.0.0.1",
        f"unix_socket_directories={server.folder}",
        "fsync=off",
    ]
    url = f"postgresql+psycopg://okasie:{_PASSWORD}@127.0.0.1:{server.port}/postgres"
    with server.running(url, postgres, "-D", data, *(part for option in options for part in ("-c", option))):
        yield url


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    """A running MariaDB, which accepts zero dates; its SQLAlchemy URL."""
    install, mariadbd = program("mariadb-install-db"), program("mariadbd")
    if not install or not mariadbd:
        pytest.skip("no MariaDB: apt-get install mariadb-server")
    # When its line was cut, an unbuffered result reads from it once more as it is collected, and fails unraisably.
    MySQLResult.__del__ = SSCursor.__del__ = lambda _: None  # type: ignore[method-assign]
    server = _Server(_user("mysql", "nobody"))
    data = f"--datadir={server.folder / 'data'}"
    server.prepare(
        install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db",
        *([f"--user={server._user}"] if server._user else []),
    )  # fmt: skip
    url = f"mariadb+pymysql://root:{_PASSWORD}@127.0.0.1:{server.port}/mysql?charset=utf8mb4"
    with server.running(
        url, mariadbd, "--no-defaults", data, f"--port={server.port}", "--bind-address=127.0.0.1",
        f"--socket={server.folder / 'sock'}", "--sql-mode=", "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=16M", "--skip-grant-tables", "--skip-networking=0",
    ):  # fmt: skip
        yield url


_COLUMNS: Final = (
    "branch", "make", "model", "version", "price_eur", "km", "year", "fuel", "gearbox", "body", "kw", "doors", "colour",
    "vat", "notes", "photos", "features",
)  # fmt: skip
_POSTGRESQL: Final = """
create table vehicles (
    stock_no uuid primary key, branch text, make varchar(40), model text, version text, price_eur numeric(10,2),
    km bigint, year numeric(4,0), first_reg date, fuel text, gearbox text, body char(20), kw double precision,
    doors smallint, colour text, vat text, notes text, photos jsonb, features text[]
)"""
_MARIADB: Final = """
create table vehicles (
    stock_no decimal(10,0) primary key, branch varchar(40), make varchar(40), model varchar(40), version varchar(80),
    price_eur decimal(10,2), km int unsigned, year year, first_reg date, fuel varchar(20), gearbox varchar(20),
    body varchar(20), kw double, doors tinyint, colour varchar(40), vat varchar(10), notes text, photos json, features text
) character set utf8mb4"""


def settings(account: str, url: str) -> dict[str, str]:
    """The variables that make an account of the sample dealer read the table `fill` writes."""
    values = {
        "TYPE": "sql", "URL": url, "QUERY": "select * from vehicles order by stock_no",
        "FIELDS__IMAGES__column": "photos[]",
    }  # fmt: skip
    return {f"OKASIE_ACCOUNTS__{account.upper()}__SOURCE__{name}": value for name, value in values.items()}


def reference_of(url: str, row: Mapping[str, str]) -> str:
    """The reference of a sample car in that table: a UUID in PostgreSQL, a number in MariaDB."""
    number = row["stock_no"].removeprefix("DG-")
    return str(uuid5(UUID(int=0), number)) if url.startswith("postgresql") else str(int(number))


def fill(url: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Write sample cars into a table with columns of the types that a dealer's system has."""
    is_postgresql = url.startswith("postgresql")
    names = ("stock_no", "first_reg", *_COLUMNS)
    casts = {"photos": "cast(:photos as jsonb)", "features": "string_to_array(:features, '|')"} if is_postgresql else {}
    execute(
        url,
        "drop table if exists vehicles",
        _POSTGRESQL if is_postgresql else _MARIADB,
        f"insert into vehicles ({', '.join(names)}) values ({', '.join(casts.get(n, f':{n}') for n in names)})",
        rows=[_cells(url, row) for row in rows],
    )


def _cells(url: str, row: Mapping[str, str]) -> dict[str, str]:
    cells = {name: row.get(name, "") for name in _COLUMNS}
    cells |= {"stock_no": reference_of(url, row), "first_reg": f"{row['first_reg']}-15"}
    return cells | {"photos": json.dumps(row["photos"].split("|"))}


class Line:
    """A TCP line to a server that is cut after ``most`` bytes of its answers; None: never. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self._to = int(url.rpartition("@")[2].partition(":")[2].partition("/")[0])
        self.most: int | None = None
        self.passed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{self._to}/", f":{self._listener.getsockname()[1]}/")

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                try:
                    outer = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    inner.close()
                    raise
                for source, target, counts in ((inner, outer, False), (outer, inner, True)):
                    threading.Thread(target=self._copy, args=(source, target, counts), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                self.passed += len(data) if counts else 0
                if self.most is not None and self.passed > self.most:
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
