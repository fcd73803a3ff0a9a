"""``okasie health``: whether this machine's workers are alive, for the probes of container engines and systemd."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from okasie_tasks.cli.common import Context, command_options, echo, emit
from okasie_tasks.health import files
from okasie_tasks.health.files import Heartbeat
from okasie_tasks.health.place import state_dir
from okasie_tasks.health.verdict import problems


@click.command()
@click.option("--queue", help="Only the workers of this queue, such as okasie.api or api.")
@click.option("--ready", is_flag=True, help="Also require that they consume, and that Redis answers.")
@command_options
def health(context: Context, queue: str | None, ready: bool) -> None:
    """Check this machine's workers by the heartbeat files in state_dir; exits with 5 if one is not healthy.

    Does not ask Redis without --ready: a Redis that is away is no reason to restart a worker.
    """
    name = f"okasie.{queue}" if queue and "." not in queue else queue
    now = time.monotonic()
    place = files.folder(state_dir(context.config))
    workers = [
        _document(found, now, ready=ready) for found in files.read(place) if name is None or name in found.queues
    ]
    wrong = [problem for worker in workers for problem in worker["problems"]]
    if not workers:
        wrong.append(f"no worker{f' of {name}' if name else ''} has written a heartbeat to {place}")
    redis = _redis_problem(context) if ready else None
    wrong += [redis] if redis else []
    document = {"healthy": not wrong, "workers": workers, "problems": wrong}
    emit(context, document, lambda: _show(workers, wrong))
    sys.exit(5 if wrong else 0)


def _document(heartbeat: Heartbeat, now: float, *, ready: bool) -> dict[str, Any]:
    wrong = list(problems(heartbeat, now)) if files.runs(heartbeat) else ["the process ended without a shutdown"]
    if ready and not wrong and heartbeat.state != "consuming":
        wrong = [f"does not consume: {_doing(heartbeat.state, heartbeat.waits_for)}"]
    return {
        "worker": heartbeat.worker,
        "pid": heartbeat.pid,
        "queues": list(heartbeat.queues),
        "version": heartbeat.version,
        "configuration": heartbeat.configuration,
        "state": heartbeat.state,
        "waits_for": heartbeat.waits_for or None,
        "slots": {"busy": len(heartbeat.slots), "of": heartbeat.concurrency},
        "problems": [f"{heartbeat.worker}, process {heartbeat.pid}: {problem}" for problem in wrong],
    }


def _doing(state: str, waits_for: str | None) -> str:
    return f"{state}, waits for {waits_for}" if waits_for else state


def _redis_problem(context: Context) -> str | None:
    from okasie_tasks.cli.ready import redis_problem  # noqa: PLC0415 - liveness loads neither settings nor redis-py

    return redis_problem(context.config)


def _show(workers: list[dict[str, Any]], wrong: list[str]) -> None:
    for worker in workers:
        if not worker["problems"]:
            doing = _doing(worker["state"], worker["waits_for"])
            slots = f"{worker['slots']['busy']} of {worker['slots']['of']} slots busy"
            echo(f"healthy     {worker['worker']}: {doing}, {slots}")
    for problem in wrong:
        echo(f"UNHEALTHY   {problem}")
