"""``okasie doctor``: checks what a run needs, and shows how to fix what is wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, cast
from uuid import uuid4

import click
import msgspec
import redis

from okasie_tasks import __version__, logs
from okasie_tasks.cli.check import Check
from okasie_tasks.cli.common import Context, command_options, echo, emit
from okasie_tasks.cli.key_check import check_key
from okasie_tasks.cli.row_counts import RowCounts
from okasie_tasks.cli.sentinel_checks import check_ledger, check_replicas, check_sentinels
from okasie_tasks.core.sentinel_url import is_sentinel
from okasie_tasks.errors import ConfigurationError, ItemRejected, LimiterUnavailable, NoPermit, OkasieError, RunAborted
from okasie_tasks.local.embedded_redis import find_server
from okasie_tasks.marketplace.client import OkasieApi
from okasie_tasks.ports import Call, Feedback, Lane, Limiter, Permit, RequestLog, Wait
from okasie_tasks.settings import AccountSettings, Settings, configuration_hash, load_settings
from okasie_tasks.settings.redis_url import find_embedded
from okasie_tasks.store.connections import connect
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.workers import Workers
from okasie_tasks.telemetry import tracing

_SKEW_SECONDS: Final = 5.0
_PERMIT_SECONDS: Final = 20.0
_OLDEST: Final = (6, 2)
_NEARLY_FULL: Final = 0.9


@click.command()
@click.argument("account", required=False)
@command_options
def doctor(context: Context, account: str | None) -> None:
    """Check the configuration, Redis, API keys, scopes and sources, and show how to fix what is wrong.

    Sends three requests an account: a page, the locations, and the DELETE of a reference that does not exist.
    """
    checks = list(_checks(context, account))
    wrong = [check for check in checks if check.ok is False]
    document = {"ok": not wrong, "checks": [msgspec.to_builtins(check) for check in checks]}

    def show() -> None:
        for check in checks:
            mark = "warning" if check.warning else {True: "ok", False: "FAILED", None: "not checked"}[check.ok]
            echo(f"{mark:<12}{check.name}: {check.detail}")
            if check.fix and (check.warning or not check.ok):
                echo(f"{'':12}{'to fix: ' + check.fix}")

    emit(context, document, show)
    sys.exit(1 if wrong else 0)


def _checks(context: Context, account: str | None) -> Iterator[Check]:
    try:
        settings = load_settings(context.config)
        logs.set_up(settings.log)
        if account is not None and account not in settings.accounts:
            raise ConfigurationError(f"there is no account {account!r:.60}", where=str(settings.config_file))
    except ConfigurationError as error:
        yield Check("configuration", False, str(error), "correct the file; docs/configuration.md lists every setting")
        return
    count = len(settings.accounts)
    yield Check("configuration", True, f"{settings.config_file}, {count} account{'' if count == 1 else 's'}")
    client, redis_checks = _redis(settings)
    yield from redis_checks
    if client is not None:
        yield from _workers(settings, client)
    yield from _traces()
    for name in [account] if account else list(settings.accounts):
        yield from _account(settings, name, client)


# -- Redis ---------------------------------------------------------------------------------------------------------


def _redis(settings: Settings) -> tuple[redis.Redis | None, list[Check]]:
    url = settings.redis.url or find_embedded(settings.redis.state_dir)
    if url is None:
        try:
            server = find_server()
        except ConfigurationError as error:
            return None, [Check("redis", False, error.message, "install one of these, or set redis.url")]
        detail = f"embedded, {server.engine} {server.version}; not running: `okasie up` starts it"
        return None, [Check("redis", True, detail)]
    checks: list[Check] = []
    try:
        if is_sentinel(url):
            checks += check_sentinels(url)
        client = connect(url, socket_timeout=5, tries=1)
        info: Any = client.info()
    except (redis.RedisError, ValueError, OkasieError) as error:
        problem = redis_problem(error)
        detail = error.message if isinstance(error, OkasieError) else problem.message
        return None, [*checks, Check("redis", False, detail, problem.fix)]
    if is_sentinel(url):
        checks += check_replicas(info, _setting(client, "min-replicas-to-write"))
    return client, [*checks, *_redis_checks(client, info)]


def _setting(client: redis.Redis, name: str) -> str | None:
    """Return a setting of the server; None where this user may not read it."""
    with contextlib.suppress(redis.ResponseError):
        found = cast("dict[str, str]", client.config_get(name))
        return found.get(name)
    return None


def _redis_checks(client: redis.Redis, info: dict[str, Any]) -> Iterator[Check]:
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    yield Check("redis", numbers >= _OLDEST, f"version {version}", "use Redis 6.2 or newer, or Valkey")
    if info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
        detail = "a cluster: one atomic script uses keys that a cluster spreads over several servers"
        yield Check("redis cluster", False, detail, "use a single server, or one with replicas and sentinels")
    yield _persistence(info)
    yield _memory(info)
    if info.get("role") == "slave":
        yield Check("redis role", False, "a read-only replica", "set redis.url to the primary")
    policy = str(info.get("maxmemory_policy", "unknown"))
    yield Check("redis eviction", policy == "noeviction", policy, "set `maxmemory-policy noeviction`")
    sent_at = time.time()
    seconds, micros = client.time()
    skew = abs((sent_at + time.time()) / 2 - (seconds + micros / 1e6))
    yield Check(
        "redis clock",
        skew < _SKEW_SECONDS,
        f"differs by {skew:.1f} s",
        "synchronise the clocks of both machines with NTP",
    )


def _persistence(info: dict[str, Any]) -> Check:
    name = "redis persistence"
    if not info.get("aof_enabled"):
        return Check(name, False, "no append-only file: a restart would lose the ledger", "set `appendonly yes`")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Check(name, False, "the append-only file cannot be written", "free disk space on the server")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        detail = "the last snapshot could not be written, so the server may refuse writes"
        return Check(name, False, detail, 'free disk space on the server, or set `save ""`')
    return Check(name, True, "append-only file on")


def _workers(settings: Settings, client: redis.Redis) -> Iterator[Check]:
    """Compare the configuration and version of each running worker with this command's; name the unhealthy ones."""
    with contextlib.suppress(redis.RedisError):
        workers = Workers(client, prefix=settings.redis.key_prefix).live()
        others = [worker.name for worker in workers if worker.configuration != configuration_hash(settings)]
        fix = "send SIGHUP to `okasie up`, or restart these workers"
        if others:
            detail = f"{', '.join(others)}: another configuration than {settings.config_file}"
            yield Check("workers", False, detail, fix)
        elif workers:
            yield Check("workers", True, f"{len(workers)} run this configuration")
        old = [worker.name for worker in workers if worker.version != __version__]
        if old:
            detail = f"{', '.join(old)}: another version than {__version__}"
            yield Check("worker versions", True, detail, "restart these workers with this version", warning=True)
        for worker in workers:
            if worker.problem:
                fix = "restart it; its log has the reason, and `okasie health` on its machine"
                yield Check("worker health", False, f"{worker.name}: {worker.problem}", fix)


