"""Executes one part of a run, from claim to close.

The order is: permit, claim, execute, close. A part that must wait releases its claim and raises `RetryLater`. A part
whose tries are used up is closed as failed with its reason, and the run continues where that is safe.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from okasie_tasks.errors import (
    ConfigurationError,
    ItemRejected,
    NoPermit,
    RetryLater,
    RunAborted,
    SourceError,
    Unauthorized,
)
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Call
from okasie_tasks.store.known_rows import KnownPage
from okasie_tasks.store.parts import Done, Records
from okasie_tasks.sync import compare, confirm, control_totals, fetch, finish, halving, load, phases, spool, writes
from okasie_tasks.sync.context import ATTEMPTS, AccountContext, Part
from okasie_tasks.sync.reading import first_block, read_source, reading_part
from okasie_tasks.telemetry import tracing

if TYPE_CHECKING:
    from okasie_tasks.store.records import Claim

log = get_logger(__name__)

Job = Callable[[AccountContext, Part, "Claim", Any], object]
Report = Callable[[str], object]
"""Receives one line about the result of a part; for a failed part, the reason."""

_NEEDS_PERMIT: Final = frozenset({"first", "walk", "upsert", "sell", "count"})

Effect = Literal["closed", "quiet", "last", "nothing", "stopped"]
"""What a call did. "closed": closed the part; "quiet": closed it, nothing to publish next; "last": closed the last part
of the stage; "nothing": there was nothing to do; "stopped": the run has ended."""


def perform(ctx: AccountContext, part: Part, *, rng: Random, report: Report = str) -> Effect:
    """Execute one part, and ``report`` its result.

    Raises `RetryLater`, with the seconds, when the part must be retried: its claim has been released. Errors of the
    Redis client while Redis is unreachable pass through: call again with the same part.
    """

    def execute() -> Effect:
        with ctx.market.permit(ticket=part.ticket) if part.stage in _NEEDS_PERMIT else nullcontext() as call:
            claim = ctx.runs.parts.claim(*part, work=phases.WORK_OF.get(part.stage, ""))
            return _execute(ctx, part, claim, call, rng=rng, report=report)

    if part.stage in _NEEDS_PERMIT and not ctx.runs.parts.is_open(*part):
        # The message is late, or a copy. A permit would be taken from another part.
        return "nothing"
    return _stopping_run(ctx, part, report, execute)


def perform_next(
    ctx: AccountContext,
    part: Part,
    take: Callable[[], tuple[int, Claim]],
    *,
    wait: bool,
    rng: Random,
    report: Report = str,
) -> Effect:
    """Execute the part that ``take`` claims once there is a permit. Returns "nothing" when it claims none.

    ``part``: run, stage and token of the worker. ``wait``: wait up to half a second for the permit. The permit comes
    first, so that no claimed part waits for one. Raises like `perform`.
    """

    def execute() -> Effect:
        ticket = f"{part.run}:{part.stage}:{part.token}"
        with ctx.market.permit(ticket=ticket, wait=wait, keep_place=False) as call:
            number, claim = take()
            return _execute(ctx, part._replace(number=number), claim, call, rng=rng, report=report)

    return _stopping_run(ctx, part, report, execute)


def _stopping_run(ctx: AccountContext, part: Part, report: Report, execute: Callable[[], Effect]) -> Effect:
    """Call ``execute``; end the run if it raises an error that affects every part."""
    try:
        return execute()
    except NoPermit:
        # The message exists and is only waiting, so the watchdog need not publish the run's parts again.
        if ctx.runs.state(part.run) == "running":
            ctx.runs.note(part.run, progress_ms=ctx.runs.now_ms())
        raise
    except (RunAborted, ConfigurationError) as stop:
        log.error("run stops", **_facts(ctx, part), code=stop.code, reason=str(stop))  # noqa: TRY400 - no defect
        if isinstance(stop, Unauthorized):
            ctx.runs.note_refused_key(ctx.policy.account, str(stop))
        finish.stop(ctx, part.run, stop.code, stop.message, stop.where or "")
        report(f"the run stops: {stop}")
        return "stopped"


def _execute(
    ctx: AccountContext, part: Part, claim: Claim, call: Call | None, *, rng: Random, report: Report
) -> Effect:
    if claim.state == "cancelled" and finish.cancelled(ctx, part.run):
        return "stopped"
    if claim.state != "claimed":
        # Also for a paused account: the message is gone, and `watchdog.open_again` publishes the part on resume.
        return "nothing"
    run = claim.record
    about = {"okasie.account": run.account, "okasie.run": run.id, "okasie.part": part.number}
    try:
        with tracing.span(f"part {part.stage}", about):
            result = _JOBS[part.stage](ctx, part, claim, call)
    except NoPermit:
        ctx.runs.parts.release(part.run, part.stage, part.number, part.token, counted=False)
        raise
    except RetryLater as later:
        ctx.runs.count(part.run, "retried" if later.counted else "rate_limited")
        return _retry_or_fail(ctx, part, later, claim.attempts, rng, report=report)
    except (RunAborted, ConfigurationError):
        raise
    except ItemRejected as refused:
        # The marketplace refused the whole request, and would refuse it again.
        finish.note_error(ctx, part.run, refused.code, refused.message, refused.where or "")
        fields = {"code": refused.code, "reason": str(refused), "request_id": refused.request_id}
        log.error("part refused", **_facts(ctx, part), **fields)  # noqa: TRY400 - no defect
        report(f"failed: {refused}")
        return _close(ctx, part, {}, failed=True)
    except Exception as error:
        if ctx.runs.is_away(error):
            # Redis is unreachable. The part stays claimed, and the same delivery continues with the same attempt.
            raise
        # A bug must neither end a run without an error nor be retried without limit.
        log.exception("unexpected error in part", **_facts(ctx, part))
        broken = RetryLater(f"{type(error).__name__} in {part.stage} part {part.number}", seconds=1, code="internal")
        return _retry_or_fail(ctx, part, broken, claim.attempts, rng, report=report)
    done, records = result if isinstance(result, Done) else (result, None)
    report(_summary(done))
    return _close(ctx, part, done, records=records)


def _facts(ctx: AccountContext, part: Part) -> dict[str, str]:
    return {"account": ctx.policy.account, "run": part.run, "part": f"{part.stage} {part.number}"}


def _close(
    ctx: AccountContext, part: Part, result: object, *, failed: bool = False, records: Records | None = None
) -> Effect:
    when_open = None if part.stage in phases.APPLY else phases.WINDOWS[part.stage][1]
    # Chunks are large. The work of a sell is kept until the run ends.
    work = phases.WORK_OF["upsert"] if part.stage == "upsert" else ""
    closed = ctx.runs.parts.close(*part, result, failed=failed, when_open=when_open, records=records, work=work)
    return _EFFECTS[closed]


def _summary(result: object) -> str:
    """Format the result of a part for people: its counts other than 0."""
    counts = result if isinstance(result, dict) else getattr(result, "counts", {})
    numbers = (
        f"{count} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count and type(count) is int and name != "ended"
    )
    return ", ".join(numbers) or "done"


def _retry_or_fail(
    ctx: AccountContext, part: Part, later: RetryLater, attempts: int, rng: Random, *, report: Report
) -> Effect:
    ended = _ends_after(ctx, part, later, attempts)
    if ended is not None:
        result, failed = ended
        if failed:
            finish.note_error(ctx, part.run, later.code, later.message, later.where or "")
            log.error("part failed", **_facts(ctx, part), code=later.code, reason=str(later), attempts=attempts)
        report(f"failed after {attempts} tries: {later}" if failed else _summary(result))
        return _close(ctx, part, result, failed=failed)
    ctx.runs.parts.release(part.run, part.stage, part.number, part.token, counted=later.counted)
    if later.counted:
        log.warning("part is tried again", **_facts(ctx, part), code=later.code, reason=str(later), attempts=attempts)
        # Waits of about 2 and 4 s (API docs, guides/incremental-sync), with jitter so that parts do not retry together.
        later.seconds = max(later.seconds, 2.0**attempts * rng.uniform(0.8, 1.2))
    raise later


def _ends_after(ctx: AccountContext, part: Part, later: RetryLater, attempts: int) -> halving.Ended | None:
    """Return how the part ends after this failure; None: it is tried again."""
    if not later.counted:
        return None
    if part.stage == "upsert":
        return halving.after_failure(ctx, part, later, attempts=attempts)
    if attempts < ATTEMPTS:
        return None
    if part.stage == "sell":
        writes.failed_sell(ctx, part, later)
    return {}, True


_EFFECTS: Final[dict[int, Effect]] = {0: "nothing", 1: "closed", 2: "quiet", 3: "last"}


# -- the kinds of parts --------------------------------------------------------------------------------------------


def _first(ctx: AccountContext, part: Part, claim: Claim, call: Call) -> object:
    _same_market(ctx)
    run = claim.record
    cursor = run.facts.get("cursor_from", "")
    whole = run.mode == "full" or not cursor
    account = ctx.runs.account(run.account)
    # A cursor without this field: an older release wrote the ledger, and has compared everything.
    take_over = account.take_over or ("decided" if account.cursor else "open")
    since = None if whole else fetch.updated_since(cursor, ctx.policy.overlap_seconds)
    page = call.list_page(1, updated_since=since)
    partitions = fetch.partitions_of(page, full=whole, rows_before=run.fact("rows_before"))
    ctx.ledger.known.check(ctx.ledger.count)
    ctx.runs.note(
        part.run,
        pages=phases.pages_of(page),
        total_items=page.total_items,
        partitions=partitions,
        walked_all=int(whole),
        since=since.isoformat() if since else "",
        cursor_next=fetch.next_cursor(page, datetime.fromtimestamp(ctx.runs.now(), UTC)),
        taking_over=int(whole and take_over == "open"),
        provider=account.provider,
        partner_source=page.partner_source,
        **({"profiles": json.dumps(sorted(page.profile_ids))} if page.profile_ids else {}),
    )
    run = ctx.runs.get(part.run) or run
    return fetch.sort_page(
        ctx,
        run,
        page,
        read_number=fetch.FIRST_READ,
        partitions=partitions,
        provider=account.provider,
        known=KnownPage(),
    )


def _same_market(ctx: AccountContext) -> None:
    """Refuse a ledger of another marketplace: after a change of ``base_url``, a run would sell the wrong cars."""
    bound = ctx.runs.bind(ctx.policy.account, ctx.policy.market)
    if bound != ctx.policy.market:
        raise ConfigurationError(
            f"the ledger in Redis is of {bound}, and base_url is now {ctx.policy.market}: set another"
            " redis.key_prefix (or redis.state_dir), or give the account another name",
            where=f"accounts.{ctx.policy.account}.base_url",
        )


def _walk(ctx: AccountContext, part: Part, claim: Claim, call: Call) -> object:
    run = claim.record
    since = run.facts.get("since", "")
    moment = datetime.fromisoformat(since).astimezone(UTC) if since else None
    number, provider = fetch.page_of(run, part.number), run.facts.get("provider", "")
    known = KnownPage()
    if run.fact("walked_all"):
        known = ctx.ledger.known.page(number, provider=provider, run=run.id)
    try:
        page = call.list_page(number, updated_since=moment, known=known.rows)
    except ItemRejected:
        if not run.fact("read_on"):
            raise
        return {"rows": 0, "total": run.fact("total_items")}  # there is no page past the end
    if not page.count and not page.unreadable:
        fetch.end_walk(ctx, run, number)
    return fetch.sort_page(
        ctx, run, page, read_number=part.number + 1, partitions=run.fact("partitions", 1), provider=provider,
        known=known,
    )  # fmt: skip


def _load(ctx: AccountContext, part: Part, claim: Claim, _: None) -> object:
    run = claim.record
    try:
        if part.number == reading_part(run):
            return read_source(ctx, part, run)
        return load.load_block(ctx, part, run, partitions=run.fact("partitions", 1))
    except OSError as error:
        # A full disk is no fault of the source: what is downloaded is stored in the state directory first.
        verb = "stored" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else "read"
        reason = error.strerror or type(error).__name__
        raise SourceError(f"cannot be {verb}: {reason}", where=str(error.filename or "source")) from error


def _diff(ctx: AccountContext, part: Part, claim: Claim, _: None) -> object:
    run = claim.record
    evidence = phases.evidence_of(ctx, run)
    partitions, first = run.fact("partitions", 1), first_block(run)
    return compare.diff_chunk(
        ctx,
        part,
        evidence,
        partitions=partitions,
        plan_only=run.plan_only,
        load_first=first,
        number=run.fact("number"),
    )


def _spool(ctx: AccountContext, part: Part, claim: Claim, _: None) -> object:
    run = claim.record
    blocks = phases.blocks_of(run)
    return spool.spool(ctx, part, run, block=blocks[part.number], last=part.number == len(blocks) - 1)


def _upsert(ctx: AccountContext, part: Part, claim: Claim, call: Call) -> object:
    return writes.upsert_chunk(ctx, part, claim.work, call)


def _confirm(ctx: AccountContext, part: Part, claim: Claim, _: None) -> object:
    return confirm.confirm_sells(ctx, part, claim.record)


def _sell(ctx: AccountContext, part: Part, claim: Claim, call: Call) -> object:
    try:
        return writes.mark_sold(ctx, part, claim, call)
    except ItemRejected as refused:
        # A listing that cannot be sold becomes a reject; the run does not fail.
        return writes.refused_sell(ctx, part, refused)


def _count(ctx: AccountContext, part: Part, _: Claim, call: Call) -> object:
    return control_totals.count_listings(ctx, part, call)


_JOBS: Final[dict[str, Job]] = {
    "first": _first,
    "walk": _walk,
    "load": _load,
    "diff": _diff,
    "spool": _spool,
    "upsert": _upsert,
    "confirm": _confirm,
    "sell": _sell,
    "count": _count,
}
