"""``okasie doctor`` without an API key: what sets it, and that ``okasie up --sandbox`` needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from okasie_tasks.cli.check import Check
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.local.embedded_redis import SANDBOX_FOLDER
from okasie_tasks.settings import Settings


def check_key(settings: Settings, account: str, client: redis.Redis | None) -> Check | None:
    """Return a check that is not passed if the account's key is not set. ``client``: None if Redis is not running."""
    try:
        settings.accounts[account].api_key.reveal()
    except ConfigurationError as error:
        name, missing = f"{account}: API", error.message
    else:
        return None
    if client is not None and _of_sandbox(settings, client):
        return Check(name, None, f"{missing}; `okasie up --sandbox`, which is running, needs none")
    fix = "set it to the account's key; or `okasie up --sandbox` starts a sandbox in place of the marketplace"
    return Check(name, False, missing, fix)


def _of_sandbox(settings: Settings, client: redis.Redis) -> bool:
    """Return whether the embedded server is that of ``okasie up --sandbox``, whose data are in a separate folder."""
    if settings.redis.url is not None:
        return False
    data: Any = client.config_get("dir")
    return Path(data["dir"]).parent == (settings.redis.state_dir / SANDBOX_FOLDER).resolve()
