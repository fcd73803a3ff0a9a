"""Images that the marketplace could not fetch: kept with their reason, retried a few times, then given up.

A success with skipped images is partial (API docs, guides/image-handling): the listing is not in sync. While the image
server is down, more retries would change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.records import SkippedImages
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.sync.context import AccountContext

WAITS_SECONDS: Final = (3_600, 6 * 3_600, 24 * 3_600)
"""The wait after each try. When the images are skipped once more, the listing is given up until its content changes."""
_KEPT: Final = 10


def due(ctx: AccountContext, base: Mapping[str, Entry], *, now: int) -> frozenset[str]:
    """Return the listings whose skipped images are due for a retry. ``now``: whole seconds, Redis time."""
    waiting = [reference for reference, entry in base.items() if entry.has(Flag.IMAGES)]
    return frozenset(name for name, images in ctx.ledger.skipped(waiting).items() if images.next_try <= now)


def record(
    ctx: AccountContext,
    accepted: Sequence[tuple[str, bytes, ItemAnswer]],
    *,
    known: Mapping[str, SkippedImages],
    now: int,
    again: bool = True,
) -> set[str]:
    """Record the skipped images of accepted listings, and return the references to retry.

    ``accepted``: reference, content fingerprint and answer. ``known``: what was skipped of these and perhaps others
    before. ``again`` False: never retry, because the content is inline and is not stored.
    """
    kept: list[SkippedImages] = []
    for reference, content, answer in accepted:
        if not answer.skipped_images:
            continue
        before = known.get(reference)
        tries = before.tries + 1 if before is not None and before.content == content.hex() else 1
        given_up = not again or tries > len(WAITS_SECONDS)
        kept.append(
            SkippedImages(
                reference=reference,
                content=content.hex(),
                images=[(image.source, image.reason) for image in answer.skipped_images[:_KEPT]],
                count=len(answer.skipped_images),
                tries=tries,
                next_try=0 if given_up else now + WAITS_SECONDS[tries - 1],
                given_up=given_up,
            )
        )
    ctx.ledger.keep_skipped(kept)
    whole = {reference for reference, _, _ in accepted}.difference(images.reference for images in kept)
    ctx.ledger.forget_skipped([reference for reference in known if reference in whole])
    return {images.reference for images in kept if not images.given_up}
