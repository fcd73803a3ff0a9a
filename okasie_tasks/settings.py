"""The configuration: ``okasie.toml`` and the environment, as frozen values.

A bad file is refused whole, with every problem as ``file: key: got ..., expected ...``. Secrets are references
(``env:NAME``, ``file:/path``) that are read when needed and never shown.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from okasie_tasks.core.fields import BY_INPUT_NAME
from okasie_tasks.errors import FixConfiguration

DEFAULT_FILE: Final = "okasie.toml"
PREFIX: Final = "OKASIE_"
_ACCOUNT: Final = re.compile(r"[a-z0-9_]+")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECRET_KEYS: Final = frozenset({"api_key", "password", "headers", "url", "username"})


# -- secrets -------------------------------------------------------------------------------------------------------


class Secret:
    """A value that is read when it is needed. ``repr`` and ``str`` never show it."""

    def __init__(self, reference: str, *, base: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._reference = reference
        self._base = base or Path()
        self._environ = os.environ if environ is None else environ

    @property
    def literal(self) -> bool:
        return not self._reference.startswith(("env:", "file:/", "file:."))

    @property
    def source(self) -> str:
        """Where the value comes from, for messages: ``env:NAME``, ``file:...`` or ``a literal``."""
        return "a literal" if self.literal else self._reference

    def reveal(self) -> str:
        """The value. Raises `FixConfiguration` naming the variable or file when it is missing or empty."""
        if self._reference.startswith("env:"):
            value = self._environ.get(self._reference[4:], "").strip()
            if not value:
                raise FixConfiguration(
                    f"the environment variable {self._reference[4:]} is not set or empty", where=self._reference
                )
            return value
        if self.literal:
            return self._reference
        path = self._base / self._reference[5:]
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FixConfiguration(
                f"the secret's file cannot be read ({type(error).__name__})", where=self._reference
            ) from error
        if not value:
            raise FixConfiguration("the secret's file is empty", where=self._reference)
        return value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret does not travel")


def masked(url: str) -> str:
    """A URL without the password and user that it may hold, and without its query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(a URL that cannot be read)"
    place = f"***@{host}{port}" if "@" in parts.netloc else f"{host}{port}"
    return urlunsplit((parts.scheme, place, parts.path, "***" if parts.query else "", ""))


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine by a loopback address."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


# -- small types ---------------------------------------------------------------------------------------------------


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a duration such as 30s, 15m, 2h or 1d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def _positive(value: timedelta) -> timedelta:
    if value.total_seconds() <= 0:
        raise ValueError("expected a duration longer than nothing")
    return value


def _or_off(value: object) -> object:
    return None if value == "off" else value


def _clock(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        return time.fromisoformat(value)
    raise ValueError('expected a time such as "03:30", or "off"')


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("expected a time zone such as Europe/Brussels") from error
    return value


def _secret(value: object) -> object:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str) and value.strip():
        return Secret(value.strip())
    raise ValueError("expected env:NAME or file:/path")


