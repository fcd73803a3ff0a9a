"""From a feed's row to a listing: columns, templates, value maps, units and defaults, compiled once per source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from okasie_tasks import __version__
from okasie_tasks.core.fields import BY_INPUT_NAME, FIELDS, STRICT, FieldSpec
from okasie_tasks.core.listing import InvalidListing, Issue, brief
from okasie_tasks.core.validate import parse_listing
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings, ColumnSettings
from okasie_tasks.sources.columns import Getter, Row, needed_columns, take, template_columns
from okasie_tasks.sources.left_out import LeftOutRows
from okasie_tasks.sources.markup import plain_description
from okasie_tasks.sources.paths import is_path, root
from okasie_tasks.sources.references import ReferenceReader
from okasie_tasks.sources.total_lines import is_total
from okasie_tasks.sources.values import (
    NumberReader,
    UnreadableCell,
    plain_text,
    read_boolean,
    read_month,
)

_MAPS: Final = {
    "type", "reference", "updated_at", "decimal", "encoding", "delimiter", "items", "header", "skip_lines", "sheet",
    "fields", "values", "units", "defaults", "skip",
}  # fmt: skip
"""The settings that determine which listing a raw row becomes."""
_REMEMBERED: Final = frozenset({str, int})
_MOST_REMEMBERED: Final = 1_000
"""Cells of one field whose values are remembered: makes, fuels or years are few."""
_NEW: Final[Any] = object()
"""Stands for a cell whose value is not remembered."""
_OWN: Final = frozenset({"description", "vin", "carPassUrl", "images"})
"""Fields whose cells are long, or each row's own: they are not remembered."""


@cache
def _code() -> str:
    """Return a digest of the code that turns a raw row into a listing and its fingerprint; every release changes it."""
    digest = blake2b(__version__.encode())
    for module in (
        "sources.mapping",
        "sources.values",
        "sources.references",
        "sources.left_out",
        "sources.markup",
        "sources.total_lines",
        "core.listing",
        "core.validate",
        "core.urls",
        "core.fields",
        "core.fingerprint",
    ):
        path = files("okasie_tasks").joinpath(*module.split(".")).with_suffix(".py")  # type: ignore[attr-defined]
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


class _Field(NamedTuple):
    """How one field is read."""

    spec: FieldSpec
    get: Getter | None
    column: str
    """Named in messages."""
    words: Mapping[str, str] | None
    default: Any
    remembers: bool
    valid: dict[Any, Any]
    """Cell -> the value in the listing, for cells of listings without a warning."""


