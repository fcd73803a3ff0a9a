"""What all sources share: the limits of a block, and reads of a source in one process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import Block, SourceRow

BLOCK_ROWS: Final = 5_000
"""About 50 bulk calls, or 25 s of quota, are prepared at a time; a second of work, far below any time limit."""
BLOCK_BYTES: Final = 4_000_000


class BlockSource(ABC):
    """A source that offers blocks; see `okasie_tasks.ports.Source`."""

    @abstractmethod
    def blocks(self) -> Iterator[Block]: ...

    @abstractmethod
    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]: ...

    def rows(self) -> Iterator[SourceRow]:
        """Read and decode all rows in this process."""
        for block in self.blocks():
            yield from self.decode(block)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows, and those whose reference cannot be read: the source is scanned."""
        only = frozenset(references)
        for block in self.blocks():
            yield from (row for row in self.decode(block, only=only) if row.reference is None or row.reference in only)
