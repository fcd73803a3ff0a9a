"""Sentences of the documents in the words of the console, so that they can be translated.

The documents speak to operators with a terminal: they name commands and settings. A sentence that is missing here is
shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from okasie_tasks.web.console.languages import _
from okasie_tasks.web.console.words import FIELDS

SENTENCES: Final = {
    # What happens next to a listing.
    "it is held: `okasie approve {run}` sends it": _("Its change waits for approval."),
    "the source lacks it, but its sell waits: {why}": _("The source no longer has it, but it stays online: %(why)s"),
    "a {kind} waits because the account is paused; `okasie resume {account}` resumes it": _(
        "It waits to be sent, because the account is paused."
    ),
    "a {kind} waits and is sent{again} as soon as a permit is available": _(
        "It is sent as soon as the quota allows it."
    ),
    "the next run decides": _("The next sync decides."),
    "unknown reference; a run that finds it decides": _("No car with this reference is known."),
    "its row has no readable reference: until it is fixed or removed, no listing that disappears is sold": _(
        "Its row has no readable reference. Until it is fixed or removed, no car that disappears is marked as sold."
    ),
    "its row is invalid and it was never sent: it is sent once the row is fixed": _(
        "Its row in the source is invalid, and it was never sent. It is sent once the row is fixed."
    ),
    "its row is invalid: nothing is sent until the row is fixed; the marketplace keeps its version": _(
        "Its row in the source is invalid. Fix the row; until then the marketplace keeps what it has."
    ),
    "it was refused and released for a retry: the next run sends it": _("The next sync tries it again."),
    "it is rejected: nothing is sent until its content changes, or {command}": _(
        "The marketplace refused it. It is sent again when its row changes, or when you retry it."
    ),
    "sold manually: stays sold while its row is in the source; push it to list it again": _(
        "It was marked as sold here. It stays sold while its row is in the source; send it to put it online again."
    ),
    "sold on the marketplace: stays sold until its row changes or it is pushed": _(
        "It was marked as sold on the marketplace. It stays sold until its row changes or you send it."
    ),
    "sold: nothing is sent unless its row reappears or it is pushed": _(
        "It is sold. It comes back online if its row reappears in the source or you send it."
    ),
    "the marketplace keeps a price, status or mileage that differs from ours: an operator must check it there": _(
        "The marketplace keeps a price, status or mileage that differs from the source. Check it there."
    ),
    "the pushed content stays until its row changes or it is pushed again": _(
        "What was sent directly stays until its row changes or it is sent again."
    ),
    "it is not in the source: it stays listed until it is pushed or sold, or its row appears": _(
        "It is not in the source. It stays online until you send it or mark it as sold, or its row appears."
    ),
    "{missed} complete reads of the source did not contain it: after {allowed} it is marked sold, if sells are allowed"
    " and not held": _("The source lacked it in %(missed)s reads. After %(allowed)s it is marked as sold."),
    "the next run reads back how the marketplace stored it; the next change of its row is sent": _(
        "All is sent. The next change of its row is sent as well."
    ),
    "nothing is sent until its row changes or it is edited on the marketplace": _(
        "All is sent. The next change of its row is sent as well."
    ),
    # Why something was done.
    "new in the source": _("new in the source"),
    "changed in the source": _("changed in the source"),
    "gone from the source": _("gone from the source"),
    "sold in the source": _("sold in the source"),
    "back in the source": _("back in the source"),
    "{outcome} by a push, {origin}": _("on request"),
    "missing on the marketplace": _("missing on the marketplace"),
    "sold on the marketplace by someone": _("sold on the marketplace by someone"),
    "on the marketplace, but different": _("on the marketplace, but different"),
    "changed on the marketplace, ours sent again": _("changed on the marketplace, ours was sent again"),
    "changed on the marketplace, theirs stands": _("changed on the marketplace, theirs stands"),
    "changed on both sides, ours sent": _("changed on both sides, ours was sent"),
    "changed on both sides, theirs stands": _("changed on both sides, theirs stands"),
    "refused by the marketplace": _("refused by the marketplace"),
    "existed before the first run, not in the source": _("online before the first sync, not in the source"),
    "the row is invalid": _("the row is invalid"),
    "images were skipped, tried again": _("pictures were missing, tried again"),
    # Why changes are held.
    "the source is empty": _("The source is empty."),
    "the source shrank from {before} to {rows} rows ({percent} %, allowed {allowed} %)": _(
        "The source had %(before)s rows and now has %(rows)s: %(percent)s %% fewer, %(allowed)s %% are allowed."
    ),
    "the key no longer reaches {lost} dealer profiles that it did: {names}": _(
        "%(lost)s dealers are no longer reached: %(names)s"
    ),
    "{sells} sells are more than max_sold_count = {allowed}": _("%(sells)s cars; %(allowed)s are allowed at once."),
    "{sells} of {live} live listings ({percent} %) are more than max_sold_percent = {allowed}": _(
        "%(sells)s of %(live)s cars, %(percent)s %%; %(allowed)s %% are allowed at once."
    ),
    "{changed} of {live} live listings changed at once ({percent} %, more than max_changed_percent = {allowed}): a"
    " mapping or a feed that changed?": _(
        "%(changed)s of %(live)s cars, %(percent)s %%; %(allowed)s %% are allowed at once. Did the feed change?"
    ),
    "{prices} by more than max_price_change_percent = {allowed}: {examples}": _("By more than %(allowed)s %%."),
    "{count} live listings existed before the first run and are not in the source": _(
        "%(count)s cars were online before the first sync, and the source does not have them."
    ),
    # What needs attention.
    "a full run compares everything before listings that the source lacks are sold": _(
        "A full sync compares every car first. It begins by itself."
    ),
    # What is wrong with a row.
    "is required{when}, but the row has none": _("The row has no value, and one is needed."),
    "expected a number{units}, got {value}": _("A number is needed, the row has %(value)s."),
    "expected a whole number, got {value}": _("A whole number is needed, the row has %(value)s."),
    "expected text, got {value}": _("A text is needed, the row has %(value)s."),
    "expected more than 0 when status is active, got 0": _("A car online needs a price above 0."),
    "expected 1 to 64 printable characters, got {value}": _(
        "A reference of 1 to 64 characters is needed, the row has %(value)s."
    ),
    "expected at least {low} and at most {high}, got {value}": _(
        "A value from %(low)s to %(high)s is needed, the row has %(value)s."
    ),
    "expected at least {low}, got {value}": _("A value of at least %(low)s is needed, the row has %(value)s."),
    "expected {choices}, got {value}": _("One of %(choices)s is needed, the row has %(value)s."),
}
"""A sentence of a document, with the parts that vary -> its text in the console."""
_COLUMN: Final = re.compile(r"column (?P<name>[^:]+): ")
_VARYING: Final = re.compile(r"\\\{(\w+)\\\}")


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(_VARYING.sub(r"(?P<\1>.*?)", re.escape(form))), text) for form, text in SENTENCES.items()]


def sentence(text: str, gettext: Callable[[str], str]) -> str:
    """Return a document's sentence in the words of the console.

    What is wrong with several fields is one sentence for each: ``price: is required; title: is required``.
    """
    parts = [part.partition(": ") for part in text.split("; ")]
    if all(field in FIELDS for field, _colon, _rest in parts):
        return "; ".join(f"{gettext(FIELDS[field])}: {_one(rest, gettext)}" for field, _colon, rest in parts)
    return _one(text, gettext)


def _one(text: str, gettext: Callable[[str], str]) -> str:
    if (column := _COLUMN.match(text)) is not None:
        return f"{gettext(_('column'))} {column['name']}: {_one(text[column.end() :], gettext)}"
    for pattern, known in _patterns():
        if found := pattern.fullmatch(text):
            return gettext(known) % found.groupdict()
    return text
