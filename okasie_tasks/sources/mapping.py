"""From a feed's row to a listing: columns, templates, value maps, units and defaults, compiled once per source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache, cached_property
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from okasie_tasks import __version__
from okasie_tasks.core.fields import BY_INPUT_NAME, FIELDS, FieldSpec
from okasie_tasks.core.listing import InvalidListing, Issue, parse_reference
from okasie_tasks.core.validate import images_left_out, parse_listing
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings, ColumnSettings
from okasie_tasks.sources.columns import Getter, Row, needed_columns, take, template_columns
from okasie_tasks.sources.values import (
    NumberReader,
    UnreadableCell,
    plain_text,
    read_boolean,
    read_month,
    reference_text,
)

_MAPS: Final = {
    "type", "reference", "updated_at", "decimal", "encoding", "delimiter", "fields", "values", "units", "defaults",
}  # fmt: skip
"""The settings that determine which listing a raw row becomes."""


@cache
def _code() -> str:
    """Return a digest of the code that turns a raw row into a listing and its fingerprint; every release changes it."""
    digest = blake2b(__version__.encode())
    for module in (
        "sources.mapping",
        "sources.values",
        "core.listing",
        "core.validate",
        "core.fields",
        "core.fingerprint",
    ):
        path = files("okasie_tasks").joinpath(*module.split(".")).with_suffix(".py")  # type: ignore[attr-defined]
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


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
        only: frozenset[str] | None = None,
    ) -> None:
        self._source = account.source
        self._zone = ZoneInfo(account.timezone)
        self._year = current_year
        self._only = only
        self._order = None if columns is None else tuple(columns)
        self._columns = None if self._order is None else frozenset(self._order)
        self.reference_column = account.source.reference or self._own_reference()
        words = {
            BY_INPUT_NAME[field].name: {k.strip().casefold(): v for k, v in table.items()}
            for field, table in self._source.values.items()
        }
        self._numbers = NumberReader(self._source.decimal, self._source.units)
        self._plan = [
            (spec, *self._compile(spec), words.get(spec.name), self._source.defaults.get(spec.name))
            for spec in FIELDS.values()
            if spec.name != "externalReference"
        ]
        self._plan = [step for step in self._plan if step[1] is not None or step[0].name in self._source.defaults]

    def _own_reference(self) -> str:
        for name in ("externalReference", "external_reference"):
            if self._columns is None or name in self._columns:
                return name
        return "externalReference"

    @property
    def needed(self) -> frozenset[str]:
        """The columns that the mapping names. A feed without one of them is not the configured feed."""
        names = {self.reference_column}
        for target in self._source.fields.values():
            names.update(needed_columns(target))
        if self._source.updated_at:
            names.add(self._source.updated_at)
        return frozenset(names)

    @property
    def used(self) -> frozenset[str]:
        """The columns that values are read from."""
        return self.needed | {column for _, _, column, _, _ in self._plan}

    # -- compiling -------------------------------------------------------------------------------------------------

    def _target(self, spec: FieldSpec) -> str | ColumnSettings | None:
        """Return where a field is read: the entry in ``fields``, else the column with the field's name."""
        for name in (spec.name, *spec.aliases):
            target = self._source.fields.get(name)
            if target is not None:
                return target
            if self._columns is None or name in self._columns:
                return name
        return None

    def _compile(self, spec: FieldSpec) -> tuple[Getter | None, str]:
        """Return how to get a field's raw value, and the column to name in messages."""
        target = self._target(spec)
        if target is None:
            return None, spec.name
        taken = take(target, self._order)
        return taken.get, ", ".join(taken.columns)

    def plain_column(self, spec: FieldSpec) -> str | None:
        """Return the column that a field is read from unchanged; None for a template, a split list, or no column."""
        target = self._target(spec)
        if isinstance(target, ColumnSettings):
            return None if target.split_on or target.columns else target.column
        return None if target is None or template_columns(target) else target

    # -- one row ---------------------------------------------------------------------------------------------------

    def row(self, raw: Row, number: int, where: str, issues: tuple[Issue, ...] = ()) -> SourceRow:
        """Map and validate one row. With ``issues``, found while reading it, the row is invalid."""
        reference = self.reference_of(raw)
        if reference is None:
            text = raw.get(self.reference_column)
            bad = Issue(
                "externalReference",
                "bad_reference",
                f"column {self.reference_column}: expected 1 to 64 printable characters, got {text!r:.60}",
            )
            return SourceRow(row=number, reference=None, listing=None, issues=(*issues, bad), where=where)
        if issues or (self._only is not None and reference not in self._only):
            return SourceRow(row=number, reference=reference, listing=None, issues=issues, where=where)
        values, unreadable = self._values(raw)
        values["externalReference"] = reference
        try:
            listing = parse_listing(values, current_year=self._year)
        except InvalidListing as invalid:
            known = {issue.field for issue in unreadable}
            rest = [issue for issue in invalid.found if not (issue.field in known and issue.code == "required")]
            return SourceRow(row=number, reference=reference, listing=None, issues=(*unreadable, *rest), where=where)
        if unreadable:
            return SourceRow(row=number, reference=reference, listing=None, issues=tuple(unreadable), where=where)
        warning, version = images_left_out(values.get("images"), listing), self._version(raw)
        return SourceRow(number, reference, listing, version=version, where=where, warning=warning)

    def reference_of(self, raw: Row) -> str | None:
        """Return the row's reference; None when it cannot be read."""
        return parse_reference(reference_text(raw.get(self.reference_column)))

    @cached_property
    def version(self) -> bytes:
        """8 bytes. While they stay the same, the same raw row becomes the same content.

        They depend on the source's settings, the columns, the year, and the code that maps and validates.
        """
        source = self._source
        settings = source.model_dump(mode="json", include=_MAPS)
        inputs = (settings, str(self._zone), self._year, self._order, self.reference_column, _code())
        return blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=8).digest()

    def _values(self, raw: Row) -> tuple[dict[str, Any], list[Issue]]:
        values: dict[str, Any] = {}
        unreadable: list[Issue] = []
        for spec, getter, column, words, default in self._plan:
            value = getter(raw) if getter is not None else None
            if isinstance(value, str):
                value = value.strip()
            if words and value is not None and value != "":
                value = _translated(value, words)
            if value is None or value in ("", [], ()):
                value = default
                if value is None or value == "":
                    continue
            if spec.kind == "text" and isinstance(value, str) and spec.name != "firstRegistration":
                values[spec.name] = value
                continue
            try:
                values[spec.name] = self._coerce(spec, value)
            except UnreadableCell as error:
                unreadable.append(Issue(spec.name, "unreadable", f"column {column}: {error}"))
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


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{9,13}(\.\d+)?", value.strip()) is not None


def _texts(value: Any) -> Any:
    return [part.strip() for part in value.split("|") if part.strip()] if isinstance(value, str) else value


def _features(value: Any) -> Any:
    if not isinstance(value, str | list):
        return value
    parts = value.split("|") if isinstance(value, str) else value
    return [_feature(part) if isinstance(part, str) else part for part in parts if part != ""]


def _text(value: Any) -> Any:
    is_plain = isinstance(value, int | float | Decimal | UUID) and not isinstance(value, bool)
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


def _translated(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_translated(item, words) for item in value]
    translation = words.get(str(value).strip().casefold())
    if translation is None:
        translation = words.get("*")
    return value if translation is None else translation
