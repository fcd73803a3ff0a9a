"""A script that executes a program which ends together with the parent process.

``python die_with_parent.py PARENT_PID SIGNAL PROGRAM ARGUMENT...``. Only Linux supports this (``PR_SET_PDEATHSIG``); on
other systems the program just starts. The script imports nothing from the package, so that it takes only 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, signal_number: int) -> None:
    """Ask the kernel to signal this process when ``parent`` ends. Exits at once if it has ended already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is wanted
