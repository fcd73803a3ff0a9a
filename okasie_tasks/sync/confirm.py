"""The last look at the source before the first sell of a run.

The sells wait until everything else was sent, which may take hours. If the source has changed since it was read, the
listings to be sold are looked up in it again. Those that it contains are left to the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from okasie_tasks.core.fingerprint import content_fingerprint
from okasie_tasks.core.records import Planned
from okasie_tasks.errors import SourceError, SourceUnsettled
from okasie_tasks.sync import settling
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.finish import note_error

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

_PLANNED = "sells_planned"


def prepare(ctx: AccountContext, run: Run, sells: list[Planned]) -> None:
    """Store the planned sells; `confirm_sells` adds them to the stage ``sell``."""
    ctx.runs.data.put(run.id, _PLANNED, 0, sells)
    for stage, parts in (("confirm", int(bool(sells))), ("sell", 0)):
        ctx.runs.parts.prepare(run.id, stage, parts)


def confirm_sells(ctx: AccountContext, part: Part, run: Run) -> dict[str, int]:
    """Add the planned sells that the source still confirms. The others are counted, and wait for the next run."""
    planned: list[Planned] = ctx.runs.data.fetch_one(part.run, _PLANNED, 0, list[Planned]) or []
    try:
        confirmed = _confirmed(ctx, run, planned)
    except SourceError as error:
        note_error(ctx, run.id, error.code, f"{error.message}; {len(planned)} sells wait", error.where or "")
        return {"unconfirmed": len(planned)}
    ctx.runs.parts.add(part.run, "sell", "confirmed", "selling", confirmed)
    return {"overtaken": len(planned) - len(confirmed)}


def _confirmed(ctx: AccountContext, run: Run, planned: list[Planned]) -> list[Planned]:
    source = ctx.source()
    version = source.version()
    if version == run.facts.get("source_version", ""):
        return planned
    if not settling.is_settled(ctx, run, "confirm", source, version):
        raise SourceError(settling.STILL_CHANGING, where="source", code="unsettled")
    contents: dict[str, bytes] = {}
    try:
        for row in source.get([change.reference for change in planned]):
            if row.reference is None:
                raise SourceError("changed, and the reference of a row cannot be read", where=row.where)
            contents[row.reference] = content_fingerprint(row.listing) if row.listing is not None else b""
    except SourceError:
        if source.version() == version:
            raise
    if source.version() != version:
        if settling.is_too_late(ctx, run, "confirm", ctx.runs.now_ms()):
            raise SourceError(settling.STILL_CHANGING, where="source", code="unsettled")
        raise SourceUnsettled("the source changed while it was read", seconds=settling.AGAIN_SECONDS, where="source")
    return [change for change in planned if _still_holds(change, contents)]


def _still_holds(change: Planned, contents: dict[str, bytes]) -> bool:
    """A listing to be sold is still absent from the source, or its row with status ``sold`` is still the same."""
    if change.row < 0:
        return change.reference not in contents
    return contents.get(change.reference, change.content) == change.content
