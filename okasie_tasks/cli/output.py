"""How commands print: one JSON document, or lines and tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from okasie_tasks.cli.options import Context


def emit(context: Context, document: Any, show: Callable[[], None]) -> None:
    """Print the document as JSON, or let ``show`` print it for people."""
    if context.as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        show()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; into a file or pipe it is as wide as it needs."""
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False, markup=False)
    printed = Table(*headers, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        printed.add_row(*row)
    console.print(printed)


def say(line: str) -> None:
    """A line about what goes on: on stderr, so that stdout holds results only."""
    click.echo(f"okasie: {line}", err=True)


def change_text(change: dict[str, Any]) -> str:
    """One change of an event, as in ``price: 9500 before, 8700 after``; a value that was not kept is not told."""
    values = [f"{'empty' if change[name] is None else change[name]} {name}" for name in change if name != "field"]
    return f"{change['field']}: {', '.join(values)}" if values else str(change["field"])
