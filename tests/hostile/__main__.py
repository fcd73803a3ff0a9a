"""Play hostile rounds by seed: any answer may be mangled, and the feed is changed while runs work.

    python -m tests.hostile --rounds 500 --seed 1
    python -m tests.hostile --seed 17 --rounds 1 --story

``--seed`` is that of the first round, and each further round has the next one; with several, each begins such a
series. The end tells which seeds went wrong, and
how many requests were sent beside the fewest possible. ``--story``: what happened in each round, not only in those that
went wrong. Exit status 1: a round went wrong, or the requests are more than 2 % above the fewest.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from okasie_tasks.local.embedded_redis import EmbeddedRedis
from okasie_tasks.local.supervisor import Supervisor
from okasie_tasks.marketplace import client
from tests.hostile.mangler import FOCUS
from tests.hostile.round import Result, excess, play, told


@contextmanager
def server() -> Iterator[str]:
    """A Redis with nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="ot-"))
    redis, supervisor = EmbeddedRedis(folder), Supervisor(print)
    try:
        redis.wait(supervisor.add(redis.child()))
        yield redis.url
    finally:
        supervisor.stop(5)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--focus", choices=FOCUS, default="", help="mangle nothing else")
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--first", action="store_true", help="stop at the first round that goes wrong")
    parser.add_argument("--verbose", action="store_true", help="with the logs of the package")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING if asked.verbose else logging.CRITICAL)
    # A busy machine may take a permit's lifetime to come from the permit to the request; a worker would come again.
    client._FRESH_SECONDS = client.LATE_SECONDS = 50.0  # type: ignore[misc]
    results: list[Result] = []
    began = time.monotonic()
    with server() as url:
        for seed in (first + number for first in asked.seed for number in range(asked.rounds)):
            results.append(result := play(seed, url, asked.focus))
            if result.wrong or asked.story:
                print(f"{seed} {result.style}, {result.seconds:g} s", flush=True)
                print("".join(f"    {line}\n" for line in result.story), end="")
                print("".join(f"  WRONG: {line}\n" for line in result.wrong[:5]), end="", flush=True)
            if result.wrong and asked.first:
                break
    print(*told(results), sep="\n")
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(result.wrong for result in results) or excess(results) > 2.0)


if __name__ == "__main__":
    sys.exit(main())
