"""Play rounds by seed; stop it when you like, and go on with the same command.

    python -m tests.chaos --rounds 200 --start 1 --results chaos.jsonl
    python -m tests.chaos --summary chaos.jsonl

Seeds that stand in the results file are not played again; ``--seed N`` plays one. The end tells, per fault, how long
everything took to go on; ``--summary FILE...`` tells it of results that are there, without playing. Processes side by
side do not meet: give each seeds and a results file of its own. SIGTERM stops it as Ctrl-C does. ``--quick``: with the shorter waits of continuous integration. ``--keep``: the fleets' folders
stay, with their logs; that of a round that went wrong stays in any case. Exit status 1: a round was wrong.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import time
from pathlib import Path

import msgspec

from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Fleet
from tests.chaos.round import Result, Round, plans_of
from tests.chaos.scripted import Script

ROUNDS_PER_FLEET = 20
CALM = "calm"


class Player:
    """Plays rounds on a fleet, and starts another one when a round went wrong or it has played enough."""

    def __init__(self, *, quick: bool, keep: bool = False, rounds_per_fleet: int = ROUNDS_PER_FLEET) -> None:
        self._quick, self._keep, self._most = quick, keep, rounds_per_fleet
        self._fleet: Fleet | None = None
        self._calm: dict[int, float] = {}
        self._played = 0

    def acquire(self) -> tuple[Fleet, str]:
        """A fleet that is whole, and an account that has seen nothing."""
        if self._fleet is None:
            self._begin()
        assert self._fleet is not None
        self._fleet.restart_all()
        self._fleet.whole()
        account, self._played = f"r{self._played}", self._played + 1
        return self._fleet, account

    def play(self, seed: int) -> Result:
        """One round; the fleet's folder stays, and is told, when it went wrong."""
        fleet, account = self.acquire()
        result = Round(fleet, account, seed, calm=self._calm, plans=plans_of(seed)).play()
        if result.wrong or self._played >= self._most:
            self.stop(keep=bool(result.wrong))
        return result

    def play_script(self, script: Script) -> list[str]:
        """One scripted accident. Returns what is wrong; the fleet's folder stays then, as after a round."""
        try:
            wrong = script(*self.acquire())
        except AssertionError as error:
            wrong = [str(error)]
        if wrong:
            self.stop(keep=True)
        return wrong

    def _begin(self) -> None:
        accounts = [CALM, *(f"r{number}" for number in range(self._most))]
        self._fleet = Fleet(accounts, quick=self._quick).__enter__()
        self._played = 0
        calm = Round(self._fleet, CALM, 0, calm={}, plans=[])
        result = calm.play()
        assert not result.wrong, f"a calm round went wrong: {result.wrong}; see {self._fleet.folder}"
        self._calm = calm.took

    def stop(self, *, keep: bool = False) -> None:
        if self._fleet is not None:
            self._fleet.__exit__()
            if keep or self._keep:
                print(f"logs: {self._fleet.folder}", file=sys.stderr)
            else:
                shutil.rmtree(self._fleet.folder, ignore_errors=True)
        self._fleet = None


def told(results: list[Result]) -> str:
    """The table of recoveries. Where two faults met, neither went on sooner: such rounds have columns of their own."""
    alone: dict[str, list[float]] = {}
    met: dict[str, list[float]] = {}
    for result in results:
        for fault, seconds in result.recovery.items():
            (alone if len(result.faults) == 1 else met).setdefault(fault, []).append(seconds)
    lines = [
        "seconds until all was done, beyond a calm run",
        f"{'fault':18} alone    p50    max | met another    p50    max",
    ]
    lines += [f"{name:18} {_spread(alone.get(name), 5)} | {_spread(met.get(name), 11)}" for name in FAULTS]
    wrong = [result.seed for result in results if result.wrong]
    lines.append(f"{len(results)} rounds, {len(wrong)} wrong{': seeds ' + str(wrong) if wrong else ''}")
    return "\n".join(lines)


def _spread(found: list[float] | None, width: int) -> str:
    if not found:
        return f"{0:{width}} {'-':>6} {'-':>6}"
    return f"{len(found):{width}} {statistics.median(found):6.1f} {max(found):6.1f}"


def read(file: Path) -> list[Result]:
    if not file.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in file.read_bytes().splitlines() if line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--results", type=Path, default=Path("chaos.jsonl"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--summary", type=Path, nargs="+", metavar="FILE")
    asked = parser.parse_args()
    if asked.summary:
        results = [result for file in asked.summary for result in read(file)]
        print(told(results))
        return int(any(result.wrong for result in results))
    # A background process of a shell is born deaf to Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seeds = [asked.seed] if asked.seed is not None else range(asked.start, asked.start + asked.rounds)
    known = set() if asked.seed is not None else {result.seed for result in read(asked.results)}
    player, played = Player(quick=asked.quick, keep=asked.keep), []
    try:
        for seed in seeds:
            if seed in known:
                continue
            result = player.play(seed)
            played.append(result)
            with asked.results.open("ab") as file:
                file.write(msgspec.json.encode(result) + b"\n")
            verdict = "right" if not result.wrong else f"WRONG: {'; '.join(result.wrong[:5])}"
            print(f"{time.strftime('%H:%M:%S')} {seed} {result.recovery} {result.states} {verdict}", flush=True)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
    finally:
        player.stop()
    results = played if asked.seed is not None else read(asked.results)
    print(told(results))
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
