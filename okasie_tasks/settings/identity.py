"""A hash by which two processes compare their configurations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from okasie_tasks.settings.model import Settings
from okasie_tasks.settings.secret import Secret, masked

HASH_VARIABLE: Final = "OKASIE_CONFIGURATION_HASH"
"""Set by ``okasie up --sandbox`` for its children, whose URLs and keys are not those of the file."""
_CHARACTERS: Final = 12


def configuration_hash(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """Return a hash of every setting that changes what a worker does.

    Left out are the values of secrets (their references, such as ``env:NAME``, count), and what differs between
    machines of one deployment: the file's folder, the state directory, the address of Redis, and ``[log]``.
    """
    given = (os.environ if environ is None else environ).get(HASH_VARIABLE)
    if given:
        return given
    document = {
        "key_prefix": settings.redis.key_prefix,
        "alerts": settings.alerts.model_dump(),
        "accounts": {name: account.model_dump() for name, account in settings.accounts.items()},
    }
    text = json.dumps(_plain(document, str(settings.config_file.parent)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]


def _plain(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner, folder) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, folder) for inner in value]
    if isinstance(value, Secret):
        return value.source
    if isinstance(value, Path | str):
        text = str(value).replace(folder, ".")
        return masked(text) if "://" in text else text
    return value if value is None or isinstance(value, bool | int | float) else str(value)
