"""Proposes a configuration from a feed's first rows: columns, value maps, and what an operator must decide.

The proposal is tried on the rows read. A column whose cells do not fit its field is left out, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from okasie_tasks.core.fields import BY_INPUT_NAME, FIELDS, STRICT
from okasie_tasks.core.listing import Issue
from okasie_tasks.ports import SourceRow
from okasie_tasks.settings import AccountSettings
from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.draft import Draft, columns_in
from okasie_tasks.sources.detect.head import Head, cells
from okasie_tasks.sources.detect.images import pick_images
from okasie_tasks.sources.detect.pick import (
    MOST_WRONG,
    decimal_of,
    pick_columns,
    pick_reference,
    pick_title,
)
from okasie_tasks.sources.detect.status import pick_status
from okasie_tasks.sources.detect.units import pick_units
from okasie_tasks.sources.detect.vocabulary import REFERENCE, UPDATED_AT, WORDS, is_empty_word, plain, value_of
from okasie_tasks.sources.mapping import RowMapping
from okasie_tasks.sources.total_lines import is_total

_PLACE: Final = ("postalCode", "city", "province")
_STRICT: Final = ("vehicleType", "condition", "co2Type")
_GENERAL: Final = ("fuelType", "transmission", "bodyType")
"""Fields with a value for everything else."""
_NEEDED: Final = frozenset({"externalReference", "title", "price", "status", "dealerLocationCode", *_PLACE})
_KNOWN_SHARE: Final = 0.3
_MOST_UNREAD: Final = 0.5
_NAMES: Final = frozenset({"title", "brand", "model", "variant", "customType", "status", "price"})
"""Fields in which a word for "nothing" stays: a name may be one, and a price that is none is reported as it is."""
_MOST_VALUES: Final = 40
_TRIED_ROWS: Final = 5_000


def propose(head: Head, *, account: str, url: str, current_year: int) -> Draft:
    """Return everything that can be proposed without knowing the dealer."""
    draft = Draft(head=head, account=account, url=url)
    pick_columns(draft)
    pick_units(draft)
    pick_status(draft)
    pick_reference(draft)
    _skip_totals(draft)
    pick_images(draft)
    pick_title(draft)
    draft.decimal = decimal_of(draft)
    for field, column in draft.fields.items():
        if field not in _NAMES and isinstance(column, str) and "{" not in column:
            _map_empty_words(draft, field, column)
    for field in [name for name in WORDS if name != "status" and isinstance(draft.fields.get(name), str)]:
        _translate(draft, field)
    _fill_defaults(draft)
    if "price" not in draft.fields:
        draft.fields["price"] = FILL_IN
    _try(draft, current_year)
    _pick_updated_at(draft, current_year)
    left_out = (left for _, target, _ in draft.left_out for left in columns_in(target, head.columns))
    used = {*draft.columns(), *left_out}
    draft.unused = [column for column in head.columns if column and "[" not in column and column not in used]
    return draft


def best_row(draft: Draft, *, current_year: int) -> SourceRow | None:
    """Return the first row that becomes a valid listing, else the first row; None if the feed has none."""
    rows = _rows(draft, current_year)
    return next((row for row in rows if row.listing is not None), rows[0] if rows else None)


def _translate(draft: Draft, field: str) -> None:
    """Set the value map of a field from the words read. A strict field with mostly unknown words is left out."""
    column = str(draft.fields[field])
    seen = Counter(str(cell).strip() for cell in cells(draft.head, column) if not isinstance(cell, list | dict))
    known = {word: value for word in seen if (value := value_of(field, word)) is not None}
    known |= draft.values.get(field, {})
    rows = sum(seen.values())
    if field in _STRICT and rows and sum(seen[word] for word in known) < rows * _KNOWN_SHARE:
        words = ", ".join(repr(word) for word, _ in seen.most_common(3))
        _leave_out(
            draft, field, f"Okasie expects {' or '.join(sorted(FIELDS[field].choices or ()))}, the feed has {words}"
        )
        return
    unknown = {word: count for word, count in _by_count(seen) if word not in known}
    folded = {word.casefold(): word for word in sorted(known, reverse=True)}
    table = {word: known[word] for word in sorted(folded.values())}
    if field in (*_GENERAL, *_STRICT) and (unknown or not draft.head.whole):
        table["*"] = "other" if field in _GENERAL else ""
    else:
        table = {word: value for word, value in table.items() if word != value}
    if table:
        draft.values[field] = table
    if unknown:
        draft.unknown[field] = dict(list(unknown.items())[:_MOST_VALUES])


def _map_empty_words(draft: Draft, field: str, column: str) -> None:
    """Map the cells that say that there is no value to none: they are neither invalid nor sent."""
    words = {str(cell).strip() for cell in cells(draft.head, column) if isinstance(cell, str)}
    if empty := {word: "" for word in sorted(words, key=str.casefold) if is_empty_word(word)}:
        draft.values[field] = empty


def _skip_totals(draft: Draft) -> None:
    """Skip the total lines below the cars, by the column that calls them so."""
    for row in draft.head.rows:
        filled = {column: cell for column, cell in row.items() if cell not in (None, "")}
        places = [draft.reference] if draft.reference in filled else list(filled)
        if len(places) > 1 and len(filled) * 2 > len(row):
            continue  # a car without a reference
        for column in places:
            if isinstance(cell := filled.get(column), str) and is_total(cell):
                draft.skip[column] = [*draft.skip.get(column, []), cell.strip()]
                break


def _by_count(seen: Counter[str]) -> list[tuple[str, int]]:
    return sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))


def _leave_out(draft: Draft, field: str, reason: str) -> None:
    target = draft.fields.pop(field)
    draft.left_out.append((field, target, reason))
    draft.units.pop(field, None)
    draft.unknown.pop(field, None)
    draft.values.pop(field, None)
    if any(BY_INPUT_NAME.get(column) is FIELDS[field] for column in draft.head.columns):
        # A column with the field's name is read even when it is not mapped: this drops all its values.
        draft.values[field] = {"*": ""}


def _fill_defaults(draft: Draft) -> None:
    dealer = () if "dealerProfileId" in draft.fields else ("dealerLocationCode",)
    for field in (*dealer, *_PLACE):
        if field not in draft.fields:
            draft.defaults[field] = FILL_IN


def _pick_updated_at(draft: Draft, current_year: int) -> None:
    named = {plain(column): column for column in draft.head.columns}
    used = set(draft.columns())
    for column in (named[name] for name in UPDATED_AT if name in named):
        tried = msgspec.structs.replace(draft, updated_at=column)
        rows = [row for row in _rows(tried, current_year) if row.listing is not None]
        if rows and column not in used and sum(row.version > 0 for row in rows) > len(rows) * (1 - MOST_WRONG):
            draft.updated_at = column
            return


# -- the trial -----------------------------------------------------------------------------------------------------


def _rows(draft: Draft, current_year: int) -> list[SourceRow]:
    settings = {"name": draft.account, "api_key": "env:NONE", "source": draft.source()}
    account = AccountSettings.model_validate(settings)
    columns = draft.head.columns if draft.head.has_columns else None
    mapping = RowMapping(account, columns=columns, current_year=current_year)
    raw = enumerate(draft.head.raw[:_TRIED_ROWS], start=1)
    rows = (mapping.row(row, number, f"row {number}") for number, row in raw)
    return [row for row in rows if not row.left_out]


def _try(draft: Draft, current_year: int) -> None:
    """Map the rows read; leave out fields that are invalid too often, and try the rest again."""
    while True:
        rows = _rows(draft, current_year)
        wrong: dict[str, list[str]] = {}
        for row in rows:
            for field, message in {i.field.partition(".")[0]: i.message for i in _unread(row)}.items():
                wrong.setdefault(field, []).append(message)
        bad = [name for name in wrong if name in draft.fields and name not in _NEEDED]
        bad = [name for name in bad if len(wrong[name]) > _most_wrong(draft, name)]
        for field in bad:
            _leave_out(draft, field, wrong[field][0])
        if not bad:
            break
    draft.tried, draft.valid = len(rows), sum(row.listing is not None for row in rows)
    _note_decisions(draft, wrong, len(rows))


def _most_wrong(draft: Draft, field: str) -> float:
    """Return how many cells may be invalid before the column is considered the wrong one.

    Where an invalid value costs the car, hardly any; elsewhere half of the cells that are filled.
    """
    columns = columns_in(draft.fields[field], draft.head.columns)
    rows = draft.head.rows[:_TRIED_ROWS]
    filled = sum(any(row.get(column) not in (None, "", []) for column in columns) for row in rows)
    return filled * (MOST_WRONG if field in STRICT else _MOST_UNREAD)


def _unread(row: SourceRow) -> Iterator[Issue]:
    """Yield why the row, or a whole field of it, would not be sent."""
    yield from row.issues
    for warning in row.warnings if row.listing is not None else ():
        spec = FIELDS.get(warning.field)
        if spec is not None and getattr(row.listing, spec.attribute) in (None, ()):
            yield warning


def _note_decisions(draft: Draft, wrong: dict[str, list[str]], rows: int) -> None:
    for field, messages in wrong.items():
        if field == "externalReference" and draft.reference == FILL_IN:
            continue
        draft.decide.append(f"{len(messages)} of {rows} rows: {field}: {messages[0]}")
    if draft.reference == FILL_IN:
        draft.decide.append("no column identifies each car: set `reference`; without it nothing can be sent")
    elif plain(draft.reference) not in REFERENCE:
        draft.decide.append(f"{draft.reference!r} was taken for the reference only because its values are unique")
    if draft.fields.get("title") == FILL_IN:
        draft.decide.append("no column was taken for the title, which every listing needs")
    if draft.fields.get("price") == FILL_IN:
        draft.decide.append("no column was taken for the price, which an active listing needs")
    if draft.unknown.get("status"):
        draft.decide.append("some words for the status are unknown: their rows are rejected until the words are mapped")
