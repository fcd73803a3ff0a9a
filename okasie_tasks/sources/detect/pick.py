"""Chooses the column of each field, by the column's name and content."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.listing import parse_reference
from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.draft import Draft
from okasie_tasks.sources.detect.head import Head, cells
from okasie_tasks.sources.detect.vocabulary import (
    BRANCH,
    REFERENCE,
    Meaning,
    is_other_price,
    meaning_of,
    meaning_of_path,
    plain,
    without_selections,
)
from okasie_tasks.sources.values import reference_text

MOST_WRONG: Final = 0.05
"""The share of cells that may be invalid before the column is considered the wrong one."""
_MOST_DOUBLED: Final = 0.01
_LISTS: Final = frozenset({"images", "features", "conditionTags"})
_CONSUMER: Final = re.compile(
    r"@\w+='[^']*(verkoop|particulier|consument|retail|consumer|sale|public|vente|ttc|brutto|gross|verkauf|endkunde)",
    re.IGNORECASE,
)
_TEMPLATE_SIGNS: Final = frozenset("{}!:[]")


def pick_columns(draft: Draft) -> None:
    """Choose for each field the column with the best matching name, preferring columns with content."""
    read = meaning_of if draft.head.has_columns else meaning_of_path
    meanings = {column: meaning for column in draft.head.columns if (meaning := read(column)) is not None}
    if not draft.head.has_columns:
        _drop_other_prices(meanings)
    filled = {column for column in draft.head.columns if any(True for _ in cells(draft.head, column))}

    def worth(pair: tuple[str, Meaning]) -> tuple[bool, int, bool]:
        column, meaning = pair
        # Of several prices, the one that a consumer pays.
        return column not in filled, meaning.rank, not _CONSUMER.search(column)

    for column, meaning in sorted(meanings.items(), key=worth):
        field = meaning.field
        if draft.head.columns.count(column) > 1:
            draft.decide.append(f"two columns are called {column!r}: rename one; until then none of them can be read")
            continue
        if field not in _LISTS and any(isinstance(cell, list | dict) for cell in cells(draft.head, column)):
            continue  # several values, of which a field takes one
        if field == "warranty" and _is_months(draft.head, column):
            field = "warrantyMonths"
        if field in draft.fields or field in ("externalReference", "images"):
            continue
        draft.fields[field] = {"column": column} if "{" in column else column
        if meaning.unit:
            draft.units[field] = meaning.unit
    draft.fields = {name: draft.fields[name] for name in FIELDS if name in draft.fields}
    _compare_prices(draft, meanings)
    for column in draft.head.columns:
        is_code = plain(column) in BRANCH and not any(
            isinstance(cell, dict | list) for cell in cells(draft.head, column)
        )
        if is_code and not draft.branch and "dealerLocationCode" not in draft.fields:
            draft.branch = column


def _drop_other_prices(meanings: dict[str, Meaning]) -> None:
    """Drop the paths to what a trader pays and the like, and those without a selection that lead there, too."""
    prices = [path for path, meaning in meanings.items() if meaning.field == "price"]
    others = {path for path in prices if is_other_price(path)}
    others |= {without_selections(path) for path in others}
    for path in others.intersection(prices):
        del meanings[path]


def _compare_prices(draft: Draft, meanings: dict[str, Meaning]) -> None:
    """Ask an operator if nothing says which of several elements is the price that a consumer pays."""
    taken = str(draft.fields.get("price"))
    prices = [path for path, meaning in meanings.items() if meaning.field == "price" and "[@" in path]
    if taken in prices and len(prices) > 1 and not _CONSUMER.search(taken):
        draft.decide.append(f"of several prices, {taken} was taken: {', '.join(prices)}")


def _is_months(head: Head, column: str) -> bool:
    held = {str(cell) for cell in cells(head, column)}
    return bool(held) and all(cell.isdigit() for cell in held) and not held <= {"0", "1"}


def pick_reference(draft: Draft) -> None:
    """Choose a column that identifies each car: by its name, else by its content."""
    named = {plain(column): column for column in reversed(draft.head.columns) if "[" not in column}
    by_name = [named[name] for name in REFERENCE if name in named]
    candidates = list(by_name)
    mapped = set(draft.columns())
    candidates += [column for column in draft.head.columns if column not in mapped and column not in candidates]
    vin = draft.fields.get("vin")
    candidates += [vin] if isinstance(vin, str) else []
    # A few doubled or invalid rows must not rule out the column that is named so.
    tries = [(column, 0.5, 0.2) for column in by_name]
    tries = [(column, MOST_WRONG, _MOST_DOUBLED) for column in by_name] + tries
    tries += [(column, MOST_WRONG, _MOST_DOUBLED) for column in candidates if column not in by_name]
    draft.reference = next(
        (
            column
            for column, wrong, doubled in tries
            if _is_reference(draft.head, column, wrong=wrong, doubled=doubled, spaces=column in by_name)
        ),
        FILL_IN,
    )
    if draft.reference == FILL_IN and candidates and not draft.head.rows:
        draft.reference = candidates[0]
    for field, target in list(draft.fields.items()):
        if target == draft.reference and field != "vin":
            del draft.fields[field]


def _is_reference(head: Head, column: str, *, wrong: float, doubled: float, spaces: bool) -> bool:
    """Return whether the cells are references. ``wrong``, ``doubled``: the share that may be so."""
    held = [row.get(column) for row in head.rows]
    read = [reference for cell in held if (reference := parse_reference(reference_text(cell))) is not None]
    if not spaces:
        # Short texts with spaces, such as descriptions, are unique as well.
        read = [reference for reference in read if " " not in reference]
    return bool(read) and len(set(read)) >= len(read) * (1 - doubled) and len(read) >= len(held) * (1 - wrong)


def pick_title(draft: Draft) -> None:
    if "title" in draft.fields:
        return
    parts = [draft.fields.get(name) for name in ("brand", "model", "variant")]
    columns = [part for part in parts if isinstance(part, str) and not _TEMPLATE_SIGNS & set(part)]
    year = draft.fields.get("year")
    if len(columns) < 3 and isinstance(year, str) and columns and not _TEMPLATE_SIGNS & set(year):
        columns.append(year)
    if columns:
        draft.fields = {"title": " ".join(f"{{{column}}}" for column in columns), **draft.fields}
        return
    draft.fields = {"title": FILL_IN, **draft.fields}


def _digits_of(cell: str) -> str:
    """Return the digits and signs of a number, without units, spaces, and a second value in brackets."""
    text = re.sub(r"\([^()]*\)$|[\s'’]", "", cell)
    return re.sub(r"[.,][-–—]+$", "", re.sub(r"^[^\d-]+|[^\d.,–—-]+$", "", text))


def decimal_of(draft: Draft) -> str:
    """Return the decimal sign: by numbers with one possible reading, else by thousands in price and mileage."""
    sure: Counter[str] = Counter()
    likely: Counter[str] = Counter()
    for field, target in draft.fields.items():
        if FIELDS[field].kind not in ("number", "integer") or not isinstance(target, str):
            continue
        for cell in cells(draft.head, target):
            text = _digits_of(cell) if isinstance(cell, str) else ""
            if match := re.fullmatch(r"-?\d+([.,])\d{1,2}|-?\d{1,3}(?:[.,]\d{3})+([.,])\d{1,2}", text):
                sure[match[1] or match[2]] += 1
            elif match := re.fullmatch(r"\d{1,3}(?:([.,])\d{3}){2,}", text):
                sure["," if match[1] == "." else "."] += 1
            elif field in ("price", "mileage") and (match := re.fullmatch(r"\d{1,3}([.,])\d{3}", text)):
                likely["," if match[1] == "." else "."] += 1
    votes = sure or likely
    return "," if votes[","] > votes["."] else "."
