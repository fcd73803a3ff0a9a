"""The command line. Commands are imported when they are called, so that ``okasie --help`` answers at once."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from okasie_tasks import __version__
from okasie_tasks.cli.common import common
from okasie_tasks.errors import ConfigurationError, ConnectionFailed, OkasieError, PlanOutdated
from okasie_tasks.masking import MaskedStream, mask

COMMANDS: Final = {
    "demo": "okasie_tasks.cli.demo:demo",
    "init": "okasie_tasks.cli.setup:init",
    "up": "okasie_tasks.cli.up:up",
    "sync": "okasie_tasks.cli.runs:sync",
    "plan": "okasie_tasks.cli.runs:plan",
    "approve": "okasie_tasks.cli.control:approve",
    "reject": "okasie_tasks.cli.control:reject",
    "push": "okasie_tasks.cli.listings:push",
    "sell": "okasie_tasks.cli.listings:sell",
    "cancel": "okasie_tasks.cli.control:cancel",
    "pause": "okasie_tasks.cli.control:pause",
    "resume": "okasie_tasks.cli.control:resume",
    "status": "okasie_tasks.cli.runs:status",
    "runs": "okasie_tasks.cli.runs:runs",
    "run": "okasie_tasks.cli.runs:run",
    "why": "okasie_tasks.cli.listings:why",
    "rejects": "okasie_tasks.cli.listings:rejects",
    "retry": "okasie_tasks.cli.listings:retry",
    "metrics": "okasie_tasks.cli.metrics:metrics",
    "alerts": "okasie_tasks.cli.alerts:alerts",
    "doctor": "okasie_tasks.cli.doctor:doctor",
    "sandbox": "okasie_tasks.cli.up:sandbox",
    "completion": "okasie_tasks.cli.setup:completion",
}
"""Every command and where it lives. A test holds the README against this."""

_SHORT: Final = {
    "demo": "The main job, start to finish, on parts that start and end with it.",
    "init": "Draft an okasie.toml from a feed's header and first rows.",
    "up": "Everything on this machine in one go: Redis if embedded, workers, Beat, Flower.",
    "sync": "Enqueue one run of an account and follow it to its end.",
    "plan": "Show what a run would send, and why; sends nothing.",
    "approve": "Send what a held plan makes wait.",
    "reject": "Drop a held plan.",
    "push": "Send listings now, ahead of whatever runs.",
    "sell": "Mark listings sold now, ahead of whatever runs.",
    "cancel": "End a run after its requests in flight.",
    "pause": "Stop all work of an account.",
    "resume": "Let a paused account go on.",
    "status": "Last runs, cursor, quota, lanes, held plans, rejects, staleness.",
    "runs": "The history of an account.",
    "run": "One run with its counts, timings, requests and errors.",
    "why": "Everything known of one listing: what was sent, what was answered, what comes next.",
    "rejects": "What is parked: refused by the marketplace, or invalid in the source.",
    "retry": "Send again what the marketplace refused, with a run.",
    "metrics": "Serve the fleet's metrics for Prometheus.",
    "alerts": "Who is told of what and which alerts wait; or a test alert.",
    "doctor": "Check configuration, Redis, API keys and sources; says how to mend.",
    "sandbox": "An Okasie API on this machine, to develop and test against.",
    "completion": "The script that completes commands and options in bash, zsh or fish.",
}


_STATUS: Final[dict[type[OkasieError], int]] = {ConfigurationError: 2, PlanOutdated: 3, ConnectionFailed: 5}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_SHORT.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.version_option(__version__, prog_name="okasie")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Keep a car dealer's inventory in step with the Okasie marketplace."""
    context.obj = options


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script: runs a command and maps errors to one line and an exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.stdout, sys.stderr = MaskedStream(sys.stdout), MaskedStream(sys.stderr)
    try:
        cli.main(arguments, prog_name="okasie", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said, also not by the interpreter's own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        print("okasie: interrupted; a run that was started goes on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        document, status = describe(error)
        _show(document, as_json="--json" in arguments)
        sys.exit(status)


def describe(error: Exception) -> tuple[dict[str, Any], int]:
    """The error document of ``--json`` and the exit status for an error."""
    if isinstance(error, OkasieError):
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 1)
        document = {"code": error.code, "message": error.message, "where": error.where}
        return document | ({"run": error.run} if isinstance(error, PlanOutdated) else {}), status
    if isinstance(error, click.ClickException):
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else None
        return {"code": "usage", "message": error.format_message(), "where": where}, 2
    if type(error).__module__.split(".")[0] in ("redis", "kombu"):
        return {
            "code": "not_reachable",
            "message": f"Redis does not answer ({type(error).__name__})",
            "where": "redis",
        }, 5
    if os.environ.get("OKASIE_DEBUG"):
        traceback.print_exception(error)
    told = mask(f"{type(error).__name__}: {error}").splitlines()[0][:300]
    return {"code": "internal", "message": f"{told} (a defect; OKASIE_DEBUG=1 shows more)", "where": None}, 1


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": document}, ensure_ascii=False))
        return
    where = f"{document['where']}: " if document["where"] else ""
    print(f"okasie: {where}{document['message']}", file=sys.stderr)
