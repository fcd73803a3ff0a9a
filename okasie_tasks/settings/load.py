"""Loads the file and the environment, and reports every problem in them."""

from __future__ import annotations

import difflib
import os
import re
import string
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from okasie_tasks.core.fields import BY_INPUT_NAME
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import know, know_url
from okasie_tasks.settings.model import AccountSettings, AlertSettings, Settings, SourceSettings
from okasie_tasks.settings.placeholders import to_fill_in
from okasie_tasks.settings.secret import Secret, is_loopback, without_passwords
from okasie_tasks.settings.source_url import url_problems
from okasie_tasks.settings.web import bound_web, web_problems

DEFAULT_FILE: Final = "okasie.toml"
PREFIX: Final = "OKASIE_"
_ACCOUNT: Final = re.compile(r"[a-z0-9_]+")
_SOURCE_SECRETS: Final = ("username", "password", "private_key", "host_key", "access_key", "secret_key")
_SECRET_KEYS: Final = frozenset({"api_key", "headers", "url", "webhook", *_SOURCE_SECRETS})


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read ``path``, else ``$OKASIE_CONFIG``, else ``./okasie.toml``, overridden by ``OKASIE_SECTION__KEY``.

    Raises `ConfigurationError` listing every problem.
    """
    env = os.environ if environ is None else environ
    file = Path(path or env.get("OKASIE_CONFIG") or DEFAULT_FILE).expanduser().absolute()
    document = _read(file)
    problems: list[str] = list(_override(document, env))
    problems += to_fill_in(document, file)
    _never_show(document)
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


def _never_show(table: Mapping[str, Any], *, secret: bool = False) -> None:
    """Mask literal secrets in the file, before any message can contain them."""
    for name, value in table.items():
        if isinstance(value, dict):
            _never_show(value, secret=secret or name == "headers")
        elif isinstance(value, str) and "://" in value:
            know(value if name == "webhook" else "")
            know_url(value)
        elif isinstance(value, str) and (secret or name in ("api_key", "password", "private_key", "secret_key")):
            know("" if value.startswith(("env:", "file:")) else value)


def _accounts(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    accounts = document.get("accounts")
    for name, account in (accounts if isinstance(accounts, dict) else {}).items():
        if isinstance(account, dict):
            yield name, account


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            "there is no such file: name one with --config or OKASIE_CONFIG, draft one with `okasie init FEED`, or run"
            " `okasie demo`",
            where=str(file),
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=str(file)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not valid TOML: {error}", where=str(file)) from error


def _refused(file: Path, problems: list[str]) -> ConfigurationError:
    return ConfigurationError("; ".join(problems), where=str(file))


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Put ``OKASIE_A__B=value`` into the document; yields a problem for each variable that names no setting."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or "__" not in variable:
            continue
        parts = variable.removeprefix(PREFIX).split("__")
        problem = _put(document, Settings, parts, environ[variable])
        if problem:
            yield f"{variable}: {problem}"


def _put(table: dict[str, Any], model: type[BaseModel], parts: list[str], value: str) -> str | None:  # noqa: PLR0911
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
    text = without_passwords(repr(document))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bound(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Resolve secrets and paths against the file's folder, and check rules that span several settings."""
    base = settings.config_file.parent
    problems: list[str] = []
    accounts: dict[str, AccountSettings] = {}
    for name, account in settings.accounts.items():
        problems += _account_problems(name, account)
        problems += _write_back_problems(f"accounts.{name}.source", account.source, base)
        key = account.api_key.bound(base, environ)
        source = _bound_source(account.source, base, environ)
        problems += url_problems(f"accounts.{name}.source", source)
        accounts[name] = account.model_copy(update={"api_key": key, "source": source})
    problems += _shared_keys(accounts)
    problems += _alert_problems(settings.alerts)
    problems += web_problems(settings.web, settings.accounts)
    if problems:
        raise _refused(settings.config_file, problems)
    redis = settings.redis
    url = redis.url
    if url:
        url = Secret(url, base=base, environ=environ).reveal_url()
    redis = redis.model_copy(
        update={"url": None if url in (None, "", "embedded") else url, "state_dir": base / redis.state_dir.expanduser()}
    )
    alerts, feeds = _bound_alerts(settings.alerts, base, environ), settings.feeds
    if feeds.store != "redis" and "://" not in feeds.store:
        feeds = feeds.model_copy(update={"store": str(base / Path(feeds.store).expanduser())})
    web = bound_web(settings.web, base, environ)
    tables = {"accounts": accounts, "redis": redis, "feeds": feeds, "alerts": alerts, "web": web}
    return settings.model_copy(update=tables)


def _bound_alerts(alerts: AlertSettings, base: Path, environ: Mapping[str, str]) -> AlertSettings:
    password, webhook = alerts.email.password, alerts.webhook
    email = alerts.email.model_copy(update={"password": password and password.bound(base, environ)})
    return alerts.model_copy(update={"webhook": webhook and webhook.bound(base, environ), "email": email})


