"""A relay to a sandbox that runs elsewhere: plain http is only allowed on loopback, and containers do not share it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from okasie_tasks.sandbox.routing import ROOT


def relay(host: str, port: int, target: tuple[str, int], on_ready: Callable[[str], None]) -> None:
    """Pass each connection to ``host:port`` on to ``target``, until SIGINT or SIGTERM. Raises `OSError` if it cannot
    listen; calls ``on_ready`` with the base URL that is served here once it accepts connections.
    """
    asyncio.run(_serve(host, port, target, on_ready))


async def _serve(host: str, port: int, target: tuple[str, int], on_ready: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            there_reader, there_writer = await asyncio.open_connection(*target)
            with contextlib.closing(there_writer):
                sending = asyncio.create_task(_copy(reader, there_writer))
                await _copy(there_reader, writer)
                sending.cancel()

    server = await asyncio.start_server(connected, host, port)
    on_ready(f"http://{host}:{server.sockets[0].getsockname()[1]}{ROOT}")
    await stopped.wait()
    server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and end the other side."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
