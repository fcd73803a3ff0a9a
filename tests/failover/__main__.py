"""Play rounds: ``python -m tests.failover --rounds 20 [--start N] [--keep]``.

Each round is a full run with pushes while the master of Redis is killed, suspended, or killed after its replicas have
missed one to two seconds of writes, in turn. The end shows the recovery. Exit status 1: a round was wrong.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time

from tests.failover.round import FAULTS, LIMITS, FailoverRound, Result, SentinelFleet


def play(seeds: list[int], *, quick: bool = False, keep: bool = False) -> list[Result]:
    """Play a round without a fault, then one for each seed: ``FAULTS[seed % 3]``."""
    accounts = ["calm", *(f"r{seed}" for seed in seeds)]
    fleet, results = SentinelFleet(accounts, quick=quick, limits=LIMITS), []
    with fleet:
        # All feeds are there from the start: after a failover, every account runs.
        rounds = {seed: FailoverRound(fleet, f"r{seed}", seed) for seed in seeds}
        calm = FailoverRound(fleet, "calm", 0)
        results.append(calm.play(""))
        print(_line(results[-1]), flush=True)
        for seed in seeds:
            fleet.whole()
            results.append(rounds[seed].play(list(FAULTS)[seed % len(FAULTS)], calm_seconds=calm.took))
            print(_line(results[-1]), flush=True)
    if keep or any(result.wrong for result in results):
        print(f"logs: {fleet.folder}", file=sys.stderr)
    else:
        shutil.rmtree(fleet.folder, ignore_errors=True)
    return results


def _line(result: Result) -> str:
    verdict = f"WRONG: {'; '.join(result.wrong[:5])}" if result.wrong else "right"
    return (
        f"{time.strftime('%H:%M:%S')} {result.seed} {result.fault or 'calm'}: resumed {result.resumed} s,"
        f" settled {result.settled} s, pushes {result.accepted} + {result.refused} refused,"
        f" over quota {result.over_quota}, {result.states} {verdict}"
    )


def summary(results: list[Result]) -> str:
    struck = [result for result in results if result.fault]
    lines = [f"{'fault':14} rounds | resumed p50   max | settled p50   max (s)"]
    for fault in [*FAULTS, ""]:
        found = [result for result in struck if fault in ("", result.fault)]
        if found:
            spreads = [
                f"{statistics.median(values):11.1f} {max(values):5.1f}"
                for values in ([one.resumed for one in found], [one.settled for one in found])
            ]
            lines.append(f"{fault or 'all':14} {len(found):6} | {spreads[0]} | {spreads[1]}")
    over = max((result.over_quota for result in struck), default=0)
    wrong = [result.seed for result in results if result.wrong]
    pushes = sum(result.accepted for result in results)
    lines.append(f"{pushes} pushes accepted; at most {over} requests over the quota; wrong rounds: {wrong or 'none'}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    results = play(list(range(asked.start, asked.start + asked.rounds)), quick=asked.quick, keep=asked.keep)
    print(summary(results))
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
