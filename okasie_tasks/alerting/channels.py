"""The ways by which an alert leaves the house: a webhook and e-mail. One attempt each; who calls decides on more.

Not a library for a hundred services: two channels are a page of code, retries and limits must be the fleet's and not a
process's, and whoever wants another service puts one behind the webhook.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, Final

import requests

from okasie_tasks import __version__
from okasie_tasks.errors import ConfigurationError, OkasieError
from okasie_tasks.settings import AlertSettings, EmailSettings, is_loopback

Send = Callable[[Mapping[str, Any]], None]

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 10.0


class NotDelivered(OkasieError):
    """An alert did not arrive: try again later."""

    code = "not_delivered"


def channels(settings: AlertSettings) -> dict[str, Send]:
    """The channels that the configuration names; each takes the payload of an alert and raises `NotDelivered`."""
    found: dict[str, Send] = {}
    if settings.webhook is not None:
        webhook = settings.webhook
        found["webhook"] = lambda told: post(webhook.reveal(), told)
    if settings.email.host:
        found["email"] = lambda told: mail(settings.email, told)
    return found


def post(url: str, told: Mapping[str, Any]) -> None:
    """Send a webhook. The address is a secret in itself (`Secret.reveal` has it masked); redirects are not followed."""
    where = "alerts.webhook"
    if not url.startswith("https://") and not (url.startswith("http://") and is_loopback(url)):
        raise ConfigurationError("expected an https:// URL (http:// on loopback only)", where=where)
    try:
        with requests.Session() as session:
            session.trust_env = False  # no .netrc may add a login
            session.proxies = requests.utils.get_environ_proxies(url)
            session.headers["User-Agent"] = f"okasie-tasks/{__version__}"
            with session.post(
                url, json=dict(told), timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS), allow_redirects=False, stream=True
            ) as answer:
                status = answer.status_code
    except requests.RequestException as error:
        raise NotDelivered(f"the webhook was not reached ({type(error).__name__})", where=where) from None
    if not 200 <= status < 300:
        raise NotDelivered(f"the webhook answered {status}, expected 200 to 299", where=where)


def mail(settings: EmailSettings, told: Mapping[str, Any]) -> None:
    """Send a mail of plain text."""
    message, where = letter(settings, told), "alerts.email"
    try:
        with _connected(settings) as server:
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, settings.password.reveal())
            refused = server.send_message(message)
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise NotDelivered(f"the mail server answered {error.smtp_code} {said}", where=where) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotDelivered(f"the mail was not taken ({type(error).__name__})", where=where) from None
    if refused:
        raise NotDelivered(f"the mail server refused {len(refused)} of the receivers", where=where)


def _connected(settings: EmailSettings) -> smtplib.SMTP:
    if settings.tls == "implicit":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=_ANSWER_SECONDS, context=context)
    server = smtplib.SMTP(settings.host, settings.port, timeout=_ANSWER_SECONDS)
    if settings.tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def letter(settings: EmailSettings, told: Mapping[str, Any]) -> EmailMessage:
    """The mail. Its subject is made of our own words and the account's name only."""
    message = EmailMessage()
    head, _, body = str(told["text"]).partition("\n")
    message["Subject"] = head
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid("okasie-tasks", domain="localhost")
    message["Auto-Submitted"] = "auto-generated"
    run = f"\nRun: {told['run']}" if told["run"] else ""
    message.set_content(f"{body}\n\nAccount: {told['account']}{run}\nKind: {told['kind']}\nAt: {told['at']}\n")
    return message
