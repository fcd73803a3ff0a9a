"""Real servers for feeds, each in a thread of the test, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import asyncssh
import trustme
from OpenSSL import SSL
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

USER, PASSWORD = "dealer", "s3cret/p@ss"


@contextlib.contextmanager
def ftp_server(
    folder: Path,
    *,
    certificate: Path | None = None,
    implicit: bool = False,
    cuts: Sequence[int] = (),
    keeps_control: bool = False,
    reused: list[bool] | None = None,
    without: tuple[str, ...] = (),
    **handling: Any,
) -> Iterator[int]:
    """Serve a folder; yields the port. ``cuts``: if not empty, both connections are dropped after this many bytes of data;
    with ``keeps_control`` only that of the data.

    ``reused``: gets whether a data connection reuses the TLS session of the control connection. ``without``: commands that the server does not have. ``handling``: attributes of the handler.
    """
    base = TLS_DTPHandler if certificate else DTPHandler

    class Data(base):  # type: ignore[misc, valid-type]
        sent = 0

        def send(self, data: bytes) -> int:
            sent = super().send(data[: max(0, cuts[0] - self.sent)] if cuts else data)
            self.sent += sent or 0
            if cuts and self.sent >= cuts[0]:
                if keeps_control:
                    self._resp = ("426 Connection closed; transfer aborted.", print)
                else:
                    self.cmd_channel.close()
                self.close()
            return int(sent or 0)

        def close(self) -> None:
            if reused is not None and not self._closed:
                reused.append(bool(SSL._lib.SSL_session_reused(self.socket._ssl)))
            super().close()

    class Handler(TLS_FTPHandler if certificate else FTPHandler):  # type: ignore[misc]
        authorizer = DummyAuthorizer()
        dtp_handler = Data
        proto_cmds: ClassVar[dict[str, Any]] = {
            name: how for name, how in FTPHandler.proto_cmds.items() if name not in without
        }

        def handle(self) -> None:
            if implicit:
                self.secure_connection(self.ssl_context)
            super().handle()

    if certificate:
        Handler.proto_cmds = {k: v for k, v in TLS_FTPHandler.proto_cmds.items() if k not in without}
        Handler.certfile = str(certificate)
        Handler.tls_control_required = Handler.tls_data_required = True
    for name, value in handling.items():
        setattr(Handler, name, value)
    Handler.auth_failed_timeout, Handler.use_sendfile = 0, False
    Handler.authorizer.add_user(USER, PASSWORD, str(folder))
    server = FTPServer(("127.0.0.1", 0), Handler, ioloop=IOLoop())
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            server.ioloop.loop(timeout=0.02, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.address[1]
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def sftp_server(folder: Path, host_key: asyncssh.SSHKey, *, client_key: asyncssh.SSHKey | None = None) -> Iterator[int]:
    """Serve a folder to the user's password, or to a key; yields the port."""

    class Login(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

        def password_auth_supported(self) -> bool:
            return client_key is None

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=str(folder))

    keys = None
    if client_key is not None:
        keys = asyncssh.import_authorized_keys(client_key.export_public_key().decode())
    loop, ports = asyncio.new_event_loop(), list[int]()
    started = threading.Event()

    async def serve() -> None:
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[host_key], server_factory=Login, sftp_factory=Files,
            authorized_client_keys=keys,
        )  # fmt: skip
        ports.append(server.sockets[0].getsockname()[1])
        over.append(asyncio.Event())
        started.set()
        await over[0].wait()
        server.close()
        await server.wait_closed()
        for connection in connections:
            connection.abort()
            await connection.wait_closed()

    connections: list[asyncssh.SSHServerConnection] = []
    over: list[asyncio.Event] = []
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert started.wait(60)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(over[0].set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serve an empty S3; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class CuttingProxy:
    """A proxy before a port of this machine. It ends a connection when the server has sent ``after`` bytes.

    ``cuts``: how many connections it ends; ``after`` None: none.
    """

    def __init__(self, port: int, after: int | None) -> None:
        self._target, self.after = port, after
        self.connections, self.cuts = 0, 1_000
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()  # the server has stopped: the client's last try came at the test's end
                    raise
                threading.Thread(target=self._pass, args=[client, server, None], daemon=True).start()
                after = self.after if self.connections <= self.cuts else None
                threading.Thread(target=self._pass, args=[server, client, after], daemon=True).start()

    def _pass(self, giver: socket.socket, taker: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := giver.recv(4096):
                taker.sendall(data if left is None else data[:left])
                if left is not None and (left := left - len(data)) <= 0:
                    break
        for end in (giver, taker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def certificate(folder: Path, ca: trustme.CA, *names: str) -> Path:
    """Write a certificate with its key, issued by ``ca`` for these names."""
    issued = ca.issue_cert(*names)
    path = folder / f"{names[0]}.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
