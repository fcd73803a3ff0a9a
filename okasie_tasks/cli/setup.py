"""``okasie init`` drafts an ``okasie.toml`` from a feed; ``okasie completion`` prints the completion script."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from click.shell_completion import get_completion_class

from okasie_tasks.cli.common import Context, command_options, echo, emit
from okasie_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from okasie_tasks.sources.detect import Draft


@click.command()
@click.argument("feed")
@click.option("--account", metavar="NAME", help="The name of the account [default: derived from the feed].")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write [default: that of --config, else okasie.toml].",
)  # fmt: skip
@click.option("--append", is_flag=True, help="Add the account to the file, which has others.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option("--preview", is_flag=True, help="Print a row as it would be sent by the draft, and write nothing.")
@command_options
def init(
    context: Context, feed: str, *, account: str | None, output: Path | None, append: bool, force: bool, preview: bool
) -> None:
    """Draft an okasie.toml from the first rows of FEED, a path or a URL (http, ftp, sftp, s3).

    Column names and words in cells are recognised in Dutch, French, German and English. Comments in the file list what
    an operator must decide.
    """
    from okasie_tasks.cli.preview import print_row, row_document  # noqa: PLC0415 - only where it is needed
    from okasie_tasks.sources.detect import best_row, propose, read_head, render  # noqa: PLC0415

    output = output or context.config or Path("okasie.toml")
    feed = feed.removeprefix("file://")
    name = account or _account_of(feed)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigurationError(f"got {name!r:.60}, expected a name of a-z, 0-9 and _", where="--account")
    if append and force:
        raise click.UsageError("--append keeps the file, --force overwrites it: give one of them")
    before = "" if force or preview or not output.exists() else _before(output, feed, name, append=append)
    year = datetime.now(UTC).year
    draft = propose(read_head(feed), account=name, url=_url(feed, name, output), current_year=year)
    if preview:
        row = best_row(draft, current_year=year)
        rows = [row_document(row)] if row else []
        emit(context, {"account": name, "rows": rows}, lambda: print_row(rows[0]) if rows else echo("no rows"))
        return
    _write(output, before + render(draft))
    document = _document(draft, output, appended=bool(before))
    emit(context, document, lambda: _print(document))


def _before(output: Path, feed: str, account: str, *, append: bool) -> str:
    """Return the text of the file, for a draft to follow. Raises `ConfigurationError` with the command that does it."""
    from okasie_tasks.settings import masked  # noqa: PLC0415

    try:
        text = output.read_text(encoding="utf-8")
        accounts = tomllib.loads(f"{text}\n[accounts._]")["accounts"]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"nothing can be appended to it: {error}", where=str(output)) from error
    command = f"`okasie init {shlex.quote(masked(feed) if '://' in feed else feed)} --append"
    if account in accounts:
        other = f"{command} --account NAME` adds another one" if append else "--force overwrites the whole file"
        raise ConfigurationError(f"has an account {account!r}: {other}", where=str(output))
    if not append:
        raise ConfigurationError(
            f"already exists: {command}` adds the account {account!r} to it, --force overwrites it, --output names"
            " another file",
            where=str(output),
        )  # fmt: skip
    return f"{text.rstrip()}\n\n"


def _account_of(feed: str) -> str:
    """``/srv/Dex stock.csv.gz`` -> ``dex_stock``."""
    path = urlsplit(feed).path if "://" in feed else feed
    stem = Path(path).name.partition(".")[0] or "dealer"
    return re.sub(r"[^a-z0-9]+", "_", stem.casefold()).strip("_") or "dealer"


def _url(feed: str, account: str, output: Path) -> str:
    """Return the feed's ``url``: a path relative to the file; an environment variable for a URL with secrets."""
    if "://" in feed:
        parts = urlsplit(feed)
        return f"env:{account.upper()}_FEED_URL" if parts.query or "@" in parts.netloc else feed
    path = os.path.relpath(feed, output.absolute().parent)
    return str(Path(feed).absolute()) if path.startswith("..") else Path(path).as_posix()


def _write(output: Path, text: str) -> None:
    part = output.with_name(f".{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if output.exists():
            shutil.copymode(output, part)
        part.replace(output)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(output)) from error


def _document(draft: Draft, output: Path, *, appended: bool) -> dict[str, Any]:
    from okasie_tasks.sources.detect import FILL_IN, key_variable  # noqa: PLC0415

    return {
        "config": str(output),
        "account": draft.account,
        "appended": appended,
        "type": draft.head.kind,
        "rows_seen": len(draft.head.rows),
        "rows_tried": draft.tried,
        "rows_valid": draft.valid,
        "reference": None if draft.reference == FILL_IN else draft.reference,
        "fields": draft.fields,
        "units": draft.units,
        "skip": draft.skip,
        "fill_in": [name.rpartition(".")[2] for name in draft.fill_in()],
        "unknown_values": draft.unknown,
        "left_out": [{"field": field, "reason": reason} for field, _, reason in draft.left_out],
        "unused_columns": draft.unused,
        "decide": draft.decide,
        "environment": [key_variable(draft.account), *([draft.url[4:]] if draft.url.startswith("env:") else [])],
    }


def _print(document: dict[str, Any]) -> None:
    echo(
        f"{document['config']}: account {document['account']}, {len(document['fields'])} fields of a {document['type']}"
        f" feed; {document['rows_valid']} of {document['rows_tried']} rows make a valid listing"
    )
    echo(f"  set       {', '.join(document['environment'])} in the environment")
    if document["fill_in"]:
        echo(f"  fill in   {', '.join(document['fill_in'])}")
    for column, cells in document["skip"].items():
        echo(f"  skip      rows of which {column} is {' or '.join(map(repr, cells))[:100]}")
    for field, words in document["unknown_values"].items():
        echo(f"  unknown   {field}: {', '.join(list(words)[:8])}")
    for left in document["left_out"]:
        echo(f"  left out  {left['field']}: {left['reason']}")
    for sentence in document["decide"]:
        echo(f"  decide    {sentence}")
    if document["unused_columns"]:
        echo(f"  not used  {', '.join(document['unused_columns'][:20])}")
    if document["appended"]:
        echo("  restart   `okasie up`, if it runs, or send it SIGHUP: it read the file when it started")
    file = "" if document["config"] == "okasie.toml" else f" --config {shlex.quote(document['config'])}"
    echo(
        f"next: `okasie up --sandbox{file}`, and in another terminal `okasie plan {document['account']} --full{file}`;"
        f" for the marketplace, `okasie doctor{file}` first"
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@command_options
def completion(context: Context, shell: str) -> None:
    """Print the completion script of SHELL: for bash, put `eval "$(okasie completion bash)"` into ~/.bashrc."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    group = click.get_current_context().find_root().command
    script = kind(group, {}, "okasie", "_OKASIE_COMPLETE").source()
    emit(context, {"shell": shell, "script": script}, lambda: click.echo(script))
