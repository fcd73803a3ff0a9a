"""A deadline for everything that is read from sockets.

The time-outs of libraries are for single reads of a socket: a server that sends a byte now and then never meets them.
So the sockets are shut down at the deadline, which ends any read as if the server had closed the connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class SocketDeadline:
    """Shuts the sockets that were added down after ``seconds``. The caller compares the time."""

    def __init__(self, seconds: float) -> None:
        self._lock, self._sockets, self._over = threading.Lock(), list[socket.socket](), False
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.append(connection)
            if self._over:
                _shut_down(connection)

    def __enter__(self) -> SocketDeadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        with self._lock:
            self._over = True
            for connection in self._sockets:
                _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the method of an SSL socket, which would remove its state under a thread that reads from it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
