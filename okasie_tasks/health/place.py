"""Finds ``state_dir`` without loading the whole configuration, which takes longer than a probe may."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from okasie_tasks.errors import ConfigurationError

_FILE: Final = "okasie.toml"
_STATE_DIR: Final = ".okasie"
_VARIABLE: Final = "OKASIE_REDIS__STATE_DIR"


def state_dir(config: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """As ``redis.state_dir`` of `okasie_tasks.settings.load_settings`. Raises `ConfigurationError`."""
    env = os.environ if environ is None else environ
    file = Path(config or env.get("OKASIE_CONFIG") or _FILE).expanduser().absolute()
    named = next((value for name, value in env.items() if name.upper() == _VARIABLE), None)
    return file.parent / Path(named or _of_file(file)).expanduser()


def _of_file(file: Path) -> str:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("redis", {})
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {error}", where=str(file)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"is not valid TOML: {error}", where=str(file)) from error
    found = table.get("state_dir", _STATE_DIR) if isinstance(table, dict) else _STATE_DIR
    if not isinstance(found, str):
        raise ConfigurationError(f"redis.state_dir: got {found!r:.60}, expected a folder", where=str(file))
    return found
