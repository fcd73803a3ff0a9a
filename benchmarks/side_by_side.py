"""Six ways to stay within the marketplace's quota, side by side in one run against one sandbox.

Each contender has a separate key, and so a separate quota (120 a minute, 5 a second). It has two processes with four
threads each, unlimited bulk work, and an urgent request every 5 to 10 s. All run at the same time on the same Redis and
the same machine. The figures come from the sandbox's log of arrivals, and from the time between the moment an urgent
request is due and its 2xx; the contenders' own figures are not used. The network is local, so the effect of jitter does
not show here: see limiter.py.

The first minute is warm-up. It is left out of ``sent``, ``use`` and the urgent waits, and counts for the refusals and
for the most in 60 s and 1 s. An urgent request without a response at the end counts with its age. Among fewer than 100
the p99 is the longest. ``use`` needs whole minutes: a contender that sends 120 at once and then waits looks busier in
half a minute.

The two rows of Celery: a ``rate_limit`` is per worker, so ``120/m`` on a task is 240 with two workers. ``60/m`` is the
limit divided by the number of workers, which must be changed whenever a worker is added or lost.

    python benchmarks/side_by_side.py [--minutes 5] [--window sliding|fixed|bucket] [--json]
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import requests
from rich.console import Console
from rich.table import Column, Table

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

try:
    from rivals import ORDER, PER_MINUTE, PER_SECOND, PROCESSES, THREADS, Order, due_times
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install -c constraints.txt -e '.[bench]'") from None

from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Child, Supervisor
from tests.store.simulation import busiest

WARM_UP_SECONDS: Final = 60.0
_START_SECONDS: Final = 60.0
CONTENDERS: Final = {
    "guide": "the guide's own sleeps",
    "celery": "Celery rate_limit 120/m",
    "celery-by-hand": "Celery rate_limit 60/m",
    "limits": "limits, moving window",
    "pyrate": "PyrateLimiter, Redis bucket",
    "ours": "ours",
}
RATES: Final = {"celery": f"{PER_MINUTE}/m", "celery-by-hand": f"{PER_MINUTE // PROCESSES}/m"}
"""The limit as documented, and divided by the number of workers."""


class Row(msgspec.Struct, frozen=True):
    """One contender. Waits in seconds."""

    contender: str
    sent_per_minute: float
    use: float
    refused: int
    most_in_60_s: int
    accepted_in_60_s: int
    most_in_1_s: int
    urgent_p50: float
    urgent_p99: float
    urgent: int
    urgent_unanswered: int


# -- processes -------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A process ended early, or a contender did nothing: no table is better than a wrong one."""


def watch(children: Sequence[Child]) -> None:
    for child in children:
        if not child.alive:
            status = child.process.returncode if child.process else None
            raise Failed(f"{child.name} ended (status {status}):\n{child.log.read_text(errors='replace')[-3000:]}")


def log_match(supervisor: Supervisor, child: Child, pattern: str) -> re.Match[str]:
    """Wait until the child's log matches."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        watch(supervisor.children)
        if found := re.search(pattern, child.log.read_text(errors="replace"), re.MULTILINE):
            return found
        time.sleep(0.05)
    raise Failed(f"{child.name} was not ready within {_START_SECONDS:g} s: {child.last_line()}")


def programs(order: Order) -> list[Child]:
    """The processes of one contender."""
    argvs = [[sys.executable, str(HERE / "rivals.py")]] * PROCESSES
    if order.contender in RATES:
        worker = [
            sys.executable, "-m", "celery", "-A", "celery_rival", "worker", "-P", "threads", "-c", str(THREADS),
            "-Q", f"{order.contender}.urgent,{order.contender}.bulk", "--without-mingle", "--without-gossip",
            "-l", "INFO",
        ]  # fmt: skip
        argvs = [[*worker, "-n", f"{order.contender}-{number}@%h"] for number in range(PROCESSES)]
        argvs.append([sys.executable, str(HERE / "celery_rival.py")])
    children = []
    for number, argv in enumerate(argvs):
        name = f"{order.contender}-{number}"
        text = msgspec.json.encode(msgspec.structs.replace(order, number=number)).decode()
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), ORDER: text}
        children.append(Child(name, argv, log=Path(order.folder) / f"{name}.log", env=env))
    return children


def sandbox(folder: Path, window: str) -> Child:
    keys = [word for name in CONTENDERS for word in ("--key", name)]
    quota = ["--limit", str(PER_MINUTE), "--burst", str(PER_SECOND), "--window", window]
    argv = [sys.executable, "-m", "okasie_tasks", "sandbox", "--json", "--port", "0", *keys, *quota]
    return Child("sandbox", argv, log=folder / "sandbox.log", env={**os.environ, "PYTHONPATH": str(HERE.parent)})


# -- measuring -------------------------------------------------------------------------------------------------------


def measure(name: str, arrivals: list[dict[str, Any]], answers: dict[int, float], start: float, end: float) -> Row:
    """The row of a contender. ``arrivals``: the sandbox's log; ``answers``: when each urgent request had its 2xx."""
    arrivals = [arrival for arrival in arrivals if arrival["at"] < end]
    accepted = [arrival["at"] for arrival in arrivals if arrival["status"] == 200]
    refused = sum(arrival["status"] == 429 for arrival in arrivals)
    if len(accepted) + refused != len(arrivals):
        raise Failed(f"{name}: answers that are neither 200 nor 429")
    steady, minutes = start + WARM_UP_SECONDS, (end - start - WARM_UP_SECONDS) / 60
    sent = sum(arrival["at"] >= steady for arrival in arrivals)
    moments = [
        (index, start + moment) for index, moment in enumerate(due_times(end - start)) if start + moment >= steady
    ]
    waits = sorted(min(answers.get(index, end), end) - moment for index, moment in moments)
    if not sent or not waits:
        raise Failed(
            f"{name}: {sent} requests and {len(waits)} urgent ones after the first minute are too few to measure"
        )
    return Row(
        contender=CONTENDERS[name],
        sent_per_minute=sent / minutes,
        use=sum(at >= steady for at in accepted) / minutes / PER_MINUTE,
        refused=refused,
        most_in_60_s=busiest([arrival["at"] for arrival in arrivals], 60.0),
        accepted_in_60_s=busiest(accepted, 60.0),
        most_in_1_s=busiest([arrival["at"] for arrival in arrivals], 1.0),
        urgent_p50=_percentile(waits, 0.50),
        urgent_p99=_percentile(waits, 0.99),
        urgent=len(waits),
        urgent_unanswered=sum(index not in answers for index, _ in moments),
    )


