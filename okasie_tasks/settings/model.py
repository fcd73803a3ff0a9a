"""The tables of ``okasie.toml`` as frozen models."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from okasie_tasks.settings.secret import Secret
from okasie_tasks.settings.values import (
    Count,
    Duration,
    Name,
    Percent,
    Period,
    SecretText,
    Table,
    cells,
    clock,
    http_url,
    listed,
    lower,
    or_off,
    zone,
)
from okasie_tasks.settings.web import WebSettings


class RedisSettings(Table):
    """``[redis]``. ``url`` None: the embedded server in ``state_dir``."""

    url: str | None = None
    key_prefix: Annotated[str, Field(min_length=1, max_length=40)] = "okasie:"
    state_dir: Path = Path(".okasie")


class FeedSettings(Table):
    """``[feeds]``: which workers read the sources of runs, and where the blocks of a source are until its run ends.

    ``store``: where those are that exceed ``max_redis_mb``: ``redis`` for nowhere, or a folder or fsspec URL.
    """

    queue: Literal["okasie.diff", "okasie.feeds"] = "okasie.diff"
    store: Name = "redis"
    max_redis_mb: Annotated[float, Field(ge=0)] = 512.0


class LogSettings(Table):
    """``[log]``: what every process writes to stderr. ``level`` None: that of ``celery -l``; commands log warnings."""

    format: Literal["console", "json"] = "console"
    level: Annotated[Literal["debug", "info", "warning", "error"] | None, BeforeValidator(lower)] = None

    @property
    def number(self) -> int:
        """The level as a number of `logging`; 0 when it is not set."""
        return int(logging.getLevelNamesMapping()[self.level.upper()]) if self.level else 0


class EmailSettings(Table):
    """``[alerts.email]``. ``host`` "": no mail. ``tls`` "off" is for a server on this machine."""

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    tls: Literal["starttls", "implicit", "off"] = "starttls"
    user: Name | None = None
    password: SecretText | None = None
    sender: str = ""
    to: Annotated[tuple[Name, ...], BeforeValidator(listed)] = ()


class AlertSettings(Table):
    """``[alerts]``: which alerts are sent, where and how often. ``stale_after`` None: by each account's schedule."""

    webhook: SecretText | None = None
    kinds: Annotated[
        tuple[
            Literal[
                "held", "failed", "partial", "stale", "lost_fields", "sells_waiting",
                "rejects", "refused_key", "workers_gone",
            ],
            ...,
        ],
        BeforeValidator(listed),
    ] = (
        "held", "failed", "partial", "stale", "lost_fields", "sells_waiting", "rejects", "refused_key", "workers_gone",
    )  # fmt: skip
    every: Period = timedelta(hours=1)
    max_per_hour: Annotated[int, Field(ge=1, le=1_000)] = 20
    stale_after: Period | None = None
    email: EmailSettings = EmailSettings()

    @property
    def on(self) -> bool:
        """Whether an alert channel is configured."""
        return self.webhook is not None or bool(self.email.host)


class GuardSettings(Table):
    """``[accounts.NAME.guard]``: when a plan needs an operator's approval."""

    sells: Literal["guarded", "never"] = "guarded"
    missing_reads: Annotated[int, Field(ge=1, le=100)] = 1
    max_sold_percent: Percent = 10.0
    max_sold_count: Count = 250
    free_sold_count: Count = 5
    first_full_sells: Literal["hold", "allow"] = "hold"
    max_source_shrink_percent: Percent = 30.0
    max_changed_percent: Percent = 60.0
    free_changed_count: Count = 50
    max_field_loss_percent: Percent = 20.0
    free_field_loss_count: Count = 5
    max_price_change_percent: Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(or_off)] = 50.0
    plan_expires: Period = timedelta(hours=72)


class ColumnSettings(Table):
    """The long form of a field's mapping: one column that holds a list, or several columns that make one.

    ``columns``: their names in order, or one name in which ``*`` stands for any text.
    """

    column: str = ""
    columns: tuple[str, ...] | str = ()
    split_on: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.column) == bool(self.columns):
            raise ValueError("expected column or columns")
        return self


