"""Custom sources: objects under the entry-point group ``okasie_tasks.sources``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any

from okasie_tasks.core.listing import Listing
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.errors import ConfigurationError, OkasieError, SourceError
from okasie_tasks.ports import Block, Record, SourceRow
from okasie_tasks.settings import AccountSettings, without_passwords
from okasie_tasks.sources.blocks import BlockSource
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.records import cut_records, decode_records

GROUP = "okasie_tasks.sources"


class CustomSource(BlockSource):
    """Wraps an object with ``read() -> Iterable[Listing]``; rows may also be mappings with the feed's columns."""

    def __init__(
        self, account: AccountSettings, inner: Any, *, current_year: int, bounds: Bounds | None = None
    ) -> None:
        self._account, self._year = account, current_year
        self._bounds = bounds or Bounds(account)
        self._inner = inner
        self._name = account.source.type

    def version(self) -> str:
        return ""

    def blocks(self) -> Iterator[Block]:
        """Read the object once; see `okasie_tasks.ports.Source`."""
        return cut_records(self._read(self._inner.read))

    def decode(
        self, block: Block, *, known: RowCache | None = None, only: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Yield the rows of a block; see `okasie_tasks.ports.Source`."""
        mapping = RowMapping(self._account, columns=None, current_year=self._year, only=only)
        return decode_records(block, mapping, known)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows: by the object's ``get`` if it has one, else by reading all rows."""
        if not hasattr(self._inner, "get"):
            return super().get(references)
        blocks = cut_records(self._read(lambda: self._inner.get(list(references))))
        return (row for block in blocks for row in self.decode(block))

    def _read(self, call: Any) -> Iterator[Record]:
        try:
            items: Iterable[Any] = call()
            for number, item in enumerate(self._bounds.timed(items, self._name), start=1):
                where = f"{self._name}, row {number}"
                if not isinstance(item, Listing | dict):
                    raise SourceError(f"expected a Listing or a mapping, got {type(item).__name__}", where=where)
                yield Record(where, item)
        except OkasieError:
            raise
        except Exception as error:
            raise SourceError(
                without_passwords(f"raised {type(error).__name__}: {error}")[:300], where=self._name
            ) from error


def load_custom(account: AccountSettings, *, current_year: int, bounds: Bounds | None = None) -> CustomSource:
    """Return the source named by ``type = "python:NAME"``."""
    return CustomSource(account, load_object(account), current_year=current_year, bounds=bounds)


def load_object(account: AccountSettings) -> Any:
    """Return the custom object. Its entry point is called with the account's settings."""
    name = account.source.type.removeprefix("python:")
    for entry_point in entry_points(group=GROUP, name=name):
        return entry_point.load()(account)
    known = ", ".join(sorted(point.name for point in entry_points(group=GROUP))) or "none"
    raise ConfigurationError(
        f"no source {name!r} is installed; installed: {known}", where=f"accounts.{account.name}.source.type"
    )
