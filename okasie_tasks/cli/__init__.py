"""The command line. A command's module is imported when it is called, so that ``okasie --help`` starts fast."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from okasie_tasks import __version__
from okasie_tasks.cli.common import common, json_text
from okasie_tasks.cli.version import print_version
from okasie_tasks.errors import ConfigurationError, ConnectionFailed, OkasieError, PlanOutdated
from okasie_tasks.masking import MaskedStream, clean, mask
from okasie_tasks.telemetry import tracing

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
    "status": "okasie_tasks.cli.status:status",
    "runs": "okasie_tasks.cli.runs:runs",
    "run": "okasie_tasks.cli.runs:run",
    "listings": "okasie_tasks.cli.stock:listings",
    "why": "okasie_tasks.cli.listings:why",
    "rejects": "okasie_tasks.cli.stock:rejects",
    "retry": "okasie_tasks.cli.listings:retry",
    "web": "okasie_tasks.cli.web:web",
    "metrics": "okasie_tasks.cli.metrics:metrics",
    "alerts": "okasie_tasks.cli.alerts:alerts",
    "doctor": "okasie_tasks.cli.doctor:doctor",
    "health": "okasie_tasks.cli.health:health",
    "sandbox": "okasie_tasks.cli.up:sandbox",
    "completion": "okasie_tasks.cli.setup:completion",
}
"""Every command and its function. A test checks docs/cli.md against this."""

_SHORT: Final = {
    "demo": "Run a complete sync against a temporary sandbox.",
    "init": "Draft an okasie.toml from a feed's header and first rows.",
    "up": "Start everything on this machine: Redis if embedded, workers, Beat, Flower, console.",
    "sync": "Enqueue one run of an account and follow it until it ends.",
    "plan": "Show what a run would send, and why, without sending it.",
    "approve": "Approve a held plan and send it.",
    "reject": "Drop a held plan.",
    "push": "Send listings now, ahead of any run.",
    "sell": "Mark listings sold now, ahead of any run.",
    "cancel": "Cancel a run; its requests in flight are completed.",
    "pause": "Stop all work of an account.",
    "resume": "Resume a paused account.",
    "status": "Show last runs, cursor, quota, lanes, held plans, rejects, staleness.",
    "runs": "List the runs of an account.",
    "run": "Show one run with its counts, timings, requests and errors.",
    "listings": "List the listings of an account; search titles, VINs and references.",
    "why": "Explain one listing: what was sent, what was answered, what happens next.",
    "rejects": "List rejected listings: refused by the marketplace, or invalid in the source.",
    "retry": "Retry listings that the marketplace refused, with a run.",
    "web": "Serve the HTTP API and the console.",
    "metrics": "Serve metrics of all workers and accounts for Prometheus.",
    "alerts": "Show alert channels and pending alerts, or send a test alert.",
    "doctor": "Check configuration, Redis, API keys and sources, and show how to fix problems.",
    "health": "Check this machine's workers by their heartbeats, for probes.",
    "sandbox": "Serve an Okasie API on this machine, for development and tests.",
    "completion": "Print the completion script for bash, zsh or fish.",
}


_TRACED: Final = frozenset({"sync", "plan", "approve", "push", "sell", "retry"})
"""Commands that send something, so that a trace begins with them."""

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
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show the version."
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Keep a car dealer's inventory in step with the Okasie marketplace."""
    context.obj = options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and map errors to one line and an exit status. The entry point of the console script."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    sys.stdout, sys.stderr = MaskedStream(sys.stdout), MaskedStream(sys.stderr)
    try:
        with _traced(arguments):
            cli.main(arguments, prog_name="okasie", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has exited. The interpreter's own flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        print("okasie: interrupted; a run that was started continues", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        document, status = describe(error)
        _show(document, as_json="--json" in arguments)
        sys.exit(status)


@contextlib.contextmanager
def _traced(arguments: Sequence[str]) -> Iterator[None]:
    """Begin a trace, if the environment asks for traces and the command sends something."""
    name = next((one for one in arguments if one in COMMANDS), "")
    if name not in _TRACED or not tracing.start("command", __version__):
        yield
        return
    try:
        with tracing.span(f"okasie {name}"):
            yield
    finally:
        tracing.stop()


def describe(error: Exception) -> tuple[dict[str, Any], int]:
    """Return the error document of ``--json`` and the exit status for an error."""
    if isinstance(error, OkasieError):
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 1)
        document = {"code": error.code, "message": error.message, "where": error.where}
        return document | ({"run": error.run} if isinstance(error, PlanOutdated) else {}), status
    if isinstance(error, click.ClickException):
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else None
        return {"code": "usage", "message": error.format_message(), "where": where}, 2
    if type(error).__module__.split(".")[0] in ("redis", "kombu"):
        from okasie_tasks.store.redis_problems import redis_problem  # noqa: PLC0415 - help needs no redis-py

        problem = redis_problem(error)
        return {"code": "not_reachable", "message": f"{problem.message}: {problem.fix}", "where": "redis"}, 5
    if isinstance(error, OSError) and error.filename is not None:
        return {"code": "storage", "message": f"cannot be used: {error.strerror}", "where": str(error.filename)}, 1
    if os.environ.get("OKASIE_DEBUG"):
        traceback.print_exception(error)
    detail = clean(mask(f"{type(error).__name__}: {error}"))[:300]
    message = f"{detail} (a bug in okasie-tasks; OKASIE_DEBUG=1 prints the traceback)"
    return {"code": "internal", "message": message, "where": None}, 1


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json_text({"error": document}))
        return
    where = f"{document['where']}: " if document["where"] else ""
    print(f"okasie: {where}{document['message']}", file=sys.stderr)