def _alert_problems(alerts: AlertSettings) -> Iterator[str]:
    if alerts.webhook is not None and alerts.webhook.literal:
        url = alerts.webhook.reveal()
        if not url.startswith("https://") and not (url.startswith("http://") and is_loopback(url)):
            yield "alerts.webhook: got another address, expected https:// (http:// on loopback only), env: or file:"
    email = alerts.email
    if email.host:
        for name in ("sender", "to"):
            if not getattr(email, name):
                yield f"alerts.email.{name}: is missing"
        if email.tls == "off" and not is_loopback(f"smtp://{email.host}"):
            yield "alerts.email.tls: got 'off', expected starttls or implicit: plain mail is only allowed on loopback"
        if (email.user is None) != (email.password is None):
            yield "alerts.email: got one of user and password, expected both or none"
    elif email.model_fields_set:
        yield "alerts.email.host: is missing"


def _bound_source(source: SourceSettings, base: Path, environ: Mapping[str, str]) -> SourceSettings:
    file, ca_file = source.write_back.file, source.ca_file
    bound_source = source.model_copy(
        update={
            "headers": {name: secret.bound(base, environ) for name, secret in source.headers.items()},
            **{name: value.bound(base, environ) for name in _SOURCE_SECRETS if (value := getattr(source, name))},
            "ca_file": ca_file and str(base / Path(ca_file.removeprefix("file:")).expanduser()),
            "write_back": source.write_back.model_copy(update={"file": file and str(base / Path(file).expanduser())}),
        }
    )
    bound_source._base, bound_source._environ = base, environ
    return bound_source


def _account_problems(name: str, account: AccountSettings) -> Iterator[str]:
    if not _ACCOUNT.fullmatch(name):
        yield f"accounts.{name}: expected a name of a-z, 0-9 and _"
    if account.api_key.literal and not is_loopback(account.base_url):
        yield f"accounts.{name}.api_key: got a literal key, expected env:NAME or file:/path"
    source = account.source
    known = ("csv", "jsonl", "json", "xml", "xlsx", "sql")
    if source.type not in known and not source.type.startswith("python:"):
        yield f"accounts.{name}.source.type: got {source.type!r}, expected {', '.join(known)} or python:NAME"
    if source.type == "sql" and not source.query:
        yield f'accounts.{name}.source.query: is missing, and type = "sql" needs it'
    if not source.url and not source.type.startswith("python:"):
        yield f"accounts.{name}.source.url: is missing"
    try:
        list(string.Formatter().parse(source.reference or ""))
    except ValueError as error:
        yield f"accounts.{name}.source.reference: got {source.reference!r:.60}, which is no valid template: {error}"
    for table in ("fields", "values", "units", "defaults"):
        for field in getattr(source, table):
            if field not in BY_INPUT_NAME:
                hint = _perhaps(field, list(BY_INPUT_NAME))
                yield f"accounts.{name}.source.{table}.{field}: is not a field of a listing{hint}"
    for field, unit in source.units.items():
        if unit not in UNITS.get(field, ()):
            allowed = " or ".join(UNITS.get(field, ())) or "no unit for this field"
            yield f"accounts.{name}.source.units.{field}: got {unit!r}, expected {allowed}"


def _write_back_problems(key: str, source: SourceSettings, base: Path) -> Iterator[str]:
    """Check that exactly one target is set, and that this type of source supports it."""
    if "write_back" not in source.model_fields_set:
        return
    file, table = source.write_back.file, source.write_back.table
    if file is not None and table is not None:
        yield f"{key}.write_back: got file = {file!r} and table = {table!r}, expected one of the two"
    elif file is None and table is None:
        yield f'{key}.write_back: got neither, expected file = "changes.jsonl" or, of type = "sql", table = "vehicles"'
    elif table is not None and source.type != "sql":
        yield f'{key}.write_back.table: got {table!r}, expected file: only type = "sql" has tables, not {source.type!r}'
    elif table is not None and "{" in (source.reference or ""):
        yield f"{key}.write_back.table: got {table!r}, expected file: the reference is a template, not one column"
    elif file is not None and base / file == base / source.url.removeprefix("file://").removeprefix("file:"):
        yield f"{key}.write_back.file: got {file!r}, which is the inventory itself, expected another file"


UNITS: Final[Mapping[str, tuple[str, ...]]] = {
    "powerKw": ("kW", "hp"), "mileage": ("km", "mi"), "price": ("EUR", "cent"),
}  # fmt: skip
"""Units a feed may use, by field; the first is Okasie's."""


def _shared_keys(accounts: Mapping[str, AccountSettings]) -> Iterator[str]:
    """Reject a key used by two accounts: together they would exceed its quota."""
    seen: dict[tuple[str, str], str] = {}
    for name, account in accounts.items():
        try:
            key = (account.base_url, account.api_key.reveal())
        except ConfigurationError:
            continue  # missing here; the account's own run will report it
        if key in seen:
            yield f"accounts.{name}.api_key: is the same key as accounts.{seen[key]} has, expected one account per key"
        seen.setdefault(key, name)
