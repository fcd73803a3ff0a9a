"""A row of the source as a listing: what a run would send, what is left out, and why it is rejected."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from okasie_tasks.cli.common import Context, echo, emit
from okasie_tasks.core.listing import bulk_item
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.ports import SourceRow


def show_row(context: Context, account: str, reference: str) -> None:
    """Print the rows of this reference. The source is read here; neither Redis nor a worker is needed."""
    from okasie_tasks.settings import load_settings  # noqa: PLC0415 - only where it is needed
    from okasie_tasks.sources import open_source  # noqa: PLC0415

    settings = load_settings(context.config)
    if account not in settings.accounts:
        raise ConfigurationError(f"there is no account {account!r:.60}", where=str(settings.config_file))
    cache = settings.redis.state_dir / "feeds"
    source = open_source(settings.accounts[account], cache_dir=cache, current_year=datetime.now(UTC).year)
    rows = [row_document(row) for row in source.get([reference]) if row.reference == reference]
    if not rows:
        raise ConfigurationError(f"no row of the source has the reference {reference!r:.80}", where=account)

    def show() -> None:
        for document in rows:
            print_row(document)

    emit(context, {"account": account, "reference": reference, "rows": rows}, show)


def row_document(row: SourceRow) -> dict[str, Any]:
    """Return the row as it would be sent; ``listing`` is None if it is rejected."""
    row = row.read() if row.read is not None else row
    return {
        "where": row.where,
        "listing": json.loads(bulk_item(row.listing)) if row.listing is not None else None,
        "rejected": [f"{issue.field}: {issue.message}" for issue in row.issues],
        "warnings": [f"{issue.field}: {issue.message}" for issue in row.warnings],
    }


def print_row(document: dict[str, Any]) -> None:
    echo(document["where"])
    if document["listing"] is not None:
        for line in json.dumps(document["listing"], indent=2, ensure_ascii=False).splitlines():
            echo(line)
    for name in ("rejected", "warnings"):
        for sentence in document[name]:
            echo(f"  {name.removesuffix('s'):<10}{sentence}")
