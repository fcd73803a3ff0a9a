"""Chooses what says whether a car is for sale: a column of words, or a column such as ``Verkocht`` of yes and no.

A column of yes and no has each word mapped to a status, so that a word that the draft does not know rejects its row. Of
a second such column the rows of sold cars are skipped.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from okasie_tasks.core.fields import FIELDS
from okasie_tasks.settings.placeholders import FILL_IN
from okasie_tasks.sources.detect.draft import Draft
from okasie_tasks.sources.detect.head import Head, cells
from okasie_tasks.sources.detect.vocabulary import FLAGS, is_empty_word, is_of_others, names_of, plain, value_of
from okasie_tasks.sources.values import read_month

_YES_OF: Final = {
    "nee": ("ja",), "nein": ("ja",), "no": ("yes",), "non": ("oui",), "n": ("j", "y", "o"), "false": ("true",),
    "0": ("1",), "onwaar": ("waar",), "faux": ("vrai",), "falsch": ("wahr",),
}  # fmt: skip
"""A word for no, and the words for yes that are expected beside it."""
_YES: Final = frozenset({"x", "v", *(word for words in _YES_OF.values() for word in words)})
_OTHERWISE: Final = {"sold": "active", "pending": "active", "active": "draft"}
_LEAST_KNOWN: Final = 0.3


def pick_status(draft: Draft) -> None:
    """Map the status, and skip the rows of sold cars, by the columns that state it."""
    named = draft.fields.pop("status", None)
    flags = sorted(filter(_flag, draft.head.columns), key=lambda column: list(_OTHERWISE).index(_flag(column)))
    must_decide = False
    for column in dict.fromkeys([named, *flags] if isinstance(named, str) else flags):
        table = _table(draft.head, column)
        if table is None:
            must_decide |= column == named or _flag(column) == "sold"
            words = ", ".join(repr(word) for word, _ in _seen(draft.head, column).most_common(3))
            choices = " or ".join(sorted(FIELDS["status"].choices or ()))
            draft.left_out.append(("status", column, f"Okasie expects {choices}, the feed has {words}"))
        elif "status" not in draft.fields:
            _map(draft, column, table)
        else:
            _skip(draft, column, table)
    if "status" not in draft.fields:
        draft.defaults["status"] = FILL_IN if must_decide else "active"


def _flag(column: str) -> str:
    """Return the status that a column states with yes and no; "" if its name is no such name."""
    *holders, name = names_of(column) or [column]
    flag = FLAGS.get(plain(name), "")
    return flag if not holders or (flag == "sold" and "[" not in column and not is_of_others(holders)) else ""


def _seen(head: Head, column: str) -> Counter[str]:
    return Counter(str(cell).strip() for cell in cells(head, column) if not isinstance(cell, list | dict))


def _table(head: Head, column: str) -> dict[str, str] | None:
    """Return the status of each word of the column that is known; None if most are not."""
    seen, flag = _seen(head, column), _flag(column)
    table = {word: status for word in seen if (status := _status(word, flag))}
    if flag == "sold" and seen and sum(seen[word] for word in seen if read_month(word)) * 2 > seen.total():
        # Dates of sale; 00-00-0000 is none.
        undated = [word for word in seen if not set("123456789").intersection(word)]
        return {word: _status(word, flag) or "active" for word in undated} | {"*": flag}
    if seen and sum(seen[word] for word in table) < seen.total() * _LEAST_KNOWN:
        return None
    if flag:
        no = [plain(word) for word, status in table.items() if status == _OTHERWISE[flag]]
        yes = [word for other in no for word in _YES_OF.get(other, ())] if table else sorted(_YES)
        known = {word.casefold() for word in table}
        table |= {word: flag for word in dict.fromkeys(yes) if word not in known}
    return table


def _status(word: str, flag: str) -> str:
    if flag and plain(word) in _YES:
        return flag
    if flag and (plain(word) in _YES_OF or is_empty_word(word)):
        return _OTHERWISE[flag]
    return value_of("status", word) or ""


def _map(draft: Draft, column: str, table: dict[str, str]) -> None:
    draft.fields["status"] = column
    if words := {word: status for word, status in sorted(table.items()) if word != status}:
        draft.values["status"] = words
    if "*" not in table and (
        unknown := {word: n for word, n in _seen(draft.head, column).items() if word not in table}
    ):
        draft.unknown["status"] = unknown
    if flag := _flag(column):
        draft.decide.append(f"{column!r} was taken for the status of a car: check the words under values.status")
        if flag != "active":
            draft.defaults["status"] = "active"


def _skip(draft: Draft, column: str, table: dict[str, str]) -> None:
    if words := [word for word, status in table.items() if status in ("sold", "draft") and word != "*"]:
        draft.skip[column] = words
    if "*" in table:
        draft.decide.append(
            f"{column!r} may hold the date of a sale: a car is sent by {draft.fields['status']!r} alone"
        )
