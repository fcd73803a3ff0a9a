"""The ``okasie`` command without its imports: a process that has them forks one process for each command.

Starting Python and importing Celery takes most of a short command's time, and the tests run hundreds of commands. A
command has its own process all the same: its own environment, working directory, streams and exit status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

_ROOT = Path(__file__).parents[1]
_STREAMS = 2


class Forks:
    """The process that has the imports; it ends when its standard input does. Its socket is in a short-named folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ot-")
        self._socket = str(Path(self._folder.name) / "forks.sock")
        argv = [sys.executable, "-m", "tests.forks", self._socket]
        self._process = subprocess.Popen(argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.read(1), "the forking process did not come up"

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: IO[bytes],
        stderr: IO[bytes],
        seconds: float,
    ) -> int:
        """Run ``okasie`` with these arguments to its end; its exit status, negative for a signal.

        Raises `subprocess.TimeoutExpired` when it takes longer than ``seconds``; it is killed then.
        """
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(self._socket)
            message = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(link, [len(message).to_bytes(4)], [stdout.fileno(), stderr.fileno()])
            link.sendall(message)
            pid = int.from_bytes(_read(link, 4))
            link.settimeout(seconds)
            try:
                return int.from_bytes(_read(link, 4), signed=True)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["okasie", *arguments], seconds) from None

    def close(self) -> None:
        self._process.communicate(timeout=60)
        self._folder.cleanup()


def _read(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = link.recv(size - len(found))
        assert part, "the forking process closed the connection"
        found += part
    return found


# -- in the process that forks ---------------------------------------------------------------------------------------


def serve(path: str) -> None:
    from okasie_tasks.cli import COMMANDS

    for name in {place.split(":")[0] for place in COMMANDS.values()}:
        importlib.import_module(name)
    for name in (
        "okasie_tasks.tasks",
        "okasie_tasks.worker.result_backend",
        "celery.app.amqp",
        "kombu.transport.redis",
    ):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        os.write(1, b"1")
        while True:
            ready, _, _ = select.select([0, listener], [], [])
            if 0 in ready:
                return
            link, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(link)
            link.close()


def _attend(link: socket.socket) -> NoReturn:
    """Fork the command, and tell its number and its end."""
    status = 1
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        size, streams, _, _ = socket.recv_fds(link, 4, _STREAMS)
        request = json.loads(_read(link, int.from_bytes(size)))
        pid = os.fork()
        if pid == 0:
            link.close()
            _command(streams, **request)
        link.sendall(pid.to_bytes(4))
        _, raw = os.waitpid(pid, 0)
        status = os.waitstatus_to_exitcode(raw)
        link.sendall(status.to_bytes(4, signed=True))
    os._exit(0)


def _command(streams: list[int], arguments: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    status = 70
    try:
        for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        sys.path[0:1] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
        sys.argv = ["okasie", *arguments]
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        status = _main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _main() -> int:
    from okasie_tasks.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