def _traces() -> Iterator[Check]:
    if tracing.wanted():
        ok = tracing.installed()
        detail = "exported, as the OTEL_* variables say" if ok else "the OTEL_* variables need an extra"
        yield Check("traces", ok, detail, "pip install 'okasie-tasks[otel]'")


def _memory(info: dict[str, Any]) -> Check:
    """Check the memory that is left: a full server with ``noeviction`` refuses writes, and all work stops."""
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return Check("redis memory", True, f"{_mb(used)} used, no maxmemory")
    full = "full: " if used >= most else ""
    detail = f"{full}{_mb(used)} used of {_mb(most)} (maxmemory)"
    fix = "raise `maxmemory` on the server, or remove other data from it"
    return Check("redis memory", used < most * _NEARLY_FULL, detail, fix)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


# -- accounts ------------------------------------------------------------------------------------------------------


def _account(settings: Settings, name: str, client: redis.Redis | None) -> Iterator[Check]:
    account = settings.accounts[name]
    if client is not None:
        yield from check_ledger(Runs(client, prefix=settings.redis.key_prefix), name)
    limiter = _limiter(settings, name, client)
    if (key := check_key(settings, name, client)) is not None:
        yield key
    elif limiter is None:
        yield Check(f"{name}: API", None, "needs Redis: every request needs a permit")
    else:
        market = OkasieApi(
            account.base_url, account.api_key.reveal, limiter, account=name, read_timeout=account.read_timeout
        )
        yield from _api_checks(name, account, market)
    yield _source(settings, name)
    if account.incremental_every is None and account.full_at is None:
        detail = 'no runs are scheduled: incremental_every and full_at are "off"'
        yield Check(
            f"{name}: schedule", True, detail, "remove one of them, unless something else starts runs", warning=True
        )


