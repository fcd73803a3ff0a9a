"""One process's stores, sources and API client, built from the settings.

The one place where implementations are chosen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property

import redis

from okasie_tasks.alerting.channels import channels
from okasie_tasks.alerting.notifier import AlertContext, alert_context
from okasie_tasks.alerting.queue import AlertQueue
from okasie_tasks.client import Client
from okasie_tasks.core.guards import Limits
from okasie_tasks.errors import UNKNOWN_ACCOUNT, ConfigurationError
from okasie_tasks.marketplace.client import OkasieApi
from okasie_tasks.marketplace.request_log import log_failed
from okasie_tasks.ports import Source, WriteBack
from okasie_tasks.settings import AccountSettings, Settings, is_loopback, process_settings
from okasie_tasks.settings.redis_url import redis_url
from okasie_tasks.sources import open_source, open_write_back
from okasie_tasks.store.chunk_steps import ChunkSteps
from okasie_tasks.store.connections import connect
from okasie_tasks.store.controls import HeldPlans
from okasie_tasks.store.deliveries import Deliveries
from okasie_tasks.store.discarded import DiscardedRequests
from okasie_tasks.store.history import History
from okasie_tasks.store.layout import check_layout
from okasie_tasks.store.ledger import Ledger
from okasie_tasks.store.limiter import RedisLimiter
from okasie_tasks.store.migrations import prepare
from okasie_tasks.store.outbox import Outbox
from okasie_tasks.store.previews import Previews
from okasie_tasks.store.quarantine import Quarantine
from okasie_tasks.store.request_stats import Counters
from okasie_tasks.store.requests import Requests
from okasie_tasks.store.runs import Runs
from okasie_tasks.store.urgent_queue import UrgentQueue
from okasie_tasks.store.workers import Workers
from okasie_tasks.store.write_locks import WriteLocks
from okasie_tasks.sync.context import AccountContext, AccountPolicy
from okasie_tasks.urgent.source_reads import SourceReads

current_run: ContextVar[str] = ContextVar("current_run", default="")
"""The run that this thread is sending requests for, so that the requests are counted for it."""


class Services:
    """The adapters of one process, built from the configuration when first needed (after the fork, never before)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._accounts: dict[str, AccountContext] = {}
        self._limiters: dict[str, RedisLimiter] = {}
        self._reads: dict[str, SourceReads] = {}
        self._lock = threading.Lock()
        self.urgent_threads = 1
        """Messages that this process executes at the same time, if it is a worker."""

    @cached_property
    def redis(self) -> redis.Redis:
        return connect(redis_url(self.settings))

    def check_layout(self) -> None:
        """Raises `ConfigurationError` when Redis holds state of another layout."""
        check_layout(self.redis, prefix=self.settings.redis.key_prefix, accounts=self.settings.accounts)

    def migrate(
        self,
        older_workers: Callable[[], list[str]],
        waits: Callable[[list[str]], None],
        pause: Callable[[float], None],
    ) -> None:
        """Give the state in Redis this release's layout; see `okasie_tasks.store.migrations.prepare`."""
        prefix, accounts = self.settings.redis.key_prefix, self.settings.accounts
        prepare(self.redis, prefix=prefix, accounts=accounts, older_workers=older_workers, waits=waits, pause=pause)

    @cached_property
    def producer(self) -> Client:
        """What this process sends requests with. Celery is imported with the first one."""
        return Client(redis_url(self.settings), key_prefix=self.settings.redis.key_prefix)

    @cached_property
    def runs(self) -> Runs:
        return Runs(self.redis, prefix=self.settings.redis.key_prefix, feeds=self.settings.feeds)

    @cached_property
    def counters(self) -> Counters:
        return Counters(self.runs)

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def pushes(self) -> Requests:
        return Requests(self.redis, prefix=self.settings.redis.key_prefix)

    def account(self, name: str) -> AccountSettings:
        """The account's settings. Raises `ConfigurationError` for a name that the configuration does not have."""
        # A name may come from a message: it can be any JSON value.
        if isinstance(name, str) and name in self.settings.accounts:  # type: ignore[redundant-expr]
            return self.settings.accounts[name]
        known = ", ".join(sorted(self.settings.accounts)) or "none"
        raise ConfigurationError(f"no account {name!r:.60}; configured: {known}", where="account", code=UNKNOWN_ACCOUNT)

    @cached_property
    def plans(self) -> HeldPlans:
        return HeldPlans(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def previews(self) -> Previews:
        return Previews(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def workers(self) -> Workers:
        return Workers(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.redis, prefix=self.settings.redis.key_prefix)

    @cached_property
    def discarded(self) -> DiscardedRequests:
        return DiscardedRequests(self.redis, prefix=self.settings.redis.key_prefix)

    def ledger(self, name: str) -> Ledger:
        return Ledger(self.redis, prefix=self.settings.redis.key_prefix, account=name)

    def urgent_queue(self, name: str) -> UrgentQueue:
        return UrgentQueue(self.redis, prefix=self.settings.redis.key_prefix, account=name)

    def history(self, name: str) -> History:
        return History(self.redis, prefix=self.settings.redis.key_prefix, account=name)

    def limiter(self, name: str) -> RedisLimiter:
        account = self.account(name)
        if name not in self._limiters:
            self._limiters[name] = RedisLimiter(
                self.redis,
                prefix=self.settings.redis.key_prefix,
                bucket=name,
                per_minute=account.requests_per_minute,
                burst_per_second=account.burst_per_second,
                adapt_limit=account.adapt_limit,
                count=lambda request: self.counters.count(request, current_run.get()),
            )
        return self._limiters[name]

    def source(self, name: str, *, push: bool = False) -> Source:
        """Open the account's inventory. ``push``: for a push, which waits less long for it."""
        cache = self.settings.redis.state_dir / "feeds"
        return open_source(self.account(name), cache_dir=cache, current_year=datetime.now(UTC).year, push=push)

    def source_reads(self, name: str) -> SourceReads:
        """Return the reads of the account's source for pushes. They may occupy a quarter of the threads."""
        with self._lock:
            if name not in self._reads:
                self._reads[name] = SourceReads(
                    lambda: self.source(name, push=True),
                    share=lambda: max(1, self.urgent_threads // 4),
                    seconds=self.account(name).source.push_read_seconds,
                )
            return self._reads[name]

    def write_back(self, name: str) -> WriteBack | None:
        """Return the write-back to the account's source, None if it has none."""
        return open_write_back(self.account(name))

    def market(self, name: str) -> OkasieApi:
        account = self.account(name)
        return OkasieApi(
            account.base_url,
            account.api_key.reveal,
            self.limiter(name),
            account=name,
            read_timeout=account.read_timeout,
            write_timeout=account.write_timeout,
            on_request=lambda request: log_failed(request, self.limiter(request.account)),
        )

    def context(self, name: str) -> AccountContext:
        """Return the context for the steps of this account's runs."""
        account = self.account(name)
        with self._lock:
            if name not in self._accounts:
                ledger, queue, history = self.ledger(name), self.urgent_queue(name), self.history(name)
                locks = WriteLocks(self.redis, prefix=self.settings.redis.key_prefix, account=name)
                chunks = ChunkSteps(
                    self.redis, parts=self.runs.parts, ledger=ledger, locks=locks, urgent_queue=queue, history=history
                )
                self._accounts[name] = AccountContext(
                    policy=policy_of(account),
                    runs=self.runs,
                    ledger=ledger,
                    market=self.market(name),
                    source=lambda: self.source(name),
                    urgent_queue=queue,
                    pushes=self.pushes,
                    locks=locks,
                    plans=self.plans,
                    write_back=lambda: self.write_back(name),
                    history=history,
                    chunks=chunks,
                )
            return self._accounts[name]

    def alerting(self) -> AlertContext:
        """Return what detects and sends alerts."""
        queue = AlertQueue(self.redis, prefix=self.settings.redis.key_prefix, settings=self.settings.alerts)
        sends = channels(self.settings.alerts)
        return alert_context(
            self.settings,
            queue=queue,
            runs=self.runs,
            plans=self.plans,
            counters=self.counters,
            workers=self.workers,
            channels=sends,
        )


def policy_of(account: AccountSettings) -> AccountPolicy:
    guard = account.guard
    return AccountPolicy(
        account=account.name,
        market=market_name(account.base_url),
        overlap_seconds=account.overlap.total_seconds(),
        conflict=account.conflict,
        missing_reads=guard.missing_reads,
        sells=guard.sells != "never",
        limits=Limits(
            max_sold_percent=guard.max_sold_percent,
            max_sold_count=guard.max_sold_count,
            free_sold_count=guard.free_sold_count,
            max_source_shrink_percent=guard.max_source_shrink_percent,
            max_changed_percent=guard.max_changed_percent,
            free_changed_count=guard.free_changed_count,
            max_field_loss_percent=guard.max_field_loss_percent,
            free_field_loss_count=guard.free_field_loss_count,
            max_price_change_percent=guard.max_price_change_percent,
        ),
        per_minute=account.requests_per_minute,
        take_over=guard.first_full_sells == "allow",
        plan_expires_ms=int(guard.plan_expires.total_seconds() * 1000),
    )


def market_name(base_url: str) -> str:
    """Return the marketplace that a ledger is bound to. All sandboxes count as one, whatever their port."""
    return "a sandbox" if is_loopback(base_url) else base_url


_services: dict[int, Services] = {}
_services_lock = threading.Lock()


def services() -> Services:
    """This process's adapters. Keyed by process id: a pool child must not share its parent's sockets."""
    with _services_lock:
        if os.getpid() not in _services:
            _services.clear()
            _services[os.getpid()] = Services(process_settings())
        return _services[os.getpid()]
