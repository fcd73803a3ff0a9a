"""``okasie web``: serves the HTTP API and the console."""

from __future__ import annotations

import importlib.util
import os

import click

from okasie_tasks.cli.common import Context, command_options, progress_line
from okasie_tasks.errors import ConfigurationError


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="The address to listen on [default: web.listen].")
@command_options
def web(context: Context, listen: str | None) -> None:
    """Serve the HTTP API and the console until interrupted.

    Without [web.tokens], only on a loopback address: the address that is printed signs you in.
    """
    if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("fastapi") is None:
        raise ConfigurationError("the server is not installed: pip install 'okasie-tasks[web]'", where="okasie web")
    if listen:
        os.environ["OKASIE_WEB__LISTEN"] = listen
    from okasie_tasks.cli.connect import services_of  # noqa: PLC0415 - slow to import
    from okasie_tasks.settings.web import START_TOKEN  # noqa: PLC0415

    start_token = os.environ.pop(START_TOKEN, "")

    services = services_of(context)
    if services.settings.web.listen is None:
        raise ConfigurationError('web.listen is "off"', where="okasie web")
    from okasie_tasks.web.server import Server  # noqa: PLC0415 - an extra

    server = Server(services, start_token=start_token)
    # `okasie up` shows the address with the start token; this output is its log file.
    progress_line(f"console and API at {server.origin if start_token else server.address}; Ctrl-C stops it")
    server.run()
