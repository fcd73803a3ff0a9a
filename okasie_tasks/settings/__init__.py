"""The configuration: ``okasie.toml`` and the environment, as frozen values.

An invalid file is rejected as a whole, with every problem as ``file: key: got ..., expected ...``. Secrets are
references (``env:NAME``, ``file:/path``), read when needed and never shown.
"""

from okasie_tasks.settings.identity import configuration_hash
from okasie_tasks.settings.load import load_settings
from okasie_tasks.settings.model import (
    AccountSettings,
    AlertSettings,
    ColumnSettings,
    EmailSettings,
    FeedSettings,
    GuardSettings,
    LogSettings,
    Settings,
    SourceSettings,
    WriteBackSettings,
)
from okasie_tasks.settings.process import keep_settings, process_settings
from okasie_tasks.settings.secret import Secret, is_loopback, masked, without_passwords
from okasie_tasks.settings.web import WebSettings, WebTokenSettings

__all__ = [
    "AccountSettings",
    "AlertSettings",
    "ColumnSettings",
    "EmailSettings",
    "FeedSettings",
    "GuardSettings",
    "LogSettings",
    "Secret",
    "Settings",
    "SourceSettings",
    "WebSettings",
    "WebTokenSettings",
    "WriteBackSettings",
    "configuration_hash",
    "is_loopback",
    "keep_settings",
    "load_settings",
    "masked",
    "process_settings",
    "without_passwords",
]
