"""Chooses the columns with the addresses of photos, and the separators of lists."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

from okasie_tasks.sources.detect.draft import Draft, Target
from okasie_tasks.sources.detect.head import Head, cells
from okasie_tasks.sources.detect.vocabulary import IMAGES, names_of, plain

_SEPARATORS: Final = ("|", ";", ",", "\n", " ")
_IMAGE: Final = re.compile(r"https?://\S+\.(jpe?g|png|webp)\b", re.IGNORECASE)


def pick_images(draft: Draft) -> None:
    head = draft.head
    numbered = _numbered(head)
    if len(numbered) > 1:
        draft.fields["images"] = _columns_of(head, numbered)
    elif (column := _image_column(head)) is not None:
        separator = _separator(head, column)
        draft.fields["images"] = {"column": column, "split_on": separator} if separator else column
    features = draft.fields.get("features")
    if isinstance(features, str) and (sign := _list_sign(head, features)):
        draft.fields["features"] = {"column": features, "split_on": sign}


def _numbered(head: Head) -> list[str]:
    """Return the columns ``img1`` to ``img20`` in the order of their numbers."""
    found = [
        (int(match[2]), name)
        for name in head.columns
        if "[" not in name and (match := re.fullmatch(r"(.*?)(\d+)", plain(name))) and match[1] in IMAGES
    ]
    return [name for _, name in sorted(found)]


def _columns_of(head: Head, numbered: list[str]) -> Target:
    """Return a wildcard for the columns if it matches them alone, and in their order; else their names."""
    pattern = re.sub(r"\d+", "*", numbered[0], count=1)
    if [name for name in head.columns if fnmatchcase(name, pattern)] == numbered and not set("[?") & set(pattern):
        return {"columns": pattern}
    return {"columns": numbered}


def _image_column(head: Head) -> str | None:
    """Return the column with the addresses of photos: by its name, else by its content."""
    filled = [column for column in head.columns if any(True for _ in cells(head, column))]
    holding = [column for column in filled if "[0]" not in column and _holds_images(head, column)]
    named = [column for column in holding if _is_named(column)]
    empty = [column for column in head.columns if column not in filled and _is_named(column)]
    # The shortest path: an element of a photo may hold the address of a thumbnail, too.
    return next(iter([*sorted(named, key=len), *holding, *empty]), None)


def _is_named(column: str) -> bool:
    """Return whether a column is named as one of photos, or is in an element that is."""
    names = names_of(column) or [column]
    return any(plain(name) in IMAGES for name in (column, *names[-2:]))


def _holds_images(head: Head, column: str) -> bool:
    """Return whether most cells hold addresses; where the name does not say it, those of photos."""
    held = [cell[0] if isinstance(cell, list) else cell for cell in cells(head, column)]
    texts = [cell.strip() for cell in held if isinstance(cell, str)]
    urls = [text for text in texts if _is_url(re.split(r"[|;,\s]", text)[0])]
    fitting = [text for text in urls if _is_named(column) or _IMAGE.match(text)]
    return len(fitting) * 2 > len(held)


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