class RowMapping:
    """The compiled mapping of one account. ``columns``: those of the feed, None when each row names its columns.

    ``only``: the requested references; of other rows only the reference is read.
    """

    def __init__(
        self,
        account: AccountSettings,
        *,
        columns: Iterable[str] | None,
        current_year: int,
        only: Collection[str] | None = None,
    ) -> None:
        self._source = account.source
        self._zone = ZoneInfo(account.timezone)
        self._year = current_year
        self._only = only
        self._order = None if columns is None else tuple(columns)
        self._columns = None if self._order is None else frozenset(self._order)
        self.reference = ReferenceReader(account.source.reference or self._own_reference(), self._order)
        self._left_out = LeftOutRows(account.source.skip, self._order)
        # In a feed without a header: members that paths lead into. They are no values, even with a field's name.
        self._nested = {root(name) for name in self.needed if is_path(name)} if self._columns is None else set[str]()
        words = {
            BY_INPUT_NAME[field].name: {k.strip().casefold(): v for k, v in table.items()}
            for field, table in self._source.values.items()
        }
        self._numbers = NumberReader(self._source.decimal, self._source.units)
        self._plan = [
            self._field(spec, words.get(spec.name)) for spec in FIELDS.values() if spec.name != "externalReference"
        ]
        self._plan = [step for step in self._plan if step.get is not None or step.spec.name in self._source.defaults]
        self._cells = [
            (step, step.get or _nothing, step.spec.attribute, step.valid if step.remembers else None)
            for step in self._plan
        ]

    def _own_reference(self) -> str:
        for name in ("externalReference", "external_reference"):
            if self._columns is None or name in self._columns:
                return name
        return "externalReference"

    @property
    def needed(self) -> frozenset[str]:
        """The columns that the mapping names. A feed without one of them is not the configured feed."""
        names = {*self.reference.columns, *self._left_out.columns}
        for target in self._source.fields.values():
            names.update(needed_columns(target))
        if self._source.updated_at:
            names.add(self._source.updated_at)
        return frozenset(names)

    def check_columns(self, where: str) -> None:
        """Raise `SourceError` if the feed lacks columns that the mapping names, or has one of them twice."""
        columns = self._order or ()
        if missing := sorted(self.needed.difference(columns)):
            raise SourceError(
                f"has no column {', '.join(missing)}; its columns are {', '.join(columns)[:300] or '(none)'}",
                where=where, code="columns",
            )  # fmt: skip
        for name in sorted(self.needed | {step.column for step in self._plan}):
            places = [str(number) for number, column in enumerate(columns, start=1) if column == name]
            if len(places) > 1:
                raise SourceError(
                    f"has {len(places)} columns {name!r} (columns {', '.join(places)}), expected one: it is mapped",
                    where=where, code="columns",
                )  # fmt: skip

    # -- compiling -------------------------------------------------------------------------------------------------

    def _target(self, spec: FieldSpec) -> str | ColumnSettings | None:
        """Return where a field is read: the entry in ``fields``, else the column with the field's name."""
        for name in (spec.name, *spec.aliases):
            target = self._source.fields.get(name)
            if target is not None:
                return target
            if name not in self._nested and (self._columns is None or name in self._columns):
                return name
        return None

    def _compile(self, spec: FieldSpec) -> tuple[Getter | None, str]:
        """Return how to get a field's raw value, and the column to name in messages."""
        target = self._target(spec)
        if target is None:
            return None, spec.name
        taken = take(target, self._order)
        return taken.get, ", ".join(taken.columns)

    def _field(self, spec: FieldSpec, words: Mapping[str, str] | None) -> _Field:
        default = self._source.defaults.get(spec.name)
        return _Field(spec, *self._compile(spec), _words(spec, words), default, spec.name not in _OWN, {})

    def plain_column(self, spec: FieldSpec) -> str | None:
        """Return the column that a field is read from unchanged; None for a template, a split list, or no column."""
        target = self._target(spec)
        if isinstance(target, ColumnSettings):
            return None if target.split_on or target.columns else target.column
        return None if target is None or template_columns(target) else target

    # -- one row ---------------------------------------------------------------------------------------------------

    def row(self, raw: Row, number: int, where: str, issues: tuple[Issue, ...] = ()) -> SourceRow:
        """Map and validate one row. With ``issues``, found while reading it, the row is invalid."""
        if no_row := self._left_out.why(raw, complete=not issues):
            # With its issues: of the last row of a file, they may show that the file is cut.
            return SourceRow(row=number, reference="", listing=None, issues=issues, where=where, left_out=no_row)
        reference = self.reference.read(raw)
        if reference is None:
            issues, text = (*issues, self.reference.issue(raw)), self.reference.found(raw)
            content = blake2b(repr(raw).encode(), digest_size=8).digest()
            return SourceRow(number, None, None, issues=issues, where=where, found=text, raw=content)
        if not issues and is_total(reference):
            issues = (self.reference.total_line(reference),)
        if issues or (self._only is not None and reference not in self._only):
            return SourceRow(row=number, reference=reference, listing=None, issues=issues, where=where)
        valid, new = self._remembered(raw)
        values, unreadable = self._values(new)
        values["externalReference"] = reference
        rejecting = tuple(issue for issue in unreadable if issue.field in STRICT)
        try:
            listing, found = parse_listing(values, current_year=self._year, valid=valid)
        except InvalidListing as invalid:
            known = {issue.field for issue in rejecting}
            rest = [issue for issue in invalid.found if not (issue.field in known and issue.code == "required")]
            return self._invalid_row(raw, number, where, reference, (*rejecting, *rest))
        if rejecting:
            return self._invalid_row(raw, number, where, reference, rejecting)
        if not found and not unreadable:
            for field, cell in new:
                if field.remembers and cell.__class__ in _REMEMBERED and len(field.valid) < _MOST_REMEMBERED:
                    field.valid[cell] = getattr(listing, field.spec.attribute)
        left_out = (Issue(one.field, one.code, f"left out: {one.message}") for one in unreadable)
        warnings, version = (*left_out, *found), self._version(raw)
        return SourceRow(number, reference, listing, version=version, where=where, warnings=warnings)

    @cached_property
    def version(self) -> bytes:
        """8 bytes. While they stay the same, the same raw row becomes the same content.

        They depend on the source's settings, the columns, the year, and the code that maps and validates.
        """
        source = self._source
        settings = source.model_dump(mode="json", include=_MAPS)
        inputs = (settings, str(self._zone), self._year, self._order, self.reference.columns, _code())
        return blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=8).digest()

    def _invalid_row(self, raw: Row, number: int, where: str, reference: str, issues: tuple[Issue, ...]) -> SourceRow:
        values, _ = self._values((field, field.get(raw) if field.get is not None else None) for field in self._plan)
        return SourceRow(number, reference, None, issues=issues, where=where, values=values)

    def _remembered(self, raw: Row) -> tuple[dict[str, Any], list[tuple[_Field, Any]]]:
        """Return the attributes of the listing whose cells had a valid value before, and the cells of other fields."""
        valid: dict[str, Any] = {}
        new: list[tuple[_Field, Any]] = []
        for field, get, attribute, known in self._cells:
            cell = get(raw)
            if known is None or cell.__class__ not in _REMEMBERED or (value := known.get(cell, _NEW)) is _NEW:
                new.append((field, cell))
            elif value is not None:
                valid[attribute] = value
        return valid, new

    def _values(self, cells: Iterable[tuple[_Field, Any]]) -> tuple[dict[str, Any], list[Issue]]:
        values: dict[str, Any] = {}
        unreadable: list[Issue] = []
        for (spec, _, column, words, default, _, _), cell in cells:
            value = cell.strip() if isinstance(cell, str) else cell
            if words and value is not None and value != "":
                value = _translated(value, words)
            if value is None or (not value and value in ("", [], ())):
                value = default
                if value is None or value == "":
                    continue
            if spec.kind == "text" and isinstance(value, str) and spec.name != "firstRegistration":
                values[spec.name] = plain_description(value) if spec.name == "description" else value
                continue
            try:
                values[spec.name] = self._coerce(spec, value)
            except UnreadableCell as error:
                unreadable.append(Issue(spec.name, "unreadable", f"column {column}: {error}", brief(value)))
        return values, unreadable

    def _coerce(self, spec: FieldSpec, value: Any) -> Any:
        if spec.name in ("year", "firstRegistration") and (month := read_month(value)) is not None:
            return month[0] if spec.name == "year" else f"{month[0]}-{month[1]:02}"
        if spec.kind in ("number", "integer"):
            return self._numbers.read(spec.name, value)
        convert = _CONVERT.get(spec.kind)
        return convert(value) if convert else value

    def _version(self, raw: Row) -> int:
        """Return the row's change time in ms; 0 without a readable one. A hint: it never makes a row invalid."""
        value = raw.get(self._source.updated_at) if self._source.updated_at else None
        value = float(value) if isinstance(value, Decimal) else value
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
            return int(value if value > 1e11 else value * 1000)
        if isinstance(value, datetime):
            moment = value
        else:
            try:
                moment = datetime.fromisoformat(str(value).strip())
            except ValueError:
                return self._version({self._source.updated_at or "": float(str(value))}) if _is_digits(value) else 0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=self._zone)
        return max(0, int(moment.timestamp() * 1000))