def _limiter(settings: Settings, name: str, client: redis.Redis | None) -> Limiter | None:
    if client is not None:
        from okasie_tasks.services import Services  # noqa: PLC0415 - the one place that builds adapters; imports Celery

        return Services(settings).limiter(name)
    # Without a running embedded server there are no workers, whose quota these requests could use up.
    return _Spaced() if settings.redis.url is None else None


class _Spaced:
    """A limiter for this command's few requests: at least half a second between two."""

    def __init__(self) -> None:
        self._next = 0.0

    def acquire(self, ticket: str, lane: Lane, reserve_seconds: float) -> Permit | Wait:  # noqa: ARG002 - a port
        now = time.monotonic()
        if now < self._next:
            return Wait(self._next - now, "spacing")
        self._next = now + 0.5
        return Permit(ticket)

    def report(self, permit: Permit, feedback: Feedback, request: RequestLog | None = None) -> None:  # noqa: ARG002
        if feedback.status == 429:
            self._next = time.monotonic() + (feedback.retry_after or 1.0)

    def cancel(self, permit: Permit) -> None:
        """Do nothing: permits are not counted."""

    def drop(self, ticket: str) -> None:
        """Do nothing: no ticket waits."""


def _api_checks(name: str, account: AccountSettings, market: OkasieApi) -> Iterator[Check]:
    def reads(call: Call) -> str:
        page = call.list_page(1)
        return f"{page.total_items} listings readable"

    def locations(call: Call) -> str:
        codes = [place.location_code for place in call.locations() if place.location_code]
        wanted = account.source.defaults.get("dealerLocationCode")
        if wanted and str(wanted).casefold() not in {code.casefold() for code in codes}:
            raise ConfigurationError(f"dealerLocationCode {wanted} is not among {', '.join(sorted(codes)) or 'none'}")
        return f"{len(codes)} location codes"

    def writes(call: Call) -> str:
        try:
            call.delete(f"okasie-doctor-{uuid4().hex[:12]}")
        except ItemRejected as refused:
            if refused.status != 404:
                raise
        return "DELETE of a reference that does not exist returned 404, as expected"

    fix_key = f"check accounts.{name}.api_key and base_url"
    scopes = {"read:listings": reads, "read:locations": locations, "write:listings": writes}
    for scope, call in scopes.items():
        try:
            yield Check(f"{name}: {scope}", True, _permitted(market, scope, call))
        except RunAborted as error:
            fix = fix_key if error.code != "scope" else f"ask info@okasie.be for the scope {scope}"
            yield Check(f"{name}: {scope}", False, str(error), fix)
            if error.code != "scope":
                return
        except LimiterUnavailable as error:
            yield Check(f"{name}: {scope}", False, error.message, redis_problem(error).fix)
            return
        except OkasieError as error:
            yield Check(f"{name}: {scope}", False, str(error), fix_key)


def _permitted(market: OkasieApi, ticket: str, use: Callable[[Call], str]) -> str:
    deadline = time.monotonic() + _PERMIT_SECONDS
    while True:
        try:
            with market.permit(ticket=f"doctor:{ticket}", lane="urgent") as call:
                return use(call)
        except NoPermit as later:
            if time.monotonic() + later.seconds > deadline:
                raise
            time.sleep(later.seconds)


def _source(settings: Settings, name: str) -> Check:
    from okasie_tasks.services import Services  # noqa: PLC0415

    kind = settings.accounts[name].source.type
    if kind == "sql" and importlib.util.find_spec("sqlalchemy") is None:
        return Check(f"{name}: source", False, "SQLAlchemy is not installed", "pip install 'okasie-tasks[sql]'")
    rows = RowCounts()
    try:
        for row in Services(settings).source(name).rows():
            rows.add(row)
    except OkasieError as error:
        return Check(f"{name}: source", False, str(error), f"correct accounts.{name}.source, or the feed")
    if not rows.rows:
        fix = "the feed is empty: nothing is marked sold, and there is nothing to send"
        return Check(f"{name}: source", False, rows.summary, fix)
    return Check(f"{name}: source", rows.valid > 0, rows.summary, rows.fix, warning=bool(rows.valid and rows.fix))
