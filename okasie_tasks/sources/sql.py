"""An inventory in a database, through SQLAlchemy: one query, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.errors import FixConfiguration, SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.mapping import RowMapping

if TYPE_CHECKING:
    from sqlalchemy import Engine

_ROWS_PER_FETCH: Final = 1_000


class SqlSource:
    """The rows of ``query``. Every read is one statement, so it sees one moment of the database."""

    sliceable = False

    def __init__(self, account: AccountSettings, url: str, *, current_year: int) -> None:
        self._account = account
        self._url = url
        self._year = current_year
        self._where = f"query of {account.name}"

    def version(self) -> str:
        """Not known: a database has no token for its content."""
        return ""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[SourceRow]:
        """Rows of the query in its order; see `okasie_tasks.ports.Source`."""
        from sqlalchemy import text  # noqa: PLC0415 - an extra
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        engine = self._engine()
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=_ROWS_PER_FETCH) as connection:
                result = connection.execute(text(self._account.source.query or ""))
                mapping = self._mapping(list(result.keys()))
                rows = islice(result.mappings(), start, stop)
                for number, raw in enumerate(rows, start=start + 1):
                    yield mapping.row({k: _plain(v) for k, v in raw.items()}, number, f"{self._where}, row {number}")
        except SQLAlchemyError as error:
            # str(error) holds the statement and may hold the URL; the driver's class names the trouble.
            cause = getattr(error, "orig", None)
            raise SourceError(f"the database refused: {type(error).__name__}" + (f" ({cause})"[:200] if cause else ""),
                              where=self._where) from None  # fmt: skip
        finally:
            engine.dispose()

    def get(self, references: Sequence[str]) -> Iterator[SourceRow]:
        """Just these rows; the query is read through."""
        wanted = frozenset(references)
        return (row for row in self.rows() if row.reference in wanted)

    def _mapping(self, columns: list[str]) -> RowMapping:
        mapping = RowMapping(self._account, columns=columns, current_year=self._year)
        if missing := sorted(mapping.needed.difference(columns)):
            raise SourceError(f"has no column {', '.join(missing)}; its columns are {', '.join(columns)[:300]}",
                              where=self._where, code="columns")  # fmt: skip
        return mapping

    def _engine(self) -> Engine:
        try:
            from sqlalchemy import create_engine  # noqa: PLC0415
        except ImportError as error:
            raise FixConfiguration(
                'type = "sql" needs an extra: pip install "okasie-tasks[sql]"', where=self._where
            ) from error
        try:
            return create_engine(self._url)
        except Exception as error:
            raise FixConfiguration(
                f"the SQLAlchemy URL cannot be used ({type(error).__name__})", where=self._where
            ) from None


def _plain(value: Any) -> Any:
    """Decimals and the like as the mapping reads them."""

    return float(value) if isinstance(value, Decimal) else value
