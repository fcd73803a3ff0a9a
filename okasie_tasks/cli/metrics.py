"""``okasie metrics``: one endpoint for Prometheus, for the whole fleet."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

from okasie_tasks.cli.common import Context, command_options, echo
from okasie_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PORT = 9810


@click.command()
@click.option(
    "--port",
    default=_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="The port to listen on; 0: any free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--once", is_flag=True, help="Print the metrics and exit.")
@command_options
def metrics(context: Context, port: int, host: str, once: bool) -> None:
    """Serve metrics of all workers and accounts for Prometheus until interrupted. Every scrape reads Redis."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise ConfigurationError(
            "prometheus_client is not installed: pip install 'okasie-tasks[metrics]'", where="okasie metrics"
        )
    from okasie_tasks.cli.connect import services_of  # noqa: PLC0415
    from okasie_tasks.cli.exposition import documents, registry  # noqa: PLC0415 - an extra, and Celery

    collected = registry(services_of(context))
    if not once:
        _serve(context, collected, host, port)
    elif context.as_json:
        echo(json.dumps({"metrics": documents(collected)}))
    else:
        from prometheus_client import generate_latest  # noqa: PLC0415

        click.echo(generate_latest(collected), nl=False)


def _serve(context: Context, collected: CollectorRegistry, host: str, port: int) -> None:
    from prometheus_client import start_http_server  # noqa: PLC0415

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        server, thread = start_http_server(port, host, registry=collected)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}", where="--port") from error
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{server.server_port}/metrics"
    echo(json.dumps({"url": url}) if context.as_json else f"metrics ready: {url}")
    sys.stdout.flush()
    stopped.wait()
    server.shutdown()
    server.server_close()
    thread.join()
