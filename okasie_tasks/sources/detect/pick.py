"""Chooses the column of each field, by the column's name and content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.core.listing import parse_reference
from okasie_tasks.sources.detect.draft import Draft
from okasie_tasks.sources.detect.head import Head
from okasie_tasks.sources.detect.vocabulary import BRANCH, IMAGES, REFERENCE, meaning_of, plain
from okasie_tasks.sources.values import reference_text

MOST_WRONG: Final = 0.05
"""The share of cells that may be invalid before the column is considered the wrong one."""
_MOST_DOUBLED: Final = 0.01
_TEMPLATE_SIGNS: Final = frozenset("{}!:[]")
_SEPARATORS: Final = ("|", ";", ",", "\n", " ")


def pick_columns(draft: Draft) -> None:
    """Choose for each field the column with the best matching name, preferring columns with content."""
    meanings = {column: meaning for column in draft.head.columns if (meaning := meaning_of(column)) is not None}
    filled = {column for column in draft.head.columns if any(cells(draft.head, column))}
    for column, meaning in sorted(meanings.items(), key=lambda pair: (pair[0] not in filled, pair[1].rank)):
        field = meaning.field
        if field == "warranty" and _is_months(draft.head, column):
            field = "warrantyMonths"
        if field in draft.fields or field in ("externalReference", "images"):
            continue
        draft.fields[field] = {"column": column} if "{" in column else column
        if meaning.unit:
            draft.units[field] = meaning.unit
    draft.fields = {name: draft.fields[name] for name in FIELDS if name in draft.fields}
    for column in draft.head.columns:
        is_code = plain(column) in BRANCH and not any(
            isinstance(cell, dict | list) for cell in cells(draft.head, column)
        )
        if is_code and not draft.branch and "dealerLocationCode" not in draft.fields:
            draft.branch = column


def _is_months(head: Head, column: str) -> bool:
    held = {str(cell) for cell in cells(head, column)}
    return bool(held) and all(cell.isdigit() for cell in held) and not held <= {"0", "1"}


def pick_reference(draft: Draft) -> None:
    """Choose a column that identifies each car: by its name, else by its content."""
    named = {plain(column): column for column in reversed(draft.head.columns)}
    by_name = [named[name] for name in REFERENCE if name in named]
    candidates = list(by_name)
    mapped = set(draft.columns())
    candidates += [column for column in draft.head.columns if column not in mapped and column not in candidates]
    vin = draft.fields.get("vin")
    candidates += [vin] if isinstance(vin, str) else []
    draft.reference = next(
        (column for column in candidates if _is_reference(draft.head, column, by_name=column in by_name)), ""
    )
    if not draft.reference and candidates and not draft.head.rows:
        draft.reference = candidates[0]
    for field, target in list(draft.fields.items()):
        if target == draft.reference and field != "vin":
            del draft.fields[field]


def _is_reference(head: Head, column: str, *, by_name: bool) -> bool:
    held = [row.get(column) for row in head.rows]
    read = [reference for cell in held if (reference := parse_reference(reference_text(cell))) is not None]
    if not by_name:
        # Short texts with spaces, such as descriptions, are unique as well.
        read = [reference for reference in read if " " not in reference]
    # A few invalid rows must not rule out the right column.
    unique = len(set(read)) >= len(read) * (1 - _MOST_DOUBLED)
    return bool(read) and unique and len(read) >= len(held) * (1 - MOST_WRONG)


def pick_images(draft: Draft) -> None:
    head = draft.head
    named = {plain(column): column for column in reversed(head.columns)}
    column = next((named[name] for name in IMAGES if name in named), None)
    numbered = [name for name in head.columns if (n := re.fullmatch(r"(.*?)0*\d+", plain(name))) and n[1] in IMAGES]
    if len(numbered) > 1 and not any(_TEMPLATE_SIGNS & set(name) for name in numbered):
        draft.fields["images"] = "|".join(f"{{{name}}}" for name in numbered[:50])
    elif column is not None:
        separator = _separator(head, column)
        draft.fields["images"] = {"column": column, "split_on": separator} if separator else column
    features = draft.fields.get("features")
    if isinstance(features, str) and (sign := _list_sign(head, features)):
        draft.fields["features"] = {"column": features, "split_on": sign}


def _separator(head: Head, column: str) -> str:
    """Return the separator between the URLs of a cell; "" when no cell has two."""
    held = [cell.strip() for cell in cells(head, column) if isinstance(cell, str)]
    for sign in _SEPARATORS:
        parts = [[part.strip() for part in cell.split(sign) if part.strip()] for cell in held]
        if any(len(urls) > 1 for urls in parts) and all(_is_url(url) for urls in parts for url in urls):
            return sign
    return ""


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://")) and not any(map(str.isspace, text))


def _list_sign(head: Head, column: str) -> str:
    """Return the most likely separator of a list of words."""
    held = [cell for cell in cells(head, column) if isinstance(cell, str)]
    counts = {sign: sum(sign in cell for cell in held) for sign in ("|", ";", ",")}
    best = max(counts, key=lambda sign: counts[sign])
    return best if counts[best] and best != "|" else ""


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
    draft.decide.append("no column was taken for the title, which every listing needs: the reference is used for now")
    if draft.reference:
        draft.fields = {"title": {"column": draft.reference}, **draft.fields}


def cells(head: Head, column: str) -> Iterator[Any]:
    """Yield the cells of a column that are not empty."""
    for row in head.rows:
        cell = row.get(column)
        if cell is not None and cell not in ("", []):
            yield cell


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
