"""TLS in front of a server that listens on a unix socket, as a load balancer or stunnel adds it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


@contextlib.contextmanager
def tls_proxy(unix_socket: str, folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the port on localhost, and the certificate of the authority that signed the proxy's."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    certificate = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, context, unix_socket), daemon=True).start()
        yield listening.getsockname()[1], certificate
        listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, context: ssl.SSLContext, unix_socket: str) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(plain, context, unix_socket), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, unix_socket: str) -> None:
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_side=True) as secure,
        socket.socket(socket.AF_UNIX) as inner,
    ):
        inner.connect(unix_socket)
        threading.Thread(target=_copy, args=(inner, secure), daemon=True).start()
        _copy(secure, inner)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
