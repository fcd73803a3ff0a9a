"""Feeds on real servers: FTP, FTPS, SFTP and S3. Whole or refused, and no secret in a message."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import trustme

from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.masking import mask
from okasie_tasks.ports import SettlingSource
from okasie_tasks.sources.transports import base, pattern
from okasie_tasks.sources.transports.beginning import first_bytes
from tests.sources.servers import PASSWORD, USER, CuttingProxy, certificate, ftp_server, sftp_server
from tests.sources.sites import ENVIRON, LOGIN, SCHEMES, SECRETS, Site, site
from tests.sources.support import brief, source

HEAD = b"ref,title,price\n"
CSV = HEAD + b"A,Golf,100\nB,Polo,200\n"
EXPECTED = [(1, "A", "Golf"), (2, "B", "Polo")]


@pytest.fixture(params=SCHEMES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with site(request.param, tmp_path) as started:
        yield started


def read(folder: Path, url: str, options: str = "") -> list[tuple[int, str | None, str | None]]:
    return brief(source(folder, url, options, **ENVIRON, **SECRETS).rows())


def failure(folder: Path, url: str, options: str = "") -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(folder, url, options)
    for secret in SECRETS.values():
        assert secret not in str(caught.value)
    return caught.value


def downloads(folder: Path) -> list[int]:
    """What identifies the stored download; a new one has another number."""
    return [path.stat().st_ino for path in (folder / "feeds").glob("*.feed")]


def test_an_unchanged_feed_is_not_downloaded_again(server: Site, tmp_path: Path) -> None:
    server.put(CSV, age=120)
    assert read(tmp_path, server.url(), server.options) == EXPECTED
    first = downloads(tmp_path)
    feed = source(tmp_path, server.url(), server.options, **ENVIRON, **SECRETS)
    assert brief(feed.get(["B"])) == EXPECTED[1:]
    assert downloads(tmp_path) == first
    assert isinstance(feed, SettlingSource)
    assert feed.settles_in("") == 0
    server.put(CSV.replace(b"Golf", b"Fiat"), age=60)
    changed = source(tmp_path, server.url(), server.options, **ENVIRON, **SECRETS)
    assert changed.version() != feed.version()
    assert brief(changed.rows())[0][2] == "Fiat"


def test_a_feed_just_written_must_settle_and_is_downloaded_again(server: Site, tmp_path: Path) -> None:
    server.put(CSV, age=-30)  # by a clock that is ahead
    feed = source(tmp_path, server.url(), server.options, **ENVIRON, **SECRETS)
    assert isinstance(feed, SettlingSource)
    assert feed.settles_in("") == feed.settle_seconds
    first = downloads(tmp_path)
    assert read(tmp_path, server.url(), server.options) == EXPECTED
    assert downloads(tmp_path) != first


def test_a_pattern_takes_the_newest_file(server: Site, tmp_path: Path) -> None:
    server.put(HEAD + b"OLD,Golf,100\n", "export/stock-3.csv", age=300)
    server.put(CSV, "export/stock-1.csv", age=60)
    server.put(HEAD + b"NOT,Golf,100\n", "export/photos.txt", age=10)
    (server.folder / "export" / "stock-9.csv").mkdir(parents=True)
    feed = source(tmp_path, server.url("export/stock-*.csv"), server.options, **ENVIRON, **SECRETS)
    rows = list(feed.rows())
    assert brief(rows) == EXPECTED
    assert rows[0].where.endswith("/export/stock-1.csv:2")
    server.put(HEAD + b"NEW,Golf,100\n", "export/stock-2.csv", age=30)
    assert [row[1] for row in read(tmp_path, server.url("exp*/stock-?.csv"), server.options)] == ["NEW"]
    error = failure(tmp_path, server.url("export/stock-*.zip"), server.options)
    assert "no file matches 'stock-*.zip'" in error.message
    assert error.code == "source_missing"


def test_a_missing_file_is_named(server: Site, tmp_path: Path) -> None:
    error = failure(tmp_path, server.url("none.csv"), server.options)
    assert error.code == "source_missing"
    assert (error.where or "").endswith("/none.csv")


@pytest.mark.parametrize("scheme", ["ftp", "ftps", "sftp"])
def test_a_wrong_password_is_refused_at_once(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSES_SECONDS", [600.0])  # a second try would outlast the test
    with site(scheme, tmp_path) as server:
        server.put(CSV)
        monkeypatch.setitem(SECRETS, "P", "wr0ng-pa55")
        assert failure(tmp_path, server.url(), server.options).code == "login"
        url = server.url().replace("://", f"://{USER}:0ther-pa55@")
        error = failure(tmp_path, url, server.options.replace(LOGIN, ""))
        assert "0ther-pa55" not in str(error)
        assert "***@127.0.0.1" in str(error)


def test_user_and_password_may_stand_in_the_url(tmp_path: Path) -> None:
    with site("ftp", tmp_path) as server:
        server.put(CSV)
        url = server.url("~/stock.csv").replace("://", f"://{USER}:s3cret%2Fp%40ss@")
        assert read(tmp_path, url) == EXPECTED


def test_the_beginning_of_a_feed_is_read_without_a_configuration(
    server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `okasie init` does: with what the user's machine has."""
    server.put(large())
    url = server.url("sto*.csv").replace("://", f"://{USER}:s3cret%2Fp%40ss@" if server.scheme != "s3" else "://")
    monkeypatch.setenv("HOME", str(tmp_path))
    if server.scheme == "sftp":
        (tmp_path / ".ssh").mkdir()
        key = (tmp_path / "host_key").read_text()
        (tmp_path / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {key}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    if server.scheme == "ftps":
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert first_bytes(url, 50_000) == large()[:50_000]
    assert first_bytes(url, 50_000_000) == large()
    for wrong in ("gopher://u:pa55w0rd@host/x", "ftp://u:pa55#w0rd@host/x"):
        with pytest.raises(ConfigurationError) as caught:
            first_bytes(wrong, 10)
        assert "w0rd" not in str(caught.value)


def test_a_user_name_is_not_masked_in_other_texts(tmp_path: Path) -> None:
    with site("ftp", tmp_path) as server:
        server.put(CSV)
        assert read(tmp_path, server.url(), server.options) == EXPECTED
    assert mask(f"the {USER} of the log") == f"the {USER} of the log"
    assert mask(f"the {PASSWORD}") == "the ***"


# -- connections that break ----------------------------------------------------------------------------------------


def large(lines: int = 20_000) -> bytes:
    return HEAD + b"".join(b"R%d,Golf,100\n" % number for number in range(lines))


@pytest.mark.parametrize("scheme", ["ftp", "ftps"])
@pytest.mark.parametrize("without", [(), ("SIZE", "MLSD", "MDTM")])
@pytest.mark.parametrize("keeps_control", [True, False])
def test_an_ftp_transfer_that_is_cut_is_an_error(
    scheme: str, without: tuple[str, ...], keeps_control: bool, tmp_path: Path
) -> None:
    with site(scheme, tmp_path, without=without, keeps_control=keeps_control) as server:
        server.cuts.append(100_000)
        server.put(large())
        error = failure(tmp_path, server.url(), server.options)
        assert isinstance(error, base.PassingFault)
    assert not list((tmp_path / "feeds").glob("*"))


@pytest.mark.parametrize("scheme", ["sftp", "s3"])
def test_a_connection_that_is_cut_is_tried_three_times(scheme: str, tmp_path: Path) -> None:
    with site(scheme, tmp_path) as server:
        server.put(large())
        with CuttingProxy(server.port, after=100_000) as proxy:
            url, options = server.behind(proxy)
            error = failure(tmp_path, url, options)
            assert isinstance(error, base.PassingFault)
            assert not list((tmp_path / "feeds").glob("*"))
            whole = proxy.connections
            proxy.after = None
            assert len(read(tmp_path, url, options)) == 20_000
            assert whole >= 3


def test_a_passing_fault_is_tried_again(tmp_path: Path) -> None:
    with site("sftp", tmp_path) as server, CuttingProxy(server.port, after=100_000) as proxy:
        server.put(large())
        proxy.cuts = 2
        url, options = server.behind(proxy)
        assert len(read(tmp_path, url, options)) == 20_000
        assert proxy.connections == 3


def test_fewer_bytes_than_the_server_stated_are_an_error(tmp_path: Path) -> None:
    """The data connection ends early, and the server says that the transfer is complete."""
    from pyftpdlib.filesystems import AbstractedFS

    class Longer(AbstractedFS):  # type: ignore[misc]
        def getsize(self, path: str) -> int:
            return int(super().getsize(path)) + 10

    with site("ftp", tmp_path, abstracted_fs=Longer) as server:
        server.put(CSV)
        error = failure(tmp_path, server.url(), server.options)
    assert error.code == "cut"
    assert error.message == f"has {len(CSV) + 10} bytes, and {len(CSV)} were received"


def test_a_file_that_grows_during_the_download_is_not_read(tmp_path: Path) -> None:
    served = tmp_path / "served" / "stock.csv"

    def grow(handler: Any, file: str) -> None:
        with served.open("ab") as stock:
            stock.write(b"C,Clio,300\n")

    with site("ftp", tmp_path, on_file_sent=grow) as server:
        server.put(CSV)
        error = failure(tmp_path, server.url(), server.options)
    assert error.code == "changing"
    assert not list((tmp_path / "feeds").glob("*"))


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    for url, options in [
        (f"ftp://127.0.0.1:{port}/stock.csv", LOGIN),
        (f"ftps://127.0.0.1:{port}/stock.csv", LOGIN),
        (f"sftp://127.0.0.1:{port}/stock.csv", LOGIN),
        ("s3://feeds/stock.csv", f'endpoint_url = "http://127.0.0.1:{port}"\n{S3_KEYS}'),
    ]:
        assert "cannot be fetched" in failure(tmp_path, url, options).message


S3_KEYS = 'access_key = "env:ACCESS"\nsecret_key = "env:SECRET"\n'


# -- who the server is ---------------------------------------------------------------------------------------------


def test_an_unknown_and_another_host_key_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSES_SECONDS", [600.0])
    monkeypatch.setenv("HOME", str(tmp_path))
    with site("sftp", tmp_path) as server:
        server.put(CSV)
        assert failure(tmp_path, server.url(), LOGIN).code == "host_key"
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        assert failure(tmp_path, server.url(), f'{LOGIN}host_key = "{other}"').code == "host_key"
        key = (tmp_path / "host_key").read_text().strip()
        assert read(tmp_path, server.url(), f'{LOGIN}host_key = "{key}"') == EXPECTED
        known_hosts = tmp_path / ".ssh" / "known_hosts"
        known_hosts.parent.mkdir()
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {key}\n")
        assert read(tmp_path, server.url(), LOGIN) == EXPECTED
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}\n")
        assert failure(tmp_path, server.url(), LOGIN).code == "host_key"


