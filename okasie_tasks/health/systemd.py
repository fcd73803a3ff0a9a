"""systemd's notification protocol (sd_notify(3)): one datagram of ``NAME=value`` lines to ``$NOTIFY_SOCKET``."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*lines: str) -> bool:
    """Send the lines; returns whether there is a socket to send them to. A lost datagram is not an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = f"\0{address[1:]}"  # the abstract namespace
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
    return True
