"""Makes the environments that the Makefile's targets run in, and does nothing where they are up to date.

`.venv` holds otrta with its gateway, its client and the development tools. `.venv-mint` holds the mint, whose
requirements cannot stand beside LiteLLM's. Each is installed from the complete pins of its constraints file,
without resolution, by uv, or by pip where uv fails (uv does not read pip's configuration).

A stamp in each environment tells where and from what it was made. It says "unfinished" while the environment
is being changed, so a run that broke half-way is started over by the next one.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

ROOT = Path(__file__).resolve().parent.parent
UNFINISHED = "unfinished"
IS_USABLE = "import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
HAS_OTRTA = "import sys; from importlib.util import find_spec; sys.exit(find_spec('otrta_core') is None)"


@dataclass(frozen=True, slots=True)
class Environment:
    """One virtual environment of the checkout and the file that pins all that is in it."""

    directory: Path
    pins: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.directory / "bin" / "python"

    @property
    def stamp(self) -> Path:
        """The file that says what the environment was made from."""
        return self.directory / "otrta-setup"

    def stamped(self) -> str:
        """What the stamp says; empty where there is none."""
        return self.stamp.read_text() if self.stamp.is_file() else ""


def fingerprint(environment: Environment, pyproject: Path) -> str:
    """What an environment is made from: its place, and a digest of its pins and of the project's metadata."""
    declared = tomllib.loads(pyproject.read_text())
    installed = [declared["build-system"], declared["project"], declared["tool"]["hatch"]]
    made_from = environment.pins.read_text() + json.dumps(installed, sort_keys=True)
    return f"{environment.directory}\n{hashlib.sha256(made_from.encode()).hexdigest()}\n"


def runs(python: Path, code: str) -> bool:
    """Whether this interpreter is there and runs this code without an error, isolated from ours."""
    return python.exists() and subprocess.run([python, "-I", "-c", code], capture_output=True).returncode == 0


def say(sentence: str) -> None:
    """Tell what happens, on stderr: stdout belongs to the program that is run afterwards."""
    print(f"set-up: {sentence}", file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    """Run a command in the checkout, its output on stderr; raises CalledProcessError when it fails.

    It inherits the lock, so that one which outlives a killed set-up still keeps the next set-up waiting.
    """
    subprocess.run(command, cwd=ROOT, stdout=sys.stderr, close_fds=False, check=True)


def begin(environment: Environment) -> None:
    """Mark the environment unfinished, and make it anew where a usable, finished one is not there.

    One that was moved counts as unfinished, because its programs name its old place. One without a stamp was
    made by hand and is kept.
    """
    directory = environment.directory
    broken = environment.stamped() and not environment.stamped().startswith(f"{directory}\n")
    if broken or not runs(environment.python, IS_USABLE):
        directory.mkdir(exist_ok=True)
        environment.stamp.write_text(UNFINISHED)
        for entry in directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                rmtree(entry)
            elif entry != environment.stamp:
                entry.unlink()
        say(f"making {directory.name} with Python {sys.version.split()[0]}")
        run(sys.executable, "-m", "venv", directory)
    environment.stamp.write_text(UNFINISHED)


def get_uv(environment: Environment) -> Path:
    """Install the pinned uv into the environment by pip.

    Two -q: machines with local package directories in pip's configuration get a warning for each otherwise.
    """
    run(environment.python, "-m", "pip", "install", "-q", "-q", "--constraint", environment.pins, "uv")
    return environment.directory / "bin" / "uv"


def install(environment: Environment, uv: Path) -> None:
    """Install all pins and, editable, the checkout.

    uv gets the machine's certificates in place of its own list: a network may have an issuer of its own.
    """
    say(f"installing {environment.pins.name} and otrta into {environment.directory.name}")
    what = ("--quiet", "--no-deps", "--requirement", environment.pins, "--editable", ROOT)
    try:
        run(uv, "pip", "install", "--system-certs", "--python", environment.python, *what)
    except (subprocess.CalledProcessError, OSError):
        say("uv could not do it; trying pip, which takes longer")
        run(environment.python, "-m", "pip", "install", *what)


def main() -> None:
    """Bring both environments up to date."""
    environments = [
        Environment(ROOT / ".venv", ROOT / "constraints.txt"),
        Environment(ROOT / ".venv-mint", ROOT / "constraints-mint.txt"),
    ]
    with (ROOT / ".setup.lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for environment in environments:
            wanted = fingerprint(environment, ROOT / "pyproject.toml")
            if environment.stamped() == wanted and runs(environment.python, HAS_OTRTA):
                continue
            begin(environment)
            install(environment, get_uv(environments[0]))
            environment.stamp.write_text(wanted)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        say(f"failed at `{' '.join(map(str, failed.cmd))}`; its reason is above. The next make starts over.")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
