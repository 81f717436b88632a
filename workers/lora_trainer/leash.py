"""Runs a program that does not outlive the process that started it: `python leash.py PARENT_PID PROGRAM ARGUMENTS`.

A worker that is killed leaves no trainer behind, which would go on using the GPU and writing checkpoints. Linux sends
SIGKILL when the parent is gone; elsewhere the program simply runs. It stands alone: the trainer's own Python runs it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have gone before the request.
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
