"""Secrets and the URLs that may hold them: read when needed, never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from okasie_tasks.errors import ConfigurationError
from okasie_tasks.masking import know, know_url, mask


class Secret:
    """A value that is read when it is needed. ``repr`` and ``str`` never show it."""

    def __init__(self, reference: str, *, base: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._reference = reference
        self._base = base or Path()
        self._environ = os.environ if environ is None else environ

    def bound(self, base: Path, environ: Mapping[str, str]) -> Secret:
        """The same secret, with relative files below ``base`` and variables of ``environ``."""
        return Secret(self._reference, base=base, environ=environ)

    @property
    def literal(self) -> bool:
        return not self._reference.startswith(("env:", "file:"))

    @property
    def source(self) -> str:
        """Where the value comes from, for messages: ``env:NAME``, ``file:...`` or ``a literal``."""
        return "a literal" if self.literal else self._reference

    def reveal(self) -> str:
        """Return the value and register it for masking (`okasie_tasks.masking`).

        Raises `ConfigurationError` naming the variable or file when it is missing or empty.
        """
        return know(self._read())

    def value(self) -> str:
        """Return what is no secret by itself, such as a user name: masking it would spoil other texts."""
        return self._read()

    def reveal_url(self) -> str:
        """Return the value of a URL and register only the secrets in it for masking, not its address."""
        return know_url(self._read())

    def _read(self) -> str:
        if self._reference.startswith("env:"):
            value = self._environ.get(self._reference[4:], "").strip()
            if not value:
                raise ConfigurationError(
                    f"the environment variable {self._reference[4:]} is not set or empty", where=self._reference
                )
            return value
        if self.literal:
            return self._reference
        path = self._base / Path(self._reference[5:]).expanduser()
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"the secret's file cannot be read ({type(error).__name__})", where=self._reference
            ) from error
        if not value:
            raise ConfigurationError("the secret's file is empty", where=self._reference)
        return value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled")


def masked(url: str) -> str:
    """Return a URL without its user, password and query."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2] if "," in parts.netloc else ""  # several, of a sentinel:// URL
        host = hosts or parts.hostname or ""
        port = f":{parts.port}" if not hosts and parts.port else ""
    except ValueError:
        return "(a URL that cannot be read)"
    if ":" in parts.netloc and "@" not in parts.netloc and "@" in parts.path:
        return f"{parts.scheme}://***"  # perhaps a password with a slash in it
    place = f"***@{host}{port}" if "@" in parts.netloc else f"{host}{port}"
    return urlunsplit((parts.scheme, place, parts.path, "***" if parts.query else "", ""))


def without_passwords(text: str) -> str:
    """Mask a foreign message: registered secrets, and the user and password of any URL in it.

    Call it before the text is cut, because part of a secret is not recognised.
    """
    return re.sub(r"://[^/\s]*@", "://***@", mask(text))


def is_loopback(url: str) -> bool:
    """Return whether a URL uses a loopback address."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
