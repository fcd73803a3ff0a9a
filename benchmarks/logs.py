"""The processor time of a log line, formatted with facts and context, for several numbers of secrets to mask.

python benchmarks/logs.py
"""

from __future__ import annotations

import io
import logging
import sys
import time

from okasie_tasks import logs, masking
from okasie_tasks.settings import LogSettings

LINES = 5_000


def main() -> None:
    for secrets in (3, 200):
        masking._known = ()
        for number in range(secrets):
            masking.know(f"oks_live_{number:04d}_4b1d5e8c9a7f")
        for form in ("json", "console"):
            logs.set_up(LogSettings(format=form), level=logging.INFO, stream=io.StringIO())
            log = logs.get_logger("okasie_tasks.benchmark")
            with logs.about(account="dex", run="01JABCDEFGHJKMNPQRSTVWXYZ0", task="okasie.advance", task_id="x" * 36):
                began = time.process_time()
                for number in range(LINES):
                    log.info("listing rejected", reference=f"DG-{number}", code="invalid", reason="price: is missing")
                spent = time.process_time() - began
            print(f"{form:8} {secrets:4} secrets: {spent / LINES * 1e6:6.0f} us a line", file=sys.stdout)


if __name__ == "__main__":
    main()