@pytest.mark.parametrize("passphrase", [None, PASSWORD])
def test_a_private_key_logs_in(tmp_path: Path, passphrase: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    client, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (tmp_path / "id").write_bytes(client.export_private_key("openssh", passphrase))
    (tmp_path / "host_key").write_bytes(host.export_public_key())
    options = 'host_key = "file:host_key"\nusername = "env:U"\nprivate_key = "file:id"\n'
    with sftp_server(tmp_path, host, client_key=client) as port:
        (tmp_path / "stock.csv").write_bytes(CSV)
        url = f"sftp://127.0.0.1:{port}/stock.csv"
        assert read(tmp_path, url, options + ('password = "env:P"\n' if passphrase else "")) == EXPECTED
        (tmp_path / "id").write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        assert failure(tmp_path, url, options).code == "login"
        (tmp_path / "id").write_text("no key")
        assert "private_key cannot be used" in failure(tmp_path, url, options).message


@pytest.mark.parametrize("implicit", [False, True])
def test_a_certificate_of_another_authority_or_name_is_refused(
    tmp_path: Path, implicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from okasie_tasks.sources.transports import ftp

    monkeypatch.setattr(base, "PAUSES_SECONDS", [600.0])
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    (tmp_path / "stock.csv").write_bytes(CSV)
    with ftp_server(tmp_path, certificate=certificate(tmp_path, ca, "127.0.0.1"), implicit=implicit) as port:
        monkeypatch.setattr(ftp, "_IMPLICIT_PORT", port if implicit else 990)
        url = f"ftps://127.0.0.1:{port}/stock.csv"
        assert read(tmp_path, url, LOGIN + 'ca_file = "ca.pem"') == EXPECTED
        for options in ('ca_file = "other.pem"', ""):
            assert failure(tmp_path, url, LOGIN + options).code == "certificate"
        assert "missing.pem" in failure(tmp_path, url, LOGIN + 'ca_file = "missing.pem"').message
    with ftp_server(tmp_path, certificate=certificate(tmp_path, ca, "other.example"), implicit=implicit) as port:
        monkeypatch.setattr(ftp, "_IMPLICIT_PORT", port if implicit else 990)
        error = failure(tmp_path, f"ftps://127.0.0.1:{port}/stock.csv", LOGIN + 'ca_file = "ca.pem"')
        assert error.code == "certificate"
        assert "127.0.0.1" in error.message


def test_data_connections_reuse_the_session(tmp_path: Path) -> None:
    """Many servers demand it, as the proof that both connections come from the same client."""
    reused: list[bool] = []
    with site("ftps", tmp_path, reused=reused) as server:
        server.put(CSV)
        assert read(tmp_path, server.url("*.csv"), server.options) == EXPECTED
    assert len(reused) >= 2
    assert all(reused)


def test_a_server_without_tls_gets_no_password(tmp_path: Path) -> None:
    lines: list[str] = []

    def received(handler: Any, line: str, *_: Any) -> None:
        lines.append(line)

    with ftp_server(tmp_path, logline=received, log_prefix="") as port:
        failure(tmp_path, f"ftps://127.0.0.1:{port}/stock.csv", LOGIN)
    assert not any("PASS" in line for line in lines)


# -- bounds --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dripping() -> Iterator[int]:
    """A server that answers a byte now and then, for ever."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while not over.wait(0.02):
                    connection.sendall(b"2")
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        over.set()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_drips_ends_at_the_deadline(scheme: str, dripping: int, tmp_path: Path) -> None:
    url, options = f"{scheme}://127.0.0.1:{dripping}/stock.csv", LOGIN
    if scheme == "s3":
        url, options = "s3://feeds/stock.csv", f'endpoint_url = "http://127.0.0.1:{dripping}"\n{S3_KEYS}'
    error = failure(tmp_path, url, options + "read_seconds = 0.5")
    assert error.message == "was not read within 0.5 s (accounts.dex.source.read_seconds)"
    assert error.code == "too_slow"


def test_a_feed_that_is_too_large_is_not_downloaded(server: Site, tmp_path: Path) -> None:
    server.put(large())
    error = failure(tmp_path, server.url(), server.options + "max_mb = 0.1")
    assert error.message == "is larger than 0.1 MB (accounts.dex.source.max_mb)"
    assert not list((tmp_path / "feeds").glob("*"))


@pytest.mark.parametrize("scheme", ["ftp", "ftps"])
def test_a_server_without_extensions_is_read_each_time(scheme: str, tmp_path: Path) -> None:
    with site(scheme, tmp_path, without=("SIZE", "MLSD", "MDTM")) as server:
        server.put(CSV)
        assert read(tmp_path, server.url(), server.options) == EXPECTED
        first = downloads(tmp_path)
        assert read(tmp_path, server.url("sto*.csv"), server.options) == EXPECTED
        assert downloads(tmp_path) != first
        server.put(large())
        error = failure(tmp_path, server.url(), server.options + "max_mb = 0.1")
        assert error.code == "too_large"


def test_a_folder_without_end_is_refused(server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ftp", "sftp", "s3", "pattern"):
        monkeypatch.setattr(f"okasie_tasks.sources.transports.{module}.MOST_ENTRIES", 5)
    assert pattern.MOST_ENTRIES == 5
    for number in range(8):
        server.put(CSV, f"stock-{number}.csv")
    assert "more than 5 entries" in failure(tmp_path, server.url("*.csv"), server.options).message


@pytest.mark.parametrize(("scheme", "module"), [("sftp", "sshfs"), ("s3", "s3fs")])
def test_a_missing_extra_is_named(scheme: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"okasie_tasks.sources.transports.{scheme}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError) as caught:
        source(tmp_path, f"{scheme}://127.0.0.1/stock.csv")
    assert f'pip install "okasie-tasks[{scheme}]"' in str(caught.value)


# -- files of this machine -----------------------------------------------------------------------------------------


def test_a_pattern_of_files_takes_the_newest(tmp_path: Path) -> None:
    for name, age in (("stock-2.csv", 300), ("stock-1.csv", 60)):
        (tmp_path / name).write_bytes(CSV.replace(b"Golf", name.encode()))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / "stock-3.csv").mkdir()
    os.mkfifo(tmp_path / "stock-4.csv")
    rows = list(source(tmp_path, "stock-*.csv").rows())
    assert rows[0].where == "stock-1.csv:2"
    (tmp_path / "stock-[x].csv").write_bytes(HEAD + b"C,literal,1\n")
    assert read(tmp_path, "stock-[x].csv") == [(1, "C", "literal")]
    assert "no file matches '*.xml'" in failure(tmp_path, "*.xml").message
    assert "No such file" in failure(tmp_path, "no/*.xml").message
