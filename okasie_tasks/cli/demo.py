"""``okasie demo``: the main job, start to finish, on parts that start and end with it."""

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

from okasie_tasks.cli.common import Context, command_options, emit, say
from okasie_tasks.cli.up import asker
from okasie_tasks.core.listing import Listing, write_body
from okasie_tasks.errors import OkasieError
from okasie_tasks.local.fleet import LocalFleet
from okasie_tasks.sandbox.sample import cars, config_text, write_csv

_CARS: Final = 3_000
_SEED: Final = 2026
_NEW_PRICES, _NEW_CARS, _GONE_CARS = 60, 20, 12
_ACCOUNT: Final = "demo"


@click.command()
@click.option("--vehicles", default=_CARS, show_default=True, type=click.IntRange(200, 20_000), help="Sample size.")
@command_options
def demo(context: Context, vehicles: int) -> None:
    """Sync a sample dealer group's inventory to a sandbox, change both sides, sync again, and prove that they agree."""
    # SIGTERM ends it as Ctrl-C does: through the exits of the blocks below, so that no process stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="okasie-demo-") as folder, contextlib.chdir(folder):
        # It touches nothing of the user's: no Redis from the environment, no celeryconfig.py from this folder.
        for name in [name for name in os.environ if name.startswith(("OKASIE_", "CELERY_"))]:
            del os.environ[name]
        played = _Demo(Path(folder), vehicles, quiet=context.as_json).play()
    played["seconds"] = round(time.monotonic() - started, 1)
    emit(context, played, lambda: click.echo(f"done in {played['seconds']:.0f} s; nothing was left behind"))
    sys.exit(0 if played["equal"] else 1)


class _Demo:
    def __init__(self, folder: Path, vehicles: int, *, quiet: bool) -> None:
        self._quiet = quiet
        self._feed = folder / "inventory.csv"
        self._config = folder / "okasie.toml"
        self._rows = cars(vehicles, seed=_SEED)
        # One car without a price, as every real feed has one: it is reported, and the others go on.
        self._rows[vehicles // 2]["price_eur"] = "op aanvraag"
        self._vehicles = vehicles
        write_csv(self._feed, self._rows)
        text = config_text(feed=self._feed.name, base_url="http://127.0.0.1:1", key="demo", account=_ACCOUNT)
        self._config.write_text(text, encoding="utf-8")

    def play(self) -> dict[str, Any]:
        with LocalFleet(self._config, _silent, with_sandbox=True, beat=False, flower=False) as fleet:
            fleet.wait_ready(asker(fleet))
            self._tell(
                f"{self._vehicles:,} vehicles of a dealer group; a sandbox API (120 requests a minute), Redis and four"
                " Celery workers are running"
            )
            return self._acts(fleet)

    def _acts(self, fleet: LocalFleet) -> dict[str, Any]:
        context = Context(self._config, as_json=self._quiet)
        first = self._run(context, "1. first full run", "full")
        self._change()
        self._edit(fleet)
        self._tell(
            f"   then: {_NEW_PRICES} new prices, {_NEW_CARS} cars bought, {_GONE_CARS} sold, and one price edited by"
            " hand on Okasie"
        )
        planned = self._plan(context)
        second = self._run(context, "3. incremental run", "incremental")
        proof = self._prove(fleet)
        self._tell(
            f"4. proof, read from the sandbox: {proof['live']} live listings there, {proof['valid']} valid vehicles"
            f" here, {proof['differing']} differ; {proof['sold']} marked sold"
        )
        self._tell(
            f"   busiest minute {proof['busiest_minute']} of 120 requests, busiest second {proof['busiest_second']} of"
            f" 5, refused {proof['rate_limited']}"
        )
        return {"equal": proof["equal"], "first": first, "plan": planned, "second": second, "proof": proof}

    # -- the acts --------------------------------------------------------------------------------------------------

    def _run(self, context: Context, title: str, mode: str) -> dict[str, Any]:
        from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415 - after the configuration stands

        follower = Follower(context, _ACCOUNT)
        document = follower.follow(follower.start(mode))
        listings, sent = document["listings"], document["requests"]
        names = ("created", "updated", "sold", "unchanged", "rejected")
        counts = ", ".join(f"{listings[name]} {name}" for name in names if listings[name])
        asked = sum(sent[name] for name in ("list", "bulk", "put", "delete"))
        self._tell(
            f"{title}: {document['state']} in {document['seconds']:.1f} s: {counts}; {asked} requests, fewest possible"
            f" {sent['minimum']}"
        )
        for reject in document.get("rejects", []):
            self._tell(f"   rejected: {reject['reference']} ({reject['where']}): {reject['message']}")
        if document["state"] != "done":
            raise OkasieError(f"the run ended as {document['state']}: {document['error']}", where=document["run"])
        return document

    def _plan(self, context: Context) -> dict[str, int]:
        from okasie_tasks.cli.run_client import Follower  # noqa: PLC0415

        follower = Follower(context, _ACCOUNT)
        run = follower.start("incremental", plan_only=True)
        follower.follow(run)
        why = collections.Counter(
            f"{c['action']}: {c['reason']}" + (f" ({', '.join(c['fields'])})" if c["fields"] else "")
            for c in follower.plan(run)["changes"]
        )
        title = "2. plan of the next run:"
        for reason, count in why.most_common():
            self._tell(f"{title} {count:>3} {reason}")
            title = " " * len(title)
        return dict(why)

    def _change(self) -> None:
        """What a day at the dealer's does to the feed."""
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
        """Hold the sandbox's stored listings, field by field, against the feed read anew."""
        assert fleet.sandbox is not None  # noqa: S101
        admin, who = fleet.sandbox.admin_url, {"key": _ACCOUNT}
        stored = requests.get(f"{admin}/listings", params=who, timeout=30)
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

    def _tell(self, line: str) -> None:
        if not self._quiet:
            click.echo(line)
            sys.stdout.flush()


def _same(listing: Listing, stored: dict[str, Any]) -> bool:
    """Whether the sandbox holds every value that we sent, and no other."""
    sent = msgspec.json.decode(write_body(listing))
    held = {name: value for name, value in stored["body"].items() if name != "externalReference"}
    return bool(sent == held)


def _silent(line: str) -> None:
    """The group's own lines would only disturb the story; its errors are raised."""
    if "ended" in line:
        say(line)
