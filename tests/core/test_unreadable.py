"""Rows without a readable reference: which of them are new after a read, and which are kept."""

from __future__ import annotations

import pytest

from okasie_tasks.core import unreadable
from okasie_tasks.core.listing import Issue
from okasie_tasks.core.unreadable import UnreadableRow, UnreadableRows, merged, rejects_of

ISSUES = (Issue("row", "columns", "expected 9 columns, got 3"), Issue("externalReference", "bad_reference", "nothing"))


def rows(contents: str, *, more: int = 0, now: int = 10) -> UnreadableRows:
    """A row for each letter, and ``more`` that are only counted."""
    found = [UnreadableRow(f"feed.csv:{line}", letter.encode(), "", ISSUES) for line, letter in enumerate(contents, 2)]
    return UnreadableRows(len(found) + more, rejects_of(found, run="r", now=now))


def brief(found: UnreadableRows) -> tuple[str, int]:
    return "".join(bytes.fromhex(reject.content).decode() for reject in found.rejects), found.count


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        (rows(""), rows("ab"), 2),
        (rows("ab"), rows("ba"), 0),
        (rows("ab"), rows("b"), 0),
        (rows("a"), rows("aa"), 1),
        (rows("aa"), rows("a"), 0),
        (rows("ab", more=3), rows("ab", more=5), 2),
        (rows("ab", more=3), rows("ab", more=1), 0),
        (rows("ab", more=3), rows("cb", more=4), 2),
    ],
)
def test_a_row_is_new_once(before: UnreadableRows, now: UnreadableRows, new: int) -> None:
    assert merged(before, now, complete=True) == (now, new)


def test_it_keeps_when_it_was_first_seen() -> None:
    after, _ = merged(rows("ab", now=10), rows("bc", now=20), complete=True)
    assert [(reject.first_seen, reject.last_seen) for reject in after.rejects] == [(10, 20), (20, 20)]


def test_a_read_that_proves_nothing_ends_no_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    after, new = merged(rows("abc"), rows("cd"), complete=False)
    assert (brief(after), new) == (("cdab", 4), 1)
    monkeypatch.setattr(unreadable, "MOST_NAMED", 3)
    after, _ = merged(rows("abc"), rows("cd"), complete=False)
    assert brief(after) == ("cda", 4)


def test_the_reject_has_all_reasons() -> None:
    (reject,) = rows("a").rejects
    assert (reject.where, reject.code, reject.fields) == ("feed.csv:2", "columns", ["row", "externalReference"])
    assert reject.message == "row: expected 9 columns, got 3; externalReference: nothing"
    assert (reject.unreadable, reject.attempts) == (True, 0)
