"""The channels that send alerts: a webhook and e-mail. Each call is one attempt; the caller decides about retries.

A library for a hundred services is not used: two channels are a page of code, and retries and limits must apply to the
whole fleet, not to one process. Other services can be connected behind the webhook.
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
_RESPONSE_SECONDS: Final = 10.0


class NotDelivered(OkasieError):
    """An alert was not delivered. To be retried later."""

    code = "not_delivered"


def channels(settings: AlertSettings) -> dict[str, Send]:
    """The configured channels by name. Each takes the payload of an alert and raises `NotDelivered` on failure."""
    configured: dict[str, Send] = {}
    if settings.webhook is not None:
        webhook = settings.webhook
        configured["webhook"] = lambda document: post(webhook.reveal(), document)
    if settings.email.host:
        configured["email"] = lambda document: mail(settings.email, document)
    return configured


def post(url: str, document: Mapping[str, Any]) -> None:
    """Post ``document`` as JSON. Follows no redirects. Raises `NotDelivered`.

    The URL is itself a secret, which `Secret.reveal` registers with the mask.
    """
    where, timeout = "alerts.webhook", (_CONNECT_SECONDS, _RESPONSE_SECONDS)
    if not url.startswith("https://") and not (url.startswith("http://") and is_loopback(url)):
        raise ConfigurationError("expected an https:// URL (http:// on loopback only)", where=where)
    try:
        with requests.Session() as session:
            session.trust_env = False  # a .netrc must not add a login
            session.proxies = requests.utils.get_environ_proxies(url)
            session.headers["User-Agent"] = f"okasie-tasks/{__version__}"
            with session.post(
                url, json=dict(document), timeout=timeout, allow_redirects=False, stream=True
            ) as response:
                status = response.status_code
    except requests.RequestException as error:
        raise NotDelivered(f"the webhook was not reached ({type(error).__name__})", where=where) from None
    if not 200 <= status < 300:
        raise NotDelivered(f"the webhook answered {status}, expected 200 to 299", where=where)


def mail(settings: EmailSettings, document: Mapping[str, Any]) -> None:
    """Send ``document`` as a plain text e-mail. Raises `NotDelivered`."""
    message, where = email_message(settings, document), "alerts.email"
    try:
        with _connected(settings) as server:
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, settings.password.reveal())
            refused = server.send_message(message)
    except smtplib.SMTPResponseException as error:
        raw = error.smtp_error
        detail = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        raise NotDelivered(f"the mail server answered {error.smtp_code} {detail}", where=where) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotDelivered(f"the mail was not accepted ({type(error).__name__})", where=where) from None
    if refused:
        raise NotDelivered(f"the mail server refused {len(refused)} of the recipients", where=where)


def _connected(settings: EmailSettings) -> smtplib.SMTP:
    if settings.tls == "implicit":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=_RESPONSE_SECONDS, context=context)
    server = smtplib.SMTP(settings.host, settings.port, timeout=_RESPONSE_SECONDS)
    if settings.tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def email_message(settings: EmailSettings, document: Mapping[str, Any]) -> EmailMessage:
    """The e-mail of an alert. The subject contains fixed texts and the account's name only."""
    message = EmailMessage()
    head, _, body = str(document["text"]).partition("\n")
    message["Subject"] = head
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid("okasie-tasks", domain="localhost")
    message["Auto-Submitted"] = "auto-generated"
    run = f"\nRun: {document['run']}" if document["run"] else ""
    facts = f"Account: {document['account'] or 'all'}{run}\nKind: {document['kind']}\nAt: {document['at']}\n"
    message.set_content(f"{body}\n\n{facts}")
    return message
