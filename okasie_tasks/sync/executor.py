"""Work: one part of a run from claim to close, whatever kind it is.

The order is: permit, claim, do, close. A part that must wait gives its claim back and asks its caller to come again;
a part whose tries are used up is closed as failed with its reason, and the run goes on where it safely can.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from okasie_tasks.errors import ConfigurationError, ItemRejected, NoPermit, RetryLater, RunAborted, SourceError
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Call
from okasie_tasks.sync import compare, control_totals, fetch, finish, load, phases, spool, writes
from okasie_tasks.sync.context import ATTEMPTS, AccountContext, Part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Claim, Run

log = get_logger(__name__)

Job = Callable[[AccountContext, Part, "Run", Any], object]
Tell = Callable[[str], object]
"""Gets a line about what became of a part, the reason first where it failed."""

_NEEDS_PERMIT: Final = frozenset({"first", "walk", "upsert", "sell", "count"})


Effect = Literal["closed", "quiet", "last", "nothing", "stopped"]
"""What a call did: closed its part (quiet: with nothing to publish after it; last: of its stage), found nothing to do,
or ended the run."""


def perform(ctx: AccountContext, part: Part, *, rng: Random, tell: Tell = str) -> Effect:
    """Do one part, and ``tell`` what became of it.

    Raises `RetryLater` when the part is to be tried again after some seconds: the claim has been given back. What the
    store's client raises while the store is away passes through: call again with the same part.
    """

    def do() -> Effect:
        with ctx.market.permit(ticket=part.ticket) if part.stage in _NEEDS_PERMIT else nullcontext() as call:
            claim = ctx.runs.parts.claim(part.run, part.stage, part.number, part.token)
            return _claimed(ctx, part, claim, call, rng=rng, tell=tell)

    return _or_stopped(ctx, part, tell, do) if ctx.runs.state(part.run) == "running" else "nothing"


def perform_next(
    ctx: AccountContext,
    part: Part,
    take: Callable[[], tuple[int, Claim]],
    *,
    wait: bool,
    rng: Random,
    tell: Tell = str,
) -> Effect:
    """Do the part that ``take`` claims once there is a permit for it: "nothing" when it claims none.

    ``part``: run, stage and token of whoever does it. ``wait``: half a second for the permit, which is asked for
    first, so that no part waits in the hands of somebody who has none. Raises like `perform`.
    """

    def do() -> Effect:
        ticket = f"{part.run}:{part.stage}:{part.token}"
        with ctx.market.permit(ticket=ticket, wait=wait, keep_place=False) as call:
            number, claim = take()
            return _claimed(ctx, part._replace(number=number), claim, call, rng=rng, tell=tell)

    return _or_stopped(ctx, part, tell, do)


def _or_stopped(ctx: AccountContext, part: Part, tell: Tell, do: Callable[[], Effect]) -> Effect:
    try:
        return do()
    except NoPermit:
        # Its message is alive, if only waiting: the watchdog need not publish the run's parts again.
        if ctx.runs.state(part.run) == "running":
            ctx.runs.note(part.run, progress_ms=ctx.runs.now_ms())
        raise
    except (RunAborted, ConfigurationError) as stop:
        log.error("run stops", **_facts(ctx, part), code=stop.code, reason=str(stop))  # noqa: TRY400 - no defect
        finish.stop(ctx, part.run, stop.code, stop.message, stop.where or "")
        tell(f"the run stops: {stop}")
        return "stopped"


def _claimed(ctx: AccountContext, part: Part, claim: Claim, call: Call | None, *, rng: Random, tell: Tell) -> Effect:
    if claim.state == "cancelled" and finish.cancelled(ctx, part.run):
        return "stopped"
    if claim.state != "claimed":
        # Of a paused account too: its message is spent, and `watchdog.open_again` publishes the part when it goes on.
        return "nothing"
    run = ctx.runs.get(part.run)
    assert run is not None  # noqa: S101 - it was claimed a moment ago
    try:
        result = _JOBS[part.stage](ctx, part, run, call)
    except NoPermit:
        ctx.runs.parts.release(part.run, part.stage, part.number, part.token, counted=False)
        raise
    except RetryLater as later:
        ctx.runs.count(part.run, "retried" if later.counted else "rate_limited")
        return _later(ctx, part, later, claim.attempts, rng, tell=tell)
    except (RunAborted, ConfigurationError):
        raise
    except ItemRejected as refused:
        # The marketplace refuses the request itself: the same request would be refused again.
        finish.note_error(ctx, part.run, refused.code, refused.message, refused.where or "")
        told = {"code": refused.code, "reason": str(refused), "request_id": refused.request_id}
        log.error("part refused", **_facts(ctx, part), **told)  # noqa: TRY400 - no defect
        tell(f"failed: {refused}")
        return _close(ctx, part, {}, failed=True)
    except Exception as error:
        if ctx.runs.is_away(error):
            # It says nothing of the part, which stays claimed: the same delivery goes on with the same attempt.
            raise
        # A defect of ours must not end a run without a word, nor be tried for ever.
        log.exception("a defect in a part", **_facts(ctx, part))
        broken = RetryLater(f"{type(error).__name__} in {part.stage} part {part.number}", seconds=1, code="internal")
        return _later(ctx, part, broken, claim.attempts, rng, tell=tell)
    tell(_words(result))
    return _close(ctx, part, result)


def _facts(ctx: AccountContext, part: Part) -> dict[str, str]:
    return {"account": ctx.policy.account, "run": part.run, "part": f"{part.stage} {part.number}"}


def _close(ctx: AccountContext, part: Part, result: object, *, failed: bool = False) -> Effect:
    when_open = None if part.stage in phases.APPLY else phases.WINDOWS[part.stage][1]
    closed = ctx.runs.parts.close(
        part.run, part.stage, part.number, part.token, result, failed=failed, when_open=when_open
    )
    if closed and part.stage == "upsert":
        writes.sent(ctx, part)
    return _EFFECTS[closed]


def _words(result: object) -> str:
    """A part's small result for people: its counts that are not 0."""
    counts = result if isinstance(result, dict) else getattr(result, "counts", {})
    numbers = (
        f"{count} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and type(count) is int and name != "ended"
    )
    return ", ".join(numbers) or "done"


