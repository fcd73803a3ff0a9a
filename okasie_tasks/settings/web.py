"""``[web]``: the HTTP API and the console."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.settings.secret import is_loopback
from okasie_tasks.settings.values import Name, SecretText, Table, http_url, listed, or_off

Role = Literal["read", "push", "operate"]
START_TOKEN: Final = "OKASIE_WEB_START_TOKEN"  # noqa: S105 - the name of a variable
"""`okasie up` chooses the start token of its server, so that it can print the address."""
_SHORTEST: Final = 32
"""Characters of a token, so that it cannot be guessed."""


def _listen(value: str) -> str:
    if re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", value) and int(value.rpartition(":")[2]) <= 65_535:
        return value
    raise ValueError('expected HOST:PORT such as "127.0.0.1:8600", or "off"')


class WebTokenSettings(Table):
    """``[web.tokens.NAME]``: who may use the API and the console. ``accounts`` None: all of them."""

    token: SecretText
    role: Role = "read"
    accounts: Annotated[tuple[str, ...] | None, BeforeValidator(listed)] = None


class WebSettings(Table):
    """``[web]``. ``listen`` None: off. ``public_url``: its address for others than this machine."""

    listen: Annotated[Annotated[str, AfterValidator(_listen)] | None, BeforeValidator(or_off)] = "127.0.0.1:8600"
    public_url: Annotated[str, AfterValidator(http_url)] | None = None
    trusted_proxies: Annotated[tuple[Name, ...], BeforeValidator(listed)] = ()
    tokens: Mapping[str, WebTokenSettings] = Field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port to listen on; port 0 for any."""
        host, _, port = (self.listen or "127.0.0.1:0").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(f"http://{self.listen}")


def bound_web(web: WebSettings, base: Path, environ: Mapping[str, str]) -> WebSettings:
    tokens = {
        name: token.model_copy(update={"token": token.token.bound(base, environ)}) for name, token in web.tokens.items()
    }
    return web.model_copy(update={"tokens": tokens})


def web_problems(web: WebSettings, accounts: Mapping[str, object]) -> Iterator[str]:
    for name, token in web.tokens.items():
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
            yield f"web.tokens.{name:.60}: expected a name of a-z, 0-9, _ and -, at most 40"
        if token.token.literal:
            yield f"web.tokens.{name}.token: got a literal, expected env:NAME or file:/path"
        for account in token.accounts or ():
            if account not in accounts:
                yield f"web.tokens.{name}.accounts: there is no account {account!r:.60}"
    if web.public_url and urlsplit(web.public_url).path not in ("", "/"):
        yield f"web.public_url: got {web.public_url}, expected an address without a path"


def usable_token(name: str, settings: WebTokenSettings) -> str:
    """Return a token. Raises `ConfigurationError` when it cannot be read or is too short."""
    token = settings.token.reveal()
    if len(token) < _SHORTEST:
        raise ConfigurationError(
            f"got {len(token)} characters, expected at least {_SHORTEST} random ones", where=f"web.tokens.{name}.token"
        )
    return token


def refusal(web: WebSettings) -> str:
    """Return why the server must not start with these settings; "" if it may."""
    if web.is_local:
        return ""
    if not web.tokens:
        return f"{web.listen} is reachable from other machines: expected [web.tokens.NAME], or a loopback address"
    if not web.public_url:
        return f"{web.listen} is reachable from other machines: expected web.public_url, the only Host to accept"
    return ""
