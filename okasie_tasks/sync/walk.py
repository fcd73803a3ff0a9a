"""Walk: which page a part reads, and whether the walk was complete.

Pages are numbered and their order is not documented (API docs, listings/list), so rows slip from page to page while
stock moves. A walk is complete when every page was read, its total stood still, and so many different rows were seen.
One that was not is repeated, at most twice; what all of its rounds saw counts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from okasie_tasks.core.packing import ROWS_PER_PAGE
from okasie_tasks.sync import gather
from okasie_tasks.sync.tools import Tools

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

MOST_ROUNDS: Final = 3
FIRST_PAGE_PLACE: Final = 0
"""Where the rows of the run's very first page lie; part ``n`` of the walk has place ``n + 1``."""


class Round(NamedTuple):
    """One pass over the pages: parts from ``part`` on, the first of them reads page ``page``."""

    part: int
    page: int


def rounds_of(run: Run) -> list[Round]:
    """The rounds of a run's walk so far; the first begins at page 2, since page 1 was read to count the pages."""
    return [Round(*pair) for pair in json.loads(run.facts.get("walk_rounds", "[[0, 2]]"))]


def page_of(run: Run, part: int) -> int:
    """The page that a part of the walk reads."""
    last = [turn for turn in rounds_of(run) if turn.part <= part][-1]
    return last.page + part - last.part


def is_complete(tools: Tools, run: Run) -> bool:
    """Whether the last round read every page, of a total that stood still, and all so many rows were seen."""
    pages = last_round(tools, run)
    totals: set[int] = {page.get("total", -1) for page in pages}
    if len(totals) != 1 or -1 in totals:  # a page that could not be read has no total
        return False
    (total,) = totals
    unreadable: int = sum(page.get("unreadable", 0) for page in pages)
    if len(pages) == 1:
        return bool(pages[0]["rows"] + unreadable >= total)
    seen = gather.distinct_rows(lambda: tools.runs.data.fetch(run.id, "ids", bytes), rows=total)
    return seen + unreadable >= total


def last_round(tools: Tools, run: Run) -> list[dict[str, Any]]:
    """What the pages of the last round came to."""
    rounds = rounds_of(run)
    pages: list[dict[str, Any]] = tools.runs.parts.results(run.id, "walk")[rounds[-1].part :]
    return [*tools.runs.parts.results(run.id, "first"), *pages] if len(rounds) == 1 else pages


def repeat(tools: Tools, run: Run) -> bool:
    """Begin another round over all pages; False when there were enough. The first page's phase must be over."""
    rounds = rounds_of(run)
    if len(rounds) >= MOST_ROUNDS:
        return False
    most = max((page.get("total", 0) for page in last_round(tools, run)), default=0)
    pages = max(run.fact("pages", 1), -(-most // ROWS_PER_PAGE))
    told = json.dumps([*rounds, ("{first}", 1)]).replace('"{first}"', "{first}")
    tools.runs.parts.extend(run.id, "walk", f"round:{len(rounds)}", pages, fact=("walk_rounds", told))
    return True
