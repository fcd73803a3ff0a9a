"""Offers: edits of the marketplace that stand are offered to the source, before the ledger takes them for known."""

from __future__ import annotations

from collections.abc import Sequence

from okasie_tasks.core.fingerprint import COMPARED_FIELDS, decode_compared
from okasie_tasks.core.records import Local, Remote
from okasie_tasks.errors import FixConfiguration, SourceError
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Offer
from okasie_tasks.sync.tools import Tools

log = get_logger(__name__)


def offer_of(local: Local, remote: Remote, fields: Sequence[str], *, run: str, at_ms: int) -> Offer | None:
    """Both versions of the fields that differ; None where the values did not travel, or only the dealer differs."""
    if local.form is None or remote.form is None:
        return None
    ours, theirs = decode_compared(local.form), decode_compared(remote.form)
    places = [(name, COMPARED_FIELDS.index(name)) for name in fields if name in COMPARED_FIELDS]
    changes = tuple((name, ours[place], theirs[place]) for name, place in places)
    return Offer(reference=local.reference, run=run, at_ms=at_ms, changes=changes) if changes else None


def give(tools: Tools, offers: Sequence[Offer]) -> bool:
    """Offer these; False when the source could not be reached. A run does not fail for it: they are offered again."""
    if not offers:
        return True
    try:
        way_back = tools.write_back()
        if way_back is not None:
            taken = way_back.write_back(offers)
            log.info("edits offered to the source", account=tools.rules.account, offered=len(offers), taken=taken)
    except (SourceError, FixConfiguration) as error:
        told = "edits of the marketplace could not be offered to the source"
        log.error(told, account=tools.rules.account, reason=str(error))  # noqa: TRY400 - a condition, not a defect
        return False
    return True
