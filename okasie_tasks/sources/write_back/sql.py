"""Writes edits made on the marketplace to the table that the inventory is read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from okasie_tasks.errors import SourceError
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Offer
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sources.sql import database_error, open_engine
from okasie_tasks.sources.sql_cells import plain_cell
from okasie_tasks.sources.write_back.reverse_mapping import CannotWriteBack, Holds, ReverseMapping

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, TableClause
    from sqlalchemy.engine.interfaces import ReflectedColumn

log = get_logger(__name__)


class _Outcome(msgspec.Struct):
    """The result of one offer. ``skipped``: fields that were not written, each with its reason."""

    reference: str
    taken: bool = False
    reason: str = ""
    skipped: dict[str, str] = msgspec.field(default_factory=dict)


class SqlWriteBack:
    """One UPDATE for each listing, with one transaction for the whole batch.

    A field is written only while its cell still reads as the value that was compared. A newer change in the source is
    never overwritten, nor is a column with the same name that the query does not read. A repeated offer finds its
    values in place and changes nothing. ``skipped`` counts fields that this object has not written, by field.
    """

    def __init__(self, account: AccountSettings, url: str, table: str) -> None:
        self._account = account
        self._url = url
        self._name = table
        self._where = f"table {table} of {account.name}"
        self.skipped: Counter[str] = Counter()

    def write_back(self, offers: Sequence[Offer]) -> int:
        """Return how many offers have at least one field in the table now; see `okasie_tasks.ports.WriteBack`."""
        if not offers:
            return 0
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - an extra

        engine = open_engine(self._url, self._where)
        try:
            year = datetime.fromtimestamp(max(offer.at_ms for offer in offers) / 1000, UTC).year
            outcomes = self._batch(engine, _Target(engine, self._account, self._name, self._where, year), offers)
        except SQLAlchemyError as error:
            raise database_error(error, self._url, self._where) from None
        finally:
            engine.dispose()
        return self._log(outcomes)

    def _batch(self, engine: Engine, target: _Target, offers: Sequence[Offer]) -> list[_Outcome]:
        from sqlalchemy.exc import DataError, IntegrityError, InternalError  # noqa: PLC0415 - an extra

        refused = (DataError, IntegrityError, InternalError)
        try:
            with _transaction(engine) as connection:
                return [target.take(connection, offer) for offer in offers]
        except refused:
            pass
        # A database constraint refuses one offer: written one by one, it does not block the others.
        outcomes = []
        for offer in offers:
            try:
                with _transaction(engine) as connection:
                    outcomes.append(target.take(connection, offer))
            except refused as error:
                # Only the first line: the details that follow may contain the whole row.
                reason = database_error(error, self._url, self._where).message.partition("\\n")[0]
                outcomes.append(_Outcome(offer.reference, reason=reason))
        return outcomes

    def _log(self, outcomes: Sequence[_Outcome]) -> int:
        for outcome in outcomes:
            self.skipped.update(outcome.skipped.keys())
            reason = outcome.reason or "; ".join(f"{field}: {reason}" for field, reason in outcome.skipped.items())
            facts = {"reference": outcome.reference, "reason": reason or "no change", "where": self._where}
            if not outcome.taken:
                log.warning("edit not written back", **facts)
            elif reason:
                log.info("edit partly written back", **facts)
        return sum(outcome.taken for outcome in outcomes)


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # Its driver starts a transaction only at the first write, after the rows were read. It has no FOR UPDATE.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


class _Target:
    """The table as the database describes it, and the reverse mapping to its columns."""

    def __init__(self, engine: Engine, account: AccountSettings, name: str, where: str, year: int) -> None:
        from sqlalchemy import column, inspect, table  # noqa: PLC0415 - an extra
        from sqlalchemy.exc import NoSuchTableError  # noqa: PLC0415

        schema, _, bare = name.rpartition(".")
        self._where = where
        try:
            described = inspect(engine).get_columns(bare, schema or None)
        except NoSuchTableError:
            raise SourceError("there is no such table", where=where, code="write_back") from None
        self._holds = {one["name"]: _holds(one) for one in described}
        self._table = table(bare, *(column(one["name"], one["type"]) for one in described), schema=schema or None)
        # Untyped, so that cells are read as the driver returns them, as in the inventory's query.
        self._raw = table(bare, *(column(one["name"]) for one in described), schema=schema or None)
        self._mapping = ReverseMapping(account, columns=self._holds, current_year=year)
        self._key = self._mapping.reference_columns[0]
        if self._key not in self._holds:
            columns = ", ".join(self._holds)[:300]
            raise SourceError(f"has no column {self._key}; its columns are {columns}", where=where, code="columns")

    def take(self, connection: Connection, offer: Offer) -> _Outcome:
        """Write the fields that can be written back. Only database errors are raised."""
        outcome = _Outcome(offer.reference)
        columns = self._columns(offer, outcome)
        rows = self._rows(connection, offer.reference, columns.values()) if columns else []
        if columns and len(rows) != 1:
            outcome.reason = f"{'more than one row has' if rows else 'no row has'} this reference, expected one"
            return outcome
        cells: dict[str, object] = {}
        for field, ours, theirs in offer.changes:
            if field not in columns:
                continue
            now = plain_cell(rows[0][columns[field]])
            if self._mapping.reads_as(field, now, theirs):
                outcome.taken = True
                continue
            try:
                cells[columns[field]] = self._cell(field, ours, theirs, now)
            except CannotWriteBack as error:
                outcome.skipped[field] = str(error)
        if cells:
            outcome.taken = self._update(connection, offer.reference, cells) or outcome.taken
        return outcome

    def _columns(self, offer: Offer, outcome: _Outcome) -> dict[str, str]:
        """Return field -> column, for the offer's fields that have one."""
        columns = {}
        currency = next((theirs for field, _, theirs in offer.changes if field == "currency"), None)
        for field, _, _ in offer.changes:
            try:
                if field == "price" and currency not in (None, "EUR"):
                    raise CannotWriteBack("it is not in EUR")
                columns[field] = self._mapping.column(field)
            except CannotWriteBack as error:
                outcome.skipped[field] = str(error)
        return columns

    def _cell(self, field: str, ours: object, theirs: object, now: object) -> object:
        if not self._mapping.reads_as(field, now, ours):
            raise CannotWriteBack("the source no longer holds the value that was compared")
        return self._mapping.cell(field, theirs, self._holds[self._mapping.column(field)])

    def _rows(self, connection: Connection, reference: str, columns: Iterable[str]) -> list[dict[str, Any]]:
        """Return at most two rows, enough to detect that a reference is not unique."""
        from sqlalchemy import select  # noqa: PLC0415 - an extra

        cells = [self._raw.c[name] for name in dict.fromkeys(columns)]
        query = select(*cells).where(self._is(self._raw, reference)).with_for_update()
        return [dict(row) for row in connection.execute(query).mappings().fetchmany(2)]

    def _update(self, connection: Connection, reference: str, cells: Mapping[str, object]) -> bool:
        from sqlalchemy import update  # noqa: PLC0415 - an extra

        statement = update(self._table).where(self._is(self._table, reference))
        changed = connection.execute(
            statement.values({self._table.c[name]: cell for name, cell in cells.items()})
        ).rowcount
        if changed > 1:
            raise SourceError(f"{reference} would change {changed} rows", where=self._where, code="write_back")
        return changed != 0  # -1 from a driver that does not count rows; the row exists

    def _is(self, table: TableClause, reference: str) -> ColumnElement[bool]:
        """Return the condition for a reference, in the column's type: an index on numbers cannot serve a text."""
        from sqlalchemy import false, or_  # noqa: PLC0415 - an extra

        number = [int(reference)] if reference.isdecimal() and str(int(reference)) == reference else []
        wanted: dict[str, Sequence[object]] = {
            "text": [reference], "whole": number, "decimal": number, "anything": [reference, *number],
        }  # fmt: skip
        values = wanted.get(self._holds[self._key].kind, ())
        return or_(false(), *(table.c[self._key] == value for value in values))


def _holds(described: ReflectedColumn) -> Holds:
    """Return what a column can hold, from the database's description."""
    from sqlalchemy import types  # noqa: PLC0415 - an extra

    kind, nullable = described["type"], described["nullable"]
    if described.get("computed"):
        return Holds("other")
    if isinstance(kind, types.Boolean):
        return Holds("boolean", nullable=nullable)
    if isinstance(kind, types.Integer):
        return Holds("whole", nullable=nullable)
    if isinstance(kind, types.Numeric | types.Float):
        return Holds("decimal" if kind.asdecimal else "float", nullable=nullable, scale=kind.scale)
    if isinstance(kind, types.String):
        return Holds("text", nullable=nullable, length=kind.length if isinstance(kind.length, int) else None)
    return Holds("anything" if isinstance(kind, types.NullType) else "other", nullable=nullable)
