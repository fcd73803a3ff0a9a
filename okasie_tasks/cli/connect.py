"""What commands need to read and change the state in Redis. Without Celery, which takes half a second to import."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Any, Final

import redis

from okasie_tasks import logs
from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.services import Services
from okasie_tasks.settings import configuration_hash, load_settings
from okasie_tasks.store.records import Run
from okasie_tasks.store.redis_problems import redis_problem

PUBLISH_SECONDS: Final = 10.0
"""A command outlasts a failover of some seconds."""
_UTC: Final = "UTC"


def services_of(context: Context) -> Services:
    """Return the services for this command's configuration, which the Celery app of this process uses as well."""
    settings = load_settings(context.config)
    logs.set_up(settings.log)
    os.environ["OKASIE_CONFIG"] = str(settings.config_file)
    services = Services(settings)
    try:
        services.check_layout()
    except redis.RedisError as error:
        raise ConnectionFailed(redis_problem(error).message, where="redis") from error
    return services


def warn_of_old_workers(services: Services) -> None:
    """Print a line if running workers do not have this command's configuration: the file was edited since."""
    workers, own = services.workers.live(), configuration_hash(services.settings)
    if others := sum(worker.configuration != own for worker in workers):
        file = services.settings.config_file
        progress_line(
            f"{others} of {len(workers)} workers run with another configuration than {file}, and a run uses theirs:"
            " restart `okasie up` or send it SIGHUP, or restart these workers"
        )


def operator() -> str:
    """Return who runs this command, as the history shows it: ``cli:USER@HOST``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user id may have no name
        user = str(os.getuid())
    return f"cli:{user}@{socket.gethostname()}"


def zone_of(services: Services, account: str) -> str:
    """Return the time zone of an account; UTC for one that is no longer configured."""
    settings = services.settings.accounts.get(account)
    return settings.timezone if settings else _UTC


def run_of(services: Services, name: str, *, least: int = 1) -> Run:
    """Return the run whose id begins with ``name``; see `okasie_tasks.actions.runs.find_run`."""
    from okasie_tasks.actions.runs import find_run  # noqa: PLC0415 - it imports kombu

    return find_run(services, name, least=least)


def with_zone(services: Services, document: dict[str, Any]) -> dict[str, Any]:
    """Add the ``timezone`` of the document's account, in which its text shows times."""
    return {**document, "timezone": zone_of(services, document["account"])}
