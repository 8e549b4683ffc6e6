"""Runs a command that the kernel kills when the program which started it ends, however it ends.

`python leash.py PARENT_PID COMMAND…` becomes the command, with the same process id. A program of its own
rather than a hook between fork and exec, which is not safe in a program with threads. Where there is no
Linux, the command runs without a leash.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, command: list[str]) -> None:
    """Take the leash and become the command; does not return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it ended before the leash was on
            sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606  # there is no shell to want
    except OSError as failure:
        sys.exit(f"cannot run {command[0]}: {failure.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
