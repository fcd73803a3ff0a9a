"""What all commands share: the options accepted before or after the command's name, and output."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click

from okasie_tasks.cli.times import in_zone
from okasie_tasks.masking import clean, json_escaped

_LEAST_COLUMNS: Final = 40
F = TypeVar("F", bound=Callable[..., Any])


class Context(NamedTuple):
    """The options common to all commands."""

    config: Path | None = None
    as_json: bool = False


def common(function: F) -> F:
    """Add ``--config`` and ``--json``."""
    config = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration file [default: $OKASIE_CONFIG, else ./okasie.toml].",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout.")
    return config(as_json(function))


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a command and pass them as its first argument, a `Context`."""

    @common
    @click.pass_context
    @functools.wraps(function)
    def wrapped(click_context: click.Context, /, config: Path | None, as_json: bool, **rest: Any) -> Any:
        outer = click_context.find_root().obj or {}
        context = Context(config or outer.get("config"), as_json or bool(outer.get("as_json")))
        return function(context, **rest)

    return wrapped


def emit(context: Context, document: Any, show: Callable[[], None]) -> None:
    """Print the document as JSON, or call ``show`` to print it as text, with times in the document's ``timezone``."""
    if context.as_json:
        click.echo(json_text(document))
        return
    with in_zone((isinstance(document, dict) and document.get("timezone")) or "UTC"):
        show()


def json_text(document: Any) -> str:
    """Return the document as JSON in one line, in which what could control a terminal is escaped."""
    return json_escaped(json.dumps(document, ensure_ascii=False))


def echo(line: str) -> None:
    """Print a line to stdout. All text of the commands goes through here, as it may come from a feed or a response."""
    click.echo(clean(line))


def width() -> int | None:
    """Return the columns of the terminal, or ``$COLUMNS``; None in a file or pipe, whose lines may have any length."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(_LEAST_COLUMNS, shutil.get_terminal_size().columns)


def wrapped(line: str, indent: int = 2) -> None:
    """Print a line to stdout, broken at the terminal's width; the lines that follow are indented."""
    columns, text = width(), clean(line)
    if columns is None or len(text) <= columns:
        click.echo(text)
        return
    lead = " " * (len(text) - len(text.lstrip()))
    broken = textwrap.TextWrapper(
        columns, initial_indent=lead, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    click.echo(broken.fill(text.strip()))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. In a file or pipe its width is not limited to that of a terminal."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - slow to import; help needs none of it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=width() or 240, highlight=False, markup=False)
    printed = Table(*headers, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        printed.add_row(*map(clean, row))
    console.print(printed)


def progress_line(line: str) -> None:
    """Print a progress line to stderr, so that stdout holds only results."""
    click.echo(clean(f"okasie: {line}"), err=True)


def change_text(change: dict[str, Any]) -> str:
    """Return one change of an event, as in ``price: 9500 before, 8700 after``, without values that were not kept."""
    values = [f"{'empty' if change[name] is None else change[name]} {name}" for name in change if name != "field"]
    return f"{change['field']}: {', '.join(values)}" if values else str(change["field"])
