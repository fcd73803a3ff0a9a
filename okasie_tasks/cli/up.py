"""``okasie up`` runs everything on this machine until SIGINT or SIGTERM; ``okasie sandbox`` only the sandbox API."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from okasie_tasks.cli.common import Context, command_options, echo, progress_line
from okasie_tasks.errors import ConfigurationError, StorageFailed
from okasie_tasks.local.fleet import LocalFleet
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.relay import relay
from okasie_tasks.sandbox.server import run

_MOST_NAMED: Final = 3
"""Accounts whose address in the sandbox is printed."""


@click.command()
@click.option("--sandbox", "with_sandbox", is_flag=True, help="Start a sandbox API and point every account at it.")
@command_options
def up(context: Context, with_sandbox: bool) -> None:
    """Start Redis if embedded, workers, Beat, Flower and the console on this machine, and keep them running.

    SIGHUP reloads the configuration: workers and Beat restart with it, each after its tasks in progress.
    """
    stopped, changed = threading.Event(), threading.Event()
    hurry: list[Callable[[], None]] = []

    def stop(*_: object) -> None:
        if stopped.is_set():
            for function in hurry:
                function()
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    terminal = os.isatty(0)
    # A terminal that was closed sends the same signal; it is no terminal any more then.
    signal.signal(signal.SIGHUP, lambda *_: (stopped if terminal and not os.isatty(0) else changed).set())
    with LocalFleet(context.config, progress_line, with_sandbox=with_sandbox) as fleet:
        hurry.append(fleet.hurry)
        unconsumed_queues = queue_check(fleet)
        fleet.wait_ready(lambda: [] if stopped.is_set() else unconsumed_queues())
        if stopped.is_set():
            return
        if fleet.sandbox is not None:
            progress_line(
                f"sandbox at {fleet.sandbox.base_url}, control faults and state under {fleet.sandbox.admin_url}/"
            )
            for account in list(fleet.settings.accounts)[:_MOST_NAMED]:
                progress_line(f"what it has of {account}: {fleet.sandbox.admin_url}/listings?key={account}")
        if fleet.flower_url is not None:
            progress_line(f"Flower at {fleet.flower_url}")
        if fleet.web_url is not None:
            progress_line(f"console at {fleet.web_url}")
        accounts = ", ".join(fleet.settings.accounts) or "no account"
        progress_line(f"ready: {accounts}; logs in {fleet.settings.redis.state_dir / 'logs'}; Ctrl-C stops everything")
        fleet.watch(stopped.wait, changed)
        progress_line("stopping: workers finish their tasks; a second Ctrl-C or SIGTERM kills them")
    progress_line("everything has stopped")


def queue_check(fleet: LocalFleet) -> Callable[[], list[str]]:
    """Return a function that lists the queues without consumers. Celery reads the fleet's configuration first."""
    os.environ["OKASIE_CONFIG"] = str(fleet.settings.config_file)
    from okasie_tasks.cli.fleet_client import consumers  # noqa: PLC0415 - only after Redis has started

    return lambda: consumers()[1]


@click.command()
@click.option(
    "--port",
    default=8100,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="The port to listen on; 0: any free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--key", "keys", multiple=True, default=("sandbox-key",), show_default=True, help="An API key; may be repeated."
)
@click.option("--limit", default=120, show_default=True, type=click.IntRange(0), help="Requests a minute; 0: no limit.")
@click.option(
    "--window",
    default="sliding",
    show_default=True,
    type=click.Choice(["fixed", "sliding", "bucket"]),
    help="How the marketplace counts the minute.",
)
@click.option("--burst", default=5, show_default=True, type=click.IntRange(1), help="Requests a second.")
@click.option("--location", "codes", multiple=True, help="A location code the key may write to; default: any.")
@click.option(
    "--data", type=click.Path(path_type=Path, dir_okay=False), help="Keep the listings in this file (SQLite)."
)
@click.option(
    "--relay",
    "target",
    metavar="HOST:PORT",
    help="Pass requests on to the sandbox that listens there.",
)
@command_options
def sandbox(context: Context, port: int, host: str, data: Path | None, target: str | None, **options: Any) -> None:
    """Serve an Okasie API on this machine until interrupted. Faults and state are under /_sandbox/."""
    try:
        if target is not None:
            relay(host, port, _address(target), lambda base_url: _ready(context, base_url))
        else:
            served = _sandbox(host, port, data, options)
            run(served, lambda base_url: _ready(context, base_url, served.admin_url))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}", where="--port") from error


def _sandbox(host: str, port: int, data: Path | None, options: dict[str, Any]) -> Sandbox:
    codes = tuple(options["codes"]) or None
    names = ["sandbox", *(f"sandbox{number}" for number in range(2, len(options["keys"]) + 1))]
    keys = [Key(secret, name, codes=codes) for secret, name in zip(options["keys"], names, strict=True)]
    if len({key.secret for key in keys}) != len(keys):
        raise ConfigurationError("the same key was given twice", where="--key")
    limits = {"limit": options["limit"], "window": options["window"], "burst_per_second": options["burst"]}
    try:
        return Sandbox(keys, data=data, host=host, port=port, **limits)
    except sqlite3.Error as error:
        raise StorageFailed(f"cannot be used: {error}", where=str(data)) from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f"got {text!r}, expected HOST:PORT", where="--relay")
    return host, int(port)


def _ready(context: Context, base_url: str, admin_url: str = "") -> None:
    if context.as_json:
        echo(json.dumps({"base_url": base_url} | ({"admin_url": admin_url} if admin_url else {})))
    else:
        echo(f"sandbox ready: {base_url}")
    sys.stdout.flush()