def _later(ctx: AccountContext, part: Part, later: RetryLater, attempts: int, rng: Random, *, tell: Tell) -> Effect:
    if later.counted and attempts >= ATTEMPTS:
        finish.note_error(ctx, part.run, later.code, later.message, later.where or "")
        log.error("part failed", **_facts(ctx, part), code=later.code, reason=str(later), attempts=attempts)
        tell(f"failed after {attempts} tries: {later}")
        return _close(ctx, part, {}, failed=True)
    ctx.runs.parts.release(part.run, part.stage, part.number, part.token, counted=later.counted)
    if later.counted:
        log.warning("part is tried again", **_facts(ctx, part), code=later.code, reason=str(later), attempts=attempts)
        # Waits of about 2 and 4 s (API docs, guides/incremental-sync), with jitter so that parts do not march.
        later.seconds = max(later.seconds, 2.0**attempts * rng.uniform(0.8, 1.2))
    raise later


_EFFECTS: Final[dict[int, Effect]] = {0: "nothing", 1: "closed", 2: "quiet", 3: "last"}


# -- the kinds of parts --------------------------------------------------------------------------------------------


def _first(ctx: AccountContext, part: Part, run: Run, call: Call) -> object:
    _same_market(ctx)
    cursor = run.facts.get("cursor_from", "")
    whole = run.mode == "full" or not cursor
    account = ctx.runs.account(run.account)
    # With a cursor but without the word, the ledger is from a release before it: it has met everything.
    take_over = account.take_over or ("decided" if account.cursor else "open")
    since = None if whole else fetch.updated_since(cursor, ctx.policy.overlap_seconds)
    page = call.list_page(1, updated_since=since)
    partitions = fetch.partitions_of(page, full=whole, rows_before=run.fact("rows_before"))
    ctx.runs.note(
        part.run,
        pages=phases.pages_of(page.total_items, page.total_pages),
        total_items=page.total_items,
        partitions=partitions,
        walked_all=int(whole),
        since=since.isoformat() if since else "",
        cursor_next=fetch.next_cursor(page),
        taking_over=int(whole and take_over == "open"),
        provider=account.provider,
        partner_source=page.partner_source,
        **({"profiles": json.dumps(sorted(page.profile_ids))} if page.profile_ids else {}),
    )
    return fetch.write_page(
        ctx, part.run, page, place=fetch.FIRST_PAGE_PLACE, partitions=partitions, provider=account.provider
    )


def _same_market(ctx: AccountContext) -> None:
    """What one marketplace holds says nothing of another: a changed base_url would sell and keep the wrong cars."""
    bound = ctx.runs.bind(ctx.policy.account, ctx.policy.market)
    if bound != ctx.policy.market:
        raise ConfigurationError(
            f"the ledger in Redis is of {bound}, and base_url is now {ctx.policy.market}: set another"
            " redis.key_prefix (or redis.state_dir), or give the account another name",
            where=f"accounts.{ctx.policy.account}.base_url",
        )


def _walk(ctx: AccountContext, part: Part, run: Run, call: Call) -> object:
    since = run.facts.get("since", "")
    moment = datetime.fromisoformat(since).astimezone(UTC) if since else None
    page = call.list_page(fetch.page_of(run, part.number), updated_since=moment)
    partitions, provider = run.fact("partitions", 1), run.facts.get("provider", "")
    return fetch.write_page(ctx, part.run, page, place=part.number + 1, partitions=partitions, provider=provider)


def _load(ctx: AccountContext, part: Part, run: Run, _: None) -> object:
    try:
        return load.load_slice(ctx, part, partitions=run.fact("partitions", 1))
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or type(error).__name__}", where="source") from error


def _diff(ctx: AccountContext, part: Part, run: Run, _: None) -> object:
    evidence = phases.evidence_of(ctx, run)
    return compare.diff_chunk(ctx, part, evidence, partitions=run.fact("partitions", 1), plan_only=run.plan_only)


def _spool(ctx: AccountContext, part: Part, run: Run, _: None) -> object:
    places = phases.slices_of(run)
    return spool.spool(ctx, part, run, place=places[part.number], last=part.number == len(places) - 1)


def _upsert(ctx: AccountContext, part: Part, _: Run, call: Call) -> object:
    return writes.upsert_chunk(ctx, part, call)


def _sell(ctx: AccountContext, part: Part, run: Run, call: Call) -> object:
    try:
        return writes.mark_sold(ctx, part, run, call)
    except ItemRejected as refused:
        # One listing that cannot be sold is a reject, not a failed run.
        return writes.refused_sell(ctx, part, refused)


def _count(ctx: AccountContext, part: Part, _: Run, call: Call) -> object:
    return control_totals.count_listings(ctx, part, call)


_JOBS: Final[dict[str, Job]] = {
    "first": _first,
    "walk": _walk,
    "load": _load,
    "diff": _diff,
    "spool": _spool,
    "upsert": _upsert,
    "sell": _sell,
    "count": _count,
}
