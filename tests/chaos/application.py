"""An application that asks for things and dies: ``python -m tests.chaos.application URL CALLS DIES_AT BEFORE``.

It makes the calls (JSON: ``[[method, arguments], ...]``) and kills itself at one of them, just before its message would
be sent or just after it was. Everything before it has been accepted, everything after it was never asked for.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from celery import Celery

from okasie_tasks.client import Client

if __name__ == "__main__":
    url, calls, dies_at, before = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "before"
    client, sent = Client(url), 0
    send_task = Celery.send_task

    def deadly(self: Celery, *arguments: object, **named: object) -> object:
        global sent  # noqa: PLW0603 - a script of one use
        if sent == dies_at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send_task(self, *arguments, **named)  # type: ignore[arg-type]
        if sent == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sent += 1
        return answer

    Celery.send_task = deadly  # type: ignore[method-assign,assignment]
    for method, arguments in calls:
        getattr(client, method)(**arguments)
