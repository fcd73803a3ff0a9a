"""Whether a write was right, and whether what stands stands rightly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tests.sync.fake_marketplace import Row, Write
from tests.sync.model_cars import Car, Running, Stamp
from tests.sync.stock import INVALID, SOLD, Reading, key_of

if TYPE_CHECKING:
    from tests.sync.model import Model

_EDITS: Final = frozenset({"price", "title", "mileage", "features", "dealer"})
"""Edits of a value that is compared, which no rendering looks like."""

# -- was this write right? -----------------------------------------------------------------------------------------


def judge_run(model: Model, car: Car, write: Write) -> list[str]:
    """Complaints about a write of a run."""
    run = model.ctx.running()
    planned = run.plan.get(write.reference)
    if write.body is None:
        return [*_sell_by_run(model, car, write, run), *(["not planned"] if planned != "sell" else [])]
    return _upsert_by_run(model, car, write, run, planned)


def _upsert_by_run(model: Model, car: Car, write: Write, run: Running, planned: str | None) -> list[str]:
    content, before = key_of(write.body or {}), write.before
    stamp = Stamp(model.loads[-1].versions.get(write.reference, 0), run.source_began_ms) if model.loads else Stamp()
    revives = (
        (write.body or {})["status"] != SOLD
        and before is not None
        and not before.live
        and car.seller == "someone"
        and not car.appeared
        and car.sold_ms < run.began_ms
    )
    unchanged = car.known is False or (car.known is True and car.taught == {content} and car.in_source is True)
    late = car.last is not None and car.sure and content != car.last.content and stamp.older(car.last.stamp)
    return [complaint for complaint, holds in {
        "not planned": planned not in ("create", "update"),
        "the source did not say so": content not in {load.says.get(write.reference) for load in model.loads},
        "sold by upsert": (write.body or {})["status"] == SOLD,
        "sold by hand while its row stands": car.by_hand is True,
        "sold by someone and not changed here": revives and unchanged,
        "an older version overwrites a newer one": late,
        "their edit stands by the policy": _theirs_stands(model, car, write, run, unchanged=unchanged),
        # Reads do not tell which images stand there.
        "needless": model.calm and car.sure and before is not None and before.body == write.body and not car.images_edited,
    }.items() if holds]  # fmt: skip


def _theirs_stands(model: Model, car: Car, write: Write, run: Running, *, unchanged: bool) -> bool:
    """This run is the first to read the edit of a listing whose last write was read back before."""
    if model.policy == "local" or (model.policy == "newest" and not unchanged) or model.odd_rendering:
        return False
    ours = car.known is True and car.sure and not car.echo_due and car.last is not None and car.last.content
    if not ours or car.revived or car.seller or car.by_hand is not False or car.refused is not None:
        return False
    read = car.edit in _EDITS and car.edit_run == run.id and car.edit_ms < run.began_ms
    return read and write.before is not None and write.before.live and not _same(write.before.body, ours)


def _sell_by_run(model: Model, car: Car, write: Write, run: Running) -> list[str]:
    if not model.loads:
        return ["the source was not read"]
    reading = model.loads[-1]
    says = reading.says.get(write.reference)
    waits = model.ctx.waiting(write.reference)
    pushed = bool(car.last and car.urgent and car.last.content and car.last.stamp.seen_ms > run.source_began_ms)
    return [complaint for complaint, holds in {
        "its row stands": says is not None and not (car.revived and car.by_hand is not False) and (says == INVALID or f'"status": "{SOLD}"' not in says),
        "the read was not complete": says is None and not reading.complete,
        "missing too seldom": says is None and not car.revived and car.missed < model.missing_reads,
        "it was not in the source before": says is None and car.in_source is False and not car.revived,
        "not ours": car.known is False,
        "pushed after the source was read": pushed or (waits is not None and waits.seen_ms > run.source_began_ms),
        "it was sold already": model.calm and car.sure and write.before is not None and not write.before.live,
    }.items() if holds]  # fmt: skip


def judge_push(car: Car, write: Write) -> list[str]:
    """Complaints about a write of the urgent lane."""
    content = None if write.body is None else key_of(write.body)
    stamps = [said.stamp for said in car.said if said.content == content]
    if not stamps:
        return ["nobody pushed that"]
    newer_push = car.urgent or content is not None
    if car.last and car.sure and newer_push and all(stamp.older(car.last.stamp) for stamp in stamps):
        return ["an older version overwrites a newer one"]
    return []


# -- does it stand rightly? ----------------------------------------------------------------------------------------


def stands_wrongly(model: Model, car: Car, reference: str, reading: Reading, row: Row | None) -> str:
    """After a clean run: what is wrong with what stands at the marketplace, or ""."""
    says = reading.says.get(reference)
    live = row is not None and row.live
    if says in (INVALID, car.refused) and says is not None:
        return ""
    if _listed_again(car, row, says):
        return ""
    if says is None or f'"status": "{SOLD}"' in says:
        overdue = says is not None or (reading.complete and car.missed >= model.missing_reads)
        ours = car.known is True and (says is not None or car.in_source is True)
        stands = says is not None and _pushed_stands(model, car, reference, says, reading)
        return "gone, and not sold" if live and ours and overdue and not stands else ""
    if row is None:
        return "" if car.by_hand is not False else "in the source, and not listed"
    if not live:
        by_someone = car.seller == "someone" and (says in car.taught or not car.row_known or car.known is not True)
        return "" if car.by_hand is not False or by_someone else "in the source, and sold"
    if _same(row.body, says) or _explained(model, car, reference, says, reading):
        return ""
    return "it is not what the source says"


def _pushed_stands(model: Model, car: Car, reference: str, says: str, reading: Reading) -> bool:
    """What was pushed stands while its row does not change, or is older."""
    stamp = Stamp(reading.versions.get(reference, 0), model.ctx.running().source_began_ms)
    return car.last is not None and ((car.last.given and says in car.taught) or stamp.older(car.last.stamp))


def _explained(model: Model, car: Car, reference: str, says: str, reading: Reading) -> bool:
    unchanged, own = says in car.taught, reading.versions.get(reference, 0)
    if _pushed_stands(model, car, reference, says, reading):
        return True
    if model.policy == "local":
        return bool(car.edit) and car.edit_excused
    if model.policy == "newest" and own and not unchanged and car.edit:
        return own < car.edit_ms + 1000
    return bool(car.edit) and (unchanged or not car.edit_seen)


def _same(body: Mapping[str, Any], says: str) -> bool:
    """Equal but for what reads do not tell (images), and within the tolerance for power."""
    mine = json.loads(says)
    return all(
        body.get(name) == value
        or name == "images"
        or (name == "powerKw" and abs(body[name] - value) <= 0.75)
        or (name == "features" and sorted(map(str, body[name])) == sorted(map(str, value)))
        for name, value in mine.items()
    )


def _listed_again(car: Car, row: Row | None, says: str | None) -> bool:
    """A sold car that somebody there lists again: sold again once, then told as a conflict, and under ``remote`` and
    ``newest`` left to them. What stands may be either."""
    live = row is not None and row.live
    gone = says is None or f'"status": "{SOLD}"' in says
    return live and (car.by_hand is not False or (gone and car.revived))
