"""``okasie sandbox``: the sandbox API alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.errors import FixConfiguration
from okasie_tasks.sandbox import Key, Sandbox
from okasie_tasks.sandbox.server import run


@click.command()
@click.option("--port", default=8100, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--key", "keys", multiple=True, default=("sandbox-key",), show_default=True, help="API key; may repeat.")
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
@command_options
def sandbox(context: Context, port: int, host: str, data: Path | None, **options: Any) -> None:
    """Serve an Okasie API on this machine until interrupted. Faults and state: /_sandbox/."""
    codes = tuple(options["codes"]) or None
    names = ["sandbox", *(f"sandbox{number}" for number in range(2, len(options["keys"]) + 1))]
    keys = [Key(secret, name, codes=codes) for secret, name in zip(options["keys"], names, strict=True)]
    if len({key.secret for key in keys}) != len(keys):
        raise FixConfiguration("the same key twice", where="--key")
    limits = {"limit": options["limit"], "window": options["window"], "burst_per_second": options["burst"]}
    try:
        served = Sandbox(keys, data=data, host=host, port=port, **limits)
    except OSError as error:
        raise FixConfiguration(f"cannot listen on {host}:{port}: {error.strerror}", where="--port") from error

    def ready(base_url: str) -> None:
        if context.as_json:
            click.echo(json.dumps({"base_url": base_url, "admin_url": served.admin_url}))
        else:
            click.echo(f"sandbox ready: {base_url}")
        sys.stdout.flush()

    run(served, ready)
