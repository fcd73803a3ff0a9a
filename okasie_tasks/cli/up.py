"""``okasie up``: everything on this machine, until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import click

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.cli.output import say
from okasie_tasks.local.fleet import LocalFleet


@click.command()
@click.option("--sandbox", "with_sandbox", is_flag=True, help="Start a sandbox API and point every account at it.")
@command_options
def up(context: Context, with_sandbox: bool) -> None:
    """Start Redis if embedded, workers, Beat and Flower on this machine, and keep them running."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with LocalFleet(context.config, say, with_sandbox=with_sandbox) as fleet:
        ask = asker(fleet)
        fleet.wait_ready(lambda: [] if stopped.is_set() else ask())
        if stopped.is_set():
            return
        if fleet.sandbox is not None:
            say(f"sandbox at {fleet.sandbox.base_url}, faults and state under {fleet.sandbox.admin_url}/")
        if fleet.flower_url is not None:
            say(f"Flower at {fleet.flower_url}")
        accounts = ", ".join(fleet.settings.accounts) or "no account"
        say(f"ready: {accounts}; logs in {fleet.settings.redis.state_dir / 'logs'}; Ctrl-C ends everything")
        fleet.watch(stopped.wait)
    say("everything has ended")


def asker(fleet: LocalFleet) -> Callable[[], list[str]]:
    """A function that names the queues without consumer; it needs Celery, which needs the fleet's configuration."""
    os.environ["OKASIE_CONFIG"] = str(fleet.settings.config_file)
    from okasie_tasks.cli.follow import consumers  # noqa: PLC0415 - after Redis runs, and only here

    return lambda: consumers()[1]
