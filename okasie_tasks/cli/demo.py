"""``okasie demo``: a complete sync against a temporary sandbox, Redis and workers."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import requests

from okasie_tasks.cli.common import Context, command_options, echo, emit, progress_line
from okasie_tasks.cli.up import queue_check
from okasie_tasks.core.listing import Listing, write_body
from okasie_tasks.errors import OkasieError
from okasie_tasks.local.fleet import LocalFleet
from okasie_tasks.sandbox.sample import cars, config_text, write_csv

_CARS: Final = 3_000
_SEED: Final = 2026
_NEW_PRICES, _NEW_CARS, _GONE_CARS = 60, 20, 12
_ACCOUNT: Final = "demo"


@click.command()
@click.option(
    "--vehicles", default=_CARS, show_default=True, type=click.IntRange(200, 20_000), help="How many sample vehicles."
)
@command_options
def demo(context: Context, vehicles: int) -> None:
    """Sync a sample inventory to a sandbox, change both sides, sync again, and verify that they agree."""
    # SIGTERM ends it as Ctrl-C does: the context managers below exit, so no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="okasie-demo-") as folder, contextlib.chdir(folder):
        # The user's set-up stays untouched: no Redis from the environment, no celeryconfig.py from the current folder.
        for name in [name for name in os.environ if name.startswith(("OKASIE_", "CELERY_"))]:
            del os.environ[name]
        document = _Demo(Path(folder), vehicles, quiet=context.as_json).play()
    document["seconds"] = round(time.monotonic() - started, 1)
    emit(context, document, lambda: echo(f"done in {document['seconds']:.0f} s; nothing was left behind"))
    sys.exit(0 if document["equal"] else 1)


class _Demo:
    def __init__(self, folder: Path, vehicles: int, *, quiet: bool) -> None:
        self._quiet = quiet
        self._feed = folder / "inventory.csv"
        self._config = folder / "okasie.toml"
        self._rows = cars(vehicles, seed=_SEED)
        # Real feeds have invalid rows: one car has no price. It is reported; the others are processed.
        self._rows[vehicles // 2]["price_eur"] = "op aanvraag"
        self._vehicles = vehicles
        write_csv(self._feed, self._rows)
        text = config_text(feed=self._feed.name, base_url="http://127.0.0.1:1", key="demo", account=_ACCOUNT)
        self._config.write_text(text, encoding="utf-8")

    def play(self) -> dict[str, Any]:
        with LocalFleet(self._config, _silent, with_sandbox=True, beat=False, flower=False, web=False) as fleet:
            fleet.wait_ready(queue_check(fleet))
            self._print(
                f"{self._vehicles:,} vehicles of a dealer group; a sandbox API (120 requests a minute), Redis and four"
                " Celery workers are running"
            )
            return self._steps(fleet)

    def _steps(self, fleet: LocalFleet) -> dict[str, Any]:
        context = Context(self._config, as_json=self._quiet)
        first = self._run(context, "1. first full run", "full")
        self._change()
        self._edit(fleet)
        self._print(
            f"   then: {_NEW_PRICES} new prices, {_NEW_CARS} cars bought, {_GONE_CARS} sold, and one price edited"
            " on Okasie"
        )
        planned = self._plan(context)
        second = self._run(context, "3. incremental run", "incremental")
        proof = self._prove(fleet)
        self._print(
            f"4. proof, read from the sandbox: {proof['live']} live listings there, {proof['valid']} valid vehicles"
            f" here, {proof['differing']} differ; {proof['sold']} marked sold"
        )
        self._print(
            f"   busiest minute {proof['busiest_minute']} of 120 requests, busiest second {proof['busiest_second']} of"
            f" 5, refused {proof['rate_limited']}"
        )
        return {"equal": proof["equal"], "first": first, "plan": planned, "second": second, "proof": proof}

    # -- the steps -------------------------------------------------------------------------------------------------

    def _run(self, context: Context, title: str, mode: str) -> dict[str, Any]:
        from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - after the configuration is written

        follower = Follower(context, _ACCOUNT)
        document = follower.follow(follower.start(mode))
        listings, sent = document["listings"], document["requests"]
        names = ("created", "updated", "sold", "unchanged", "rejected")
        counts = ", ".join(f"{listings[name]} {name}" for name in names if listings[name])
        request_count = sum(sent[name] for name in ("list", "bulk", "put", "delete"))
        self._print(
            f"{title}: {document['state']} in {document['seconds']:.1f} s: {counts}; {request_count} requests, fewest"
            f" possible {sent['minimum']}"
        )
        for reject in document.get("rejects", []):
            self._print(f"   rejected: {reject['reference']} ({reject['where']}): {reject['message']}")
        if document["state"] != "done":
            raise OkasieError(f"the run ended as {document['state']}: {document['error']}", where=document["run"])
        return document

    def _plan(self, context: Context) -> dict[str, int]:
        from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415

        follower = Follower(context, _ACCOUNT)
        run = follower.start("incremental", plan_only=True)
        follower.follow(run)
        reasons = collections.Counter(
            f"{c['action']}: {c['reason']}" + (f" ({', '.join(c['fields'])})" if c["fields"] else "")
            for c in follower.plan(run)["changes"]
        )
        title = "2. plan of the next run:"
        for reason, count in reasons.most_common():
            self._print(f"{title} {count:>3} {reason}")
            title = " " * len(title)
        return dict(reasons)

    def _change(self) -> None:
        """Change the feed as a day at the dealer does: new prices, cars sold and bought."""
        step = (self._vehicles - _GONE_CARS) // (_NEW_PRICES + 1)
        for index in range(_NEW_PRICES):
            row = self._rows[_GONE_CARS + index * step + 1]
            row["price_eur"] = (
                str(max(1_000, int(row["price_eur"]) - 400)) if row["price_eur"].isdigit() else "op aanvraag"
            )
        self._rows = self._rows[_GONE_CARS:] + cars(_NEW_CARS, seed=_SEED, first=self._vehicles + 1)
        write_csv(self._feed, self._rows)

    def _edit(self, fleet: LocalFleet) -> None:
        assert fleet.sandbox is not None  # noqa: S101
        edit = {"reference": self._rows[-_NEW_CARS - 2]["stock_no"], "set": {"price": 1}}
        answer = requests.post(
            f"{fleet.sandbox.admin_url}/listings", json={"key": _ACCOUNT, "edits": [edit]}, timeout=10
        )
        answer.raise_for_status()

    # -- the proof -------------------------------------------------------------------------------------------------

    def _prove(self, fleet: LocalFleet) -> dict[str, Any]:
        """Compare the sandbox's stored listings, field by field, with the feed read again."""
        assert fleet.sandbox is not None  # noqa: S101
        admin, params = fleet.sandbox.admin_url, {"key": _ACCOUNT}
        stored = requests.get(f"{admin}/listings", params=params, timeout=30)
        there = {row["externalReference"]: row for row in map(msgspec.json.decode, stored.iter_lines())}
        live = {reference: row for reference, row in there.items() if row["status"] != "sold"}
        here = dict(self._valid())
        differing = [r for r, listing in here.items() if r not in live or not _same(listing, live[r])]
        state = requests.get(f"{admin}/state", timeout=10).json()[_ACCOUNT]
        return {
            "valid": len(here),
            "live": len(live),
            "sold": len(there) - len(live),
            "differing": len(differing),
            "equal": not differing and set(live) == set(here),
            **{name: state[name] for name in ("busiest_minute", "busiest_second", "rate_limited")},
        }

    def _valid(self) -> Iterator[tuple[str, Listing]]:
        from okasie_tasks.services import Services  # noqa: PLC0415
        from okasie_tasks.settings import load_settings  # noqa: PLC0415

        for row in Services(load_settings(self._config)).source(_ACCOUNT).rows():
            if row.listing is not None and row.reference is not None:
                yield row.reference, row.listing

    def _print(self, line: str) -> None:
        if not self._quiet:
            echo(line)
            sys.stdout.flush()


def _same(listing: Listing, stored: dict[str, Any]) -> bool:
    """Return whether the sandbox holds exactly the values that were sent."""
    sent = msgspec.json.decode(write_body(listing))
    held = {name: value for name, value in stored["body"].items() if name != "externalReference"}
    return bool(sent == held)


def _silent(line: str) -> None:
    """Print only that a process ended; the fleet's other lines would clutter the output, and its errors are raised."""
    if "ended" in line:
        progress_line(line)
