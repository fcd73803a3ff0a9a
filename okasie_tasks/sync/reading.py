"""Reads the source of a run, once, and cuts it into blocks. Their decoding is in `okasie_tasks.sync.load`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.errors import SourceError
from okasie_tasks.sync import settling
from okasie_tasks.sync.context import AccountContext, Part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run


class ReadResult(msgspec.Struct):
    """The result of the part of the load that reads the source."""

    blocks: int = 0
    version: str = ""
    changed: bool = False
    """The source changed during the read, so nothing of it counts."""
    unsettled: bool = False
    """The source was being written, for longer than a run waits."""

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that Flower shows."""
        return {"blocks": self.blocks}


def reading_part(run: Run) -> int:
    """Return the part of the load that reads the source. There is another one each time that the source changed."""
    return run.fact("load_reads")


def first_block(run: Run) -> int:
    """Return the part of the load that decodes the first block. Earlier parts do not count; see ``read_begin.lua``."""
    return run.fact("load_first")


def lost_block() -> SourceError:
    """Return the error for a block that Redis or the shared store no longer has."""
    return SourceError("a block is no longer stored; the next run reads the source again", where="source", code="lost")


def read_source(ctx: AccountContext, part: Part, run: Run) -> ReadResult:
    """Read the source and add its blocks as parts of the load; other workers decode them at the same time.

    A read that began before, by a worker that died, is replaced. Raises `SourceUnsettled` while the source is being
    written.
    """
    source = ctx.source()
    version = source.version()
    result = ReadResult(version=version)
    result.unsettled = not settling.is_settled(ctx, run, "load", source, version)
    blocks = ctx.runs.blocks.begin(run.account, part.run, part.number, part.token)
    if blocks is None:
        return result
    try:
        for block in source.blocks():
            if not blocks.add(block):
                return result  # this part is another worker's by now
            result.blocks += 1
            ctx.publish(part.run)
    except SourceError:
        if source.version() == version:
            raise
    result.changed = source.version() != version
    return result