def _nothing(_: Row) -> None:
    """Take nothing: the field has only a default."""


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{9,13}(\.\d+)?", value.strip()) is not None


def _texts(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [part for part in value if part is not None]
    return [part.strip() for part in value.split("|") if part.strip()] if isinstance(value, str) else value


def _features(value: Any) -> Any:
    if not isinstance(value, str | list):
        return value
    parts = value.split("|") if isinstance(value, str) else value
    return [_feature(part) if isinstance(part, str) else part for part in parts if part not in ("", None)]


def _text(value: Any) -> Any:
    is_plain = isinstance(value, int | float | Decimal | UUID | date) and not isinstance(value, bool)
    return plain_text(value) if is_plain else value


_CONVERT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "boolean": read_boolean,
    "texts": _texts,
    "images": _texts,
    "features": _features,
    "text": _text,
}


def _feature(text: str) -> dict[str, str]:
    category, colon, name = text.partition(":")
    return {"category": category.strip(), "name": name.strip()} if colon else {"name": text.strip()}


def _words(spec: FieldSpec, given: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the words that are translated: those given, and the field's own words in any case."""
    if spec.choices is None or "*" in (given or {}):
        return given
    return {choice.casefold(): choice for choice in spec.choices} | dict(given or {})


def _translated(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_translated(item, words) for item in value]
    translation = words.get(plain_text(value).casefold())
    if translation is None:
        translation = words.get("*")
    return value if translation is None else translation
