"""Files and directories that only their owner can look into."""

import os
import secrets
from pathlib import Path


def make_private(home: Path) -> None:
    """Make a directory that only its owner can look into."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(home, 0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step, so that nobody reads half of it."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
