"""Serves the application until it is interrupted."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

import uvicorn

from okasie_tasks.core import record_types
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.services import Services
from okasie_tasks.settings.web import refusal, usable_token
from okasie_tasks.web.app import create_app

_GRACE_SECONDS = 5


class Server:
    """The server of one process. ``address`` signs a person in, if no tokens are configured."""

    def __init__(self, services: Services, *, start_token: str = "") -> None:
        web = services.settings.web
        if problem := refusal(web):
            raise ConfigurationError(problem, where="web")
        for name, token in web.tokens.items():
            usable_token(name, token)
        start_token = "" if web.tokens else start_token or secrets.token_urlsafe(24)
        services.producer.prepare()
        record_types.prepare()
        self._socket = _bound(*web.address)
        host, port = self.bound
        self.origin = web.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.address = f"{self.origin}/?token={start_token}" if start_token else f"{self.origin}/"
        config = uvicorn.Config(
            create_app(services, start_token=start_token),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)

    @property
    def bound(self) -> tuple[str, int]:
        """The host and the port that it listens on."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def started(self) -> bool:
        return self._server.started

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, or until `stop` is called by another thread."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        self._server.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `ConfigurationError` when the address cannot be used."""
    with _in_use(host, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=512)
        # Its connections inherit this. Without it, a body waits up to 40 ms until the client has acknowledged its
        # headers; asyncio sets it only where the protocol of the socket is named.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return bound


@contextlib.contextmanager
def _in_use(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{host}:{port} cannot be listened on: {error.strerror or error}; expected a free port in web.listen"
        raise ConfigurationError(message, where="web.listen") from error
