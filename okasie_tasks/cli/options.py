"""The options that every command takes, before or after its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Context(NamedTuple):
    """What the command line says for every command."""

    config: Path | None = None
    as_json: bool = False


def common(function: F) -> F:
    """Add ``--config`` and ``--json``."""
    config = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration [default: $OKASIE_CONFIG, else ./okasie.toml].",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")
    return config(as_json(function))


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the common options and hand them over as its first argument, a `Context`."""

    @common
    @click.pass_context
    @functools.wraps(function)
    def wrapped(click_context: click.Context, /, config: Path | None, as_json: bool, **rest: Any) -> Any:
        outer = click_context.find_root().obj or {}
        context = Context(config or outer.get("config"), as_json or bool(outer.get("as_json")))
        return function(context, **rest)

    return wrapped
