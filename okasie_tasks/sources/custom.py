"""Custom sources: objects under the entry-point group ``okasie_tasks.sources``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from itertools import islice
from typing import Any

from okasie_tasks.core.listing import Listing
from okasie_tasks.errors import ConfigurationError, OkasieError, SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings, without_passwords
from okasie_tasks.sources.bounds import Bounds
from okasie_tasks.sources.mapping import RowMapping

GROUP = "okasie_tasks.sources"


class CustomSource:
    """Wraps an object with ``read() -> Iterable[Listing]``; rows may also be mappings with the feed's columns."""

    sliceable = False

    def __init__(
        self, account: AccountSettings, inner: Any, *, current_year: int, bounds: Bounds | None = None
    ) -> None:
        self._bounds = bounds or Bounds(account)
        self._inner = inner
        self._name = account.source.type
        self._mapping = RowMapping(account, columns=None, current_year=current_year)

    def version(self) -> str:
        return ""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Yield rows in the order of the object; see `okasie_tasks.ports.Source`."""
        for number, item in enumerate(islice(self._read(self._inner.read), start, stop), start=start + 1):
            yield self._row(item, number)

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Return only these rows: by the object's ``get`` if it has one, else by reading all rows."""
        if hasattr(self._inner, "get"):
            items = self._read(lambda: self._inner.get(list(references)))
            return (self._row(item, number) for number, item in enumerate(items, start=1))
        wanted = frozenset(references)
        return (row for row in self.rows() if row.reference in wanted)

    def _read(self, call: Any) -> Iterator[Any]:
        try:
            items: Iterable[Any] = call()
            yield from self._bounds.timed(items, self._name)
        except OkasieError:
            raise
        except Exception as error:
            raise SourceError(
                without_passwords(f"raised {type(error).__name__}: {error}")[:300], where=self._name
            ) from error

    def _row(self, item: Any, number: int) -> SourceRow:
        where = f"{self._name}, row {number}"
        if isinstance(item, Listing):
            return SourceRow(row=number, reference=item.external_reference, listing=item, where=where)
        if isinstance(item, dict):
            return self._mapping.row(item, number, where)
        raise SourceError(f"expected a Listing or a mapping, got {type(item).__name__}", where=where)


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
