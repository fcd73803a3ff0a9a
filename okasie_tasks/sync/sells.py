"""One DELETE and the judgement of its answer, the same for runs and for the urgent lane."""

from __future__ import annotations

from typing import NamedTuple

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.errors import ItemRejected, Unavailable
from okasie_tasks.ports import Call
from okasie_tasks.sync import audit
from okasie_tasks.sync.context import AccountContext


class SellAnswer(NamedTuple):
    """The answer to a DELETE. ``status``: that of the listing afterwards; ``known``: False after a 404."""

    status: str
    request_id: str
    known: bool = True


def send_sell(ctx: AccountContext, call: Call, reference: str, entry: Entry | None, *, run: str = "") -> SellAnswer:
    """Send a DELETE. Unless the listing is known to be sold afterwards, mark its ``entry`` as in doubt.

    A reference that the marketplace does not know (404) counts as sold. Raises `ItemRejected` for any other refusal,
    and `Unavailable`.
    """
    try:
        answer = call.delete(reference)
    except ItemRejected as refused:
        if refused.status != 404:
            raise
        return SellAnswer("sold", refused.request_id or "", known=False)
    except Unavailable:
        # It may be sold all the same: its row may return before another sell is answered.
        _mark_in_doubt(ctx, reference, entry)
        raise
    status = answer.items[0].status or "sold"
    if status != "sold":
        _mark_in_doubt(ctx, reference, entry)
        audit.record_warnings(ctx, [audit.Warned(reference, theirs=f"DELETE left it {status}")], run=run)
    return SellAnswer(status, answer.request_id)


def _mark_in_doubt(ctx: AccountContext, reference: str, entry: Entry | None) -> None:
    if entry is not None:
        ctx.ledger.swap([(reference, entry, entry.replace(set_flags=Flag.SELL_IN_DOUBT))])