def _http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an https:// URL")
    if parts.scheme == "http" and not is_loopback(value):
        raise ValueError("expected https://: plain http is only allowed on loopback")
    if parts.username or parts.password or parts.query:
        raise ValueError("expected a URL without a user, password or query")
    return value.rstrip("/")


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Period = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
SecretText = Annotated[Secret, BeforeValidator(_secret)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


# -- the tables of the file ----------------------------------------------------------------------------------------


class RedisSettings(_Model):
    """``[redis]``. ``url`` None: the embedded server in ``state_dir``."""

    url: str | None = None
    key_prefix: Annotated[str, Field(min_length=1, max_length=40)] = "okasie:"
    state_dir: Path = Path(".okasie")


class GuardSettings(_Model):
    """``[accounts.NAME.guard]``: when a plan must wait for a person."""

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
    plan_expires: Period = timedelta(hours=72)


class ColumnSettings(_Model):
    """The long form of a field's mapping: one column that holds a list."""

    column: str
    split_on: Annotated[str, Field(min_length=1)] | None = None


class SourceSettings(_Model):
    """``[accounts.NAME.source]``: the local inventory."""

    type: str = "csv"
    url: str = ""
    query: str | None = None
    reference: str | None = None
    updated_at: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    items: str | None = None
    headers: Mapping[str, SecretText] = Field(default_factory=dict)
    username: SecretText | None = None
    password: SecretText | None = None
    fields: Mapping[str, str | ColumnSettings] = Field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    units: Mapping[str, str] = Field(default_factory=dict)
    defaults: Mapping[str, str | int | float | bool] = Field(default_factory=dict)

    _base: Path = PrivateAttr(default=Path())
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def location(self) -> str:
        """The URL with ``env:`` and ``file:``-secrets resolved and a relative path made absolute. May hold a password."""
        url = self.url
        if url.startswith("env:"):
            url = Secret(url, environ=self._environ).reveal()
        if "://" not in url and self.type != "sql":
            url = f"file://{url}"
        if url.startswith("file:"):
            path = url.removeprefix("file://").removeprefix("file:")
            return f"file://{self._base / path}"
        return url


class AccountSettings(_Model):
    """``[accounts.NAME]``: one API key, one quota."""

    name: str
    api_key: SecretText
    base_url: Annotated[str, AfterValidator(_http)] = "https://www.okasie.be/api/external/v1"
    incremental_every: Annotated[Period | None, BeforeValidator(_or_off)] = timedelta(minutes=15)
    full_at: Annotated[Annotated[time, BeforeValidator(_clock)] | None, BeforeValidator(_or_off)] = time(3, 30)
    timezone: Annotated[str, AfterValidator(_zone)] = "Europe/Brussels"
    overlap: Duration = timedelta(minutes=2)
    read_timeout: Annotated[float, Field(gt=0, le=300)] = 20
    write_timeout: Annotated[float, Field(gt=0, le=600)] = 120
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 120
    burst_per_second: Annotated[int, Field(ge=1, le=100_000)] = 5
    adapt_limit: bool = False
    conflict: Literal["local", "remote", "newest"] = "local"
    guard: GuardSettings = GuardSettings()
    source: SourceSettings = SourceSettings()


class Settings(_Model):
    """The whole configuration. Relative paths have been made absolute against the file's folder."""

    redis: RedisSettings = RedisSettings()
    accounts: Mapping[str, AccountSettings] = Field(default_factory=dict)
    config_file: Path

    @property
    def config_dir(self) -> Path:
        return self.config_file.parent


# -- loading -------------------------------------------------------------------------------------------------------


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read ``path``, else ``$OKASIE_CONFIG``, else ``./okasie.toml``, overridden by ``OKASIE_SECTION__KEY``.

    Raises `FixConfiguration` listing every problem.
    """
    env = os.environ if environ is None else environ
    file = Path(path or env.get("OKASIE_CONFIG") or DEFAULT_FILE).expanduser().absolute()
    document = _read(file)
    problems: list[str] = list(_override(document, env))
    for name, account in _accounts(document):
        account.setdefault("name", name)
    try:
        settings = Settings.model_validate({**document, "config_file": file})
    except ValidationError as error:
        problems += _problems(error, document)
        raise _refused(file, problems) from error
    if problems:
        raise _refused(file, problems)
    return _bound(settings, env)


def _accounts(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    accounts = document.get("accounts")
    for name, account in (accounts if isinstance(accounts, dict) else {}).items():
        if isinstance(account, dict):
            yield name, account


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FixConfiguration(
            "there is no such file: name one with --config or OKASIE_CONFIG, or run `okasie demo`", where=str(file)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FixConfiguration(f"cannot be read: {error}", where=str(file)) from error
    except tomllib.TOMLDecodeError as error:
        raise FixConfiguration(f"is not valid TOML: {error}", where=str(file)) from error


def _refused(file: Path, problems: list[str]) -> FixConfiguration:
    return FixConfiguration("; ".join(problems), where=str(file))


_NOT_OVERRIDES: Final = frozenset({"OKASIE_CONFIG"})


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Put ``OKASIE_A__B=value`` into the document; yields a problem for each that names nothing."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or "__" not in variable or variable in _NOT_OVERRIDES:
            continue
        parts = variable.removeprefix(PREFIX).split("__")
        problem = _put(document, Settings, parts, environ[variable])
        if problem:
            yield f"{variable}: {problem}"


def _put(table: dict[str, Any], model: type[BaseModel], parts: list[str], value: str) -> str | None:
    name = _known(parts[0], [*model.model_fields, *table])
    if name is None or name in ("name", "config_file"):
        return f"there is no setting {parts[0].lower()}{_perhaps(parts[0].lower(), list(model.model_fields))}"
    if len(parts) == 1:
        table[name] = value
        return None
    field = model.model_fields.get(name)
    inner = table.setdefault(name, {})
    if not isinstance(inner, dict):
        return f"{name} is a value, not a table"
    below = next((m for m in _models(field.annotation if field else None)), None)
    if name == "accounts" and model is Settings:
        account = _known(parts[1], list(inner))
        if account is None:
            return f"there is no account {parts[1].lower()}"
        return _put(inner[account], AccountSettings, parts[2:], value) if len(parts) > 2 else "names no setting"
    if below is not None:
        return _put(inner, below, parts[1:], value)
    key = _known(parts[1], [*inner, *BY_INPUT_NAME]) or parts[1]
    if len(parts) == 2:
        inner[key] = value
        return None
    deeper = inner.setdefault(key, {})
    deeper["__".join(parts[2:])] = value
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _known(name: str, candidates: list[str]) -> str | None:
    return next((candidate for candidate in candidates if candidate.casefold() == name.casefold()), None)


def _perhaps(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _problems(error: ValidationError, document: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        path = [
            str(part) for part in problem["loc"] if not str(part).startswith(("str", "ColumnSettings", "function-"))
        ]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            yield f"{key}: is not a setting{_perhaps(path[-1], _siblings(path))}"
        elif problem["type"] == "missing":
            yield f"{key}: is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected = message if message.startswith("expected") else f"expected {message}"
            yield f"{key}: got {_got(path, document)}, {expected}"


def _siblings(path: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    parts = path[:-1]
    if parts and parts[0] == "accounts":
        model, parts = AccountSettings, parts[2:]
    for part in parts:
        field = model.model_fields.get(part)
        model = next(_models(field.annotation if field else None), model)
    return list(model.model_fields)


def _got(path: list[str], document: Any) -> str:
    if _SECRET_KEYS.intersection(path):
        return "a value that is not shown"
    for part in path:
        document = document.get(part) if isinstance(document, dict) else None
    text = repr(document)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bound(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Tie secrets and paths to the file's folder, and check what only the whole can tell."""
    base = settings.config_file.parent
    problems: list[str] = []
    accounts: dict[str, AccountSettings] = {}
    for name, account in settings.accounts.items():
        problems += _account_problems(name, account)
        key = Secret(account.api_key._reference, base=base, environ=environ)
        source = account.source.model_copy(
            update={
                "headers": {
                    k: Secret(v._reference, base=base, environ=environ) for k, v in account.source.headers.items()
                },
                "username": account.source.username
                and Secret(account.source.username._reference, base=base, environ=environ),
                "password": account.source.password
                and Secret(account.source.password._reference, base=base, environ=environ),
            }
        )
        source._base, source._environ = base, environ
        accounts[name] = account.model_copy(update={"api_key": key, "source": source})
    problems += _shared_keys(accounts)
    if problems:
        raise _refused(settings.config_file, problems)
    redis = settings.redis
    url = redis.url
    if url and url.startswith(("env:", "file:")):
        url = Secret(url, base=base, environ=environ).reveal()
    redis = redis.model_copy(
        update={"url": None if url in (None, "", "embedded") else url, "state_dir": base / redis.state_dir.expanduser()}
    )
    return settings.model_copy(update={"accounts": accounts, "redis": redis})


def _account_problems(name: str, account: AccountSettings) -> Iterator[str]:
    if not _ACCOUNT.fullmatch(name):
        yield f"accounts.{name}: expected a name of a-z, 0-9 and _"
    if account.api_key.literal and not is_loopback(account.base_url):
        yield f"accounts.{name}.api_key: got a literal key, expected env:NAME or file:/path"
    source = account.source
    known = ("csv", "jsonl", "json", "sql")
    if source.type not in known and not source.type.startswith("python:"):
        yield f"accounts.{name}.source.type: got {source.type!r}, expected {', '.join(known)} or python:NAME"
    if source.type == "sql" and not source.query:
        yield f'accounts.{name}.source.query: is missing, and type = "sql" needs it'
    if not source.url and not source.type.startswith("python:"):
        yield f"accounts.{name}.source.url: is missing"
    for table in ("fields", "values", "units", "defaults"):
        for field in getattr(source, table):
            if field not in BY_INPUT_NAME:
                hint = _perhaps(field, list(BY_INPUT_NAME))
                yield f"accounts.{name}.source.{table}.{field}: is not a field of a listing{hint}"
    for field, unit in source.units.items():
        if unit not in UNITS.get(field, ()):
            allowed = " or ".join(UNITS.get(field, ())) or "no unit for this field"
            yield f"accounts.{name}.source.units.{field}: got {unit!r}, expected {allowed}"


UNITS: Final[Mapping[str, tuple[str, ...]]] = {
    "powerKw": ("kW", "hp"), "mileage": ("km", "mi"), "price": ("EUR", "cent"),
}  # fmt: skip
"""Units a feed may use, by field; the first is Okasie's."""


def _shared_keys(accounts: Mapping[str, AccountSettings]) -> Iterator[str]:
    """One key in two accounts would be sent at twice its quota."""
    seen: dict[tuple[str, str], str] = {}
    for name, account in accounts.items():
        try:
            key = (account.base_url, account.api_key.reveal())
        except FixConfiguration:
            continue  # missing here and now; the account's own run will say so
        if key in seen:
            yield f"accounts.{name}.api_key: is the same key as accounts.{seen[key]} has, expected one account per key"
        seen.setdefault(key, name)
