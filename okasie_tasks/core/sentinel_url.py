"""The address of a Redis master behind Sentinel, as one URL and in each library's spelling.

``sentinel://[USER:PASSWORD@]HOST:26379,HOST2:26379/0?master=NAME``; ``sentinels://`` uses TLS to the sentinels and to
Redis. The login is that of Redis. The query may have ``sentinel_username`` and ``sentinel_password``, and with TLS
``ssl_cert_reqs``, ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``, as in redis-py's URLs.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from okasie_tasks.errors import ConfigurationError

SCHEMES: Final = ("sentinel", "sentinels")
_PORT: Final = 26379
_TLS: Final = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_LOGIN: Final = ("sentinel_username", "sentinel_password")
_HOST: Final = re.compile(r"(?P<host>[^:,\[\]]+)(:(?P<port>\d{1,5}))?")
_EXPECTED: Final = "expected sentinel://HOST:26379,HOST2:26379/0?master=NAME"


class SentinelUrl(NamedTuple):
    """A master's name and the sentinels that know its address."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    login: dict[str, str]
    """``username`` and ``password`` of Redis, those that are set."""
    sentinel_login: dict[str, str]
    """The same of the sentinels."""
    tls: dict[str, str]
    """redis-py's TLS options; empty without TLS."""

    @property
    def place(self) -> str:
        """The address for messages, without logins."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    def kombu(self) -> str:
        """The broker's URL: each sentinel with the login of Redis, joined as kombu splits them."""
        return ";".join(self._one(host, port) for host, port in self.hosts)

    def backend(self) -> str:
        """The result backend's URL. Celery reads the login of the first sentinel, and masks no other."""
        others = (f"sentinel://{host}:{port}/{self.database}" for host, port in self.hosts[1:])
        return ";".join([self._one(*self.hosts[0]), *others])

    def _one(self, host: str, port: int) -> str:
        user, password = (quote(self.login.get(name, ""), safe="") for name in ("username", "password"))
        login = f"{user}:{password}@" if password else f"{user}@" if user else ""
        return f"sentinel://{login}{host}:{port}/{self.database}"

    def sentinel_options(self) -> dict[str, Any]:
        """redis-py's options for the connections to the sentinels: one that does not answer is soon given up."""
        tls: dict[str, Any] = {"ssl": True, **self.tls} if self.tls else {}
        return {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, **self.sentinel_login, **tls}


def is_sentinel(url: str) -> bool:
    return url.partition("://")[0] in SCHEMES


def parse_sentinel_url(url: str, *, where: str = "redis.url") -> SentinelUrl:
    """Read such a URL. Raises `ConfigurationError`, which shows no part of the login."""
    scheme, _, rest = url.partition("://")
    address, _, options = rest.partition("?")
    netloc, _, path = address.partition("/")
    query = dict(parse_qsl(options))
    login, _, places = netloc.rpartition("@")
    hosts = [_HOST.fullmatch(place) for place in places.split(",")]
    if not all(hosts) or not (path or "0").isdigit():
        raise ConfigurationError(f"a sentinel's address cannot be read; {_EXPECTED}", where=where)
    if not query.get("master"):
        raise ConfigurationError(f"the query has no name of the master; {_EXPECTED}", where=where)
    unknown = sorted(set(query).difference({"master", *_TLS, *_LOGIN}))
    if unknown:
        raise ConfigurationError(f"unknown option {unknown[0]!r:.40}; {_EXPECTED}", where=where)
    user, _, password = login.partition(":")
    tls: dict[str, str] = {name: query[name] for name in _TLS if name in query}
    return SentinelUrl(
        hosts=tuple((host["host"], int(host["port"] or _PORT)) for host in hosts if host is not None),
        master=query["master"],
        database=int(path or 0),
        login=_given(username=unquote(user), password=unquote(password)),
        sentinel_login=_given(username=query.get("sentinel_username", ""), password=query.get("sentinel_password", "")),
        tls={"ssl_cert_reqs": "required", **tls} if scheme == "sentinels" else {},
    )


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