class WriteBackSettings(Table):
    """``[accounts.NAME.source.write_back]``: where edits made on the marketplace are offered. At most one is set.

    ``file`` is a path, made absolute against the configuration's folder; ``table`` may be ``schema.table``.
    """

    file: Name | None = None
    table: Name | None = None


class SourceSettings(Table):
    """``[accounts.NAME.source]``: the local inventory."""

    type: str = "csv"
    url: str = ""
    query: str | None = None
    reference: str | None = None
    updated_at: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    header: bool = True
    skip_lines: Annotated[int, Field(ge=0, le=1_000)] = 0
    decimal: Literal[".", ","] = "."
    items: str | None = None
    sheet: Name | None = None
    headers: Mapping[str, SecretText] = Field(default_factory=dict)
    username: SecretText | None = None
    password: SecretText | None = None
    member: Name | None = None
    private_key: SecretText | None = None
    host_key: SecretText | None = None
    ca_file: Name | None = None
    endpoint_url: Name | None = None
    region: Name | None = None
    access_key: SecretText | None = None
    secret_key: SecretText | None = None
    fields: Mapping[str, str | ColumnSettings] = Field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    units: Mapping[str, str] = Field(default_factory=dict)
    defaults: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    skip: Mapping[str, Annotated[tuple[str | int | float | bool, ...], Field(min_length=1), BeforeValidator(cells)]] = (
        Field(default_factory=dict)
    )
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 2.0
    read_seconds: Annotated[float, Field(gt=0, le=280)] = 240.0
    push_read_seconds: Annotated[float, Field(gt=0, le=280)] = 30.0
    max_mb: Annotated[float, Field(gt=0)] = 2_000.0
    max_document_mb: Annotated[float, Field(gt=0)] = 100.0
    max_row_kb: Annotated[float, Field(ge=300)] = 1_000.0
    write_back: WriteBackSettings = WriteBackSettings()

    _base: Path = PrivateAttr(default=Path())
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def location(self) -> str:
        """The URL with ``env:`` resolved and a relative path made absolute. It may hold a password."""
        url = self.url
        if url.startswith("env:"):
            url = Secret(url, environ=self._environ).reveal_url()
        if "://" not in url and self.type != "sql":
            url = f"file://{url}"
        if url.startswith("file:"):
            path = url.removeprefix("file://").removeprefix("file:")
            return f"file://{self._base / path}"
        return url


class AccountSettings(Table):
    """``[accounts.NAME]``: one API key, one quota."""

    name: str
    api_key: SecretText
    base_url: Annotated[str, AfterValidator(http_url)] = "https://www.okasie.be/api/external/v1"
    incremental_every: Annotated[Period | None, BeforeValidator(or_off)] = timedelta(minutes=15)
    full_at: Annotated[Annotated[time, BeforeValidator(clock)] | None, BeforeValidator(or_off)] = time(3, 30)
    timezone: Annotated[str, AfterValidator(zone)] = "Europe/Brussels"
    overlap: Duration = timedelta(minutes=2)
    read_timeout: Annotated[float, Field(gt=0, le=300)] = 20
    write_timeout: Annotated[float, Field(gt=0, le=600)] = 120
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 120
    burst_per_second: Annotated[int, Field(ge=1, le=100_000)] = 5
    adapt_limit: bool = False
    conflict: Literal["local", "remote", "newest"] = "local"
    guard: GuardSettings = GuardSettings()
    source: SourceSettings = SourceSettings()


class Settings(Table):
    """The whole configuration. Relative paths have been made absolute against the file's folder."""

    redis: RedisSettings = RedisSettings()
    feeds: FeedSettings = FeedSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    web: WebSettings = WebSettings()
    accounts: Mapping[str, AccountSettings] = Field(default_factory=dict)
    config_file: Path
