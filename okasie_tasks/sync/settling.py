"""Whether the source is complete: a file that is written in place may be read half written.

A read counts if the source did not change during it, and had not been changed for some time before. Otherwise it is
repeated, for a minute at most. No worker slot waits: the part is retried.
"""

from __future__ import annotations

from typing import Final

from okasie_tasks.errors import SourceUnsettled
from okasie_tasks.ports import SettlingSource, Source
from okasie_tasks.store.records import Run
from okasie_tasks.sync.context import AccountContext

MOST_SECONDS: Final = 60.0
"""How long a stage waits for the source. After that, the listings that the source lacks are not sold."""
AGAIN_SECONDS: Final = 0.5
STILL_CHANGING: Final = (
    f"was still being written after {MOST_SECONDS:.0f} s; the listings that it lacks are not sold"
    " (see source.settle_seconds)"
)
_SHORTEST_SECONDS: Final = 0.1


def is_settled(ctx: AccountContext, run: Run, stage: str, source: Source, version: str) -> bool:
    """Return whether the source counts as completely written; False after `MOST_SECONDS`.

    Raises `SourceUnsettled` until then. A source with a clock that is ahead counts as written once this run has seen
    the same version for long enough by Redis time.
    """
    before = ctx.runs.account(run.account).source
    if not isinstance(source, SettlingSource) or version == before or not (seconds := source.settles_in(before)):
        return True
    now_ms = ctx.runs.now_ms()
    seen_ms, _, seen = run.facts.get("source_seen", "0").partition(" ")
    if seen != version:
        ctx.runs.note(run.id, source_seen=f"{now_ms} {version}")
    elif now_ms - int(seen_ms) >= source.settle_seconds * 1000:
        return True
    if is_too_late(ctx, run, stage, now_ms):
        return False
    raise SourceUnsettled("the source is being written", seconds=max(seconds, _SHORTEST_SECONDS), where="source")


def is_too_late(ctx: AccountContext, run: Run, stage: str, now_ms: int) -> bool:
    """Return whether the stage has waited for the source for `MOST_SECONDS`. The first call begins the wait."""
    name = f"unsettled_{stage}_ms"
    ctx.runs.note_once(run.id, name, str(now_ms))
    return now_ms - run.fact(name, now_ms) >= MOST_SECONDS * 1000