def _percentile(ordered: list[float], share: float) -> float:
    """A percentile by nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def run(folder: Path, supervisor: Supervisor, seconds: float, window: str) -> list[Row]:
    server = EmbeddedRedis(folder)
    server.wait(supervisor.add(server.child()))
    ready = json.loads(log_match(supervisor, supervisor.add(sandbox(folder, window)), r"^\{.*\}$")[0])
    for name in CONTENDERS:
        order = Order(name, 0, ready["base_url"], server.url, str(folder), seconds, RATES.get(name, ""))
        for child in programs(order):
            supervisor.add(child)
            log_match(supervisor, child, r"\bready\b")
    start = time.time() + 1.0
    end = start + seconds
    (folder / "go.part").write_text(repr(start))
    (folder / "go.part").replace(folder / "go")
    while time.time() < end:
        watch(supervisor.children)
        time.sleep(min(0.5, max(0.0, end - time.time())))
    rows = []
    for number, name in enumerate(CONTENDERS, 1):
        key = "sandbox" if number == 1 else f"sandbox{number}"  # the names that the command gives its keys
        arrivals = requests.get(f"{ready['admin_url']}/requests", params={"key": key}, timeout=60).json()
        file = folder / f"{name}.urgent"
        lines = file.read_text().splitlines() if file.exists() else []
        answers = {int(index): float(at) for index, at in (line.split() for line in lines)}
        rows.append(measure(name, arrivals, answers, start, end))
    return rows


# -- showing ---------------------------------------------------------------------------------------------------------


def show(rows: list[Row]) -> Table:
    table = Table(Column("contender", no_wrap=True))
    for title in ("sent / min", "use", "429s", "most in 60 s", "accepted", "most in 1 s", "urgent p50", "p99", "n"):
        table.add_column(title, justify="right")
    for row in rows:
        open_ones = f" ({row.urgent_unanswered} open)" if row.urgent_unanswered else ""
        table.add_row(
            row.contender,
            f"{row.sent_per_minute:.1f}",
            f"{row.use:.1%}",
            str(row.refused),
            str(row.most_in_60_s),
            str(row.accepted_in_60_s),
            str(row.most_in_1_s),
            f"{row.urgent_p50:.2f} s",
            f"{row.urgent_p99:.2f} s",
            f"{row.urgent}{open_ones}",
        )
    return table


@click.command()
@click.option(
    "--minutes", default=5.0, show_default=True, type=click.FloatRange(1, min_open=True), help="With warm-up."
)
@click.option("--window", default="sliding", show_default=True, type=click.Choice(["sliding", "fixed", "bucket"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def main(minutes: float, window: str, as_json: bool) -> None:
    """Six ways to stay within the marketplace's quota, side by side."""
    folder = Path(tempfile.mkdtemp(prefix="ob-"))
    supervisor = Supervisor(print)
    try:
        rows = run(folder, supervisor, minutes * 60, window)
    except Failed as error:
        raise SystemExit(str(error)) from None
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        document = {"minutes": minutes, "window": window, "contenders": rows}
        print(json.dumps(msgspec.to_builtins(document), indent=2))
    else:
        Console(width=130).print(f"{minutes:g} minutes, {window} window", show(rows))


if __name__ == "__main__":
    main()
