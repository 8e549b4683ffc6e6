"""How a command reaches the wallet: through the running ``otrta serve``, else by opening the store itself.

One process at a time owns a wallet, by the lock beside its database. While that lock is free nobody else is
asked for anything, so that a stale ``serve.json`` cannot send a token to a stranger's port. The wallet's own
libraries are imported only where they are needed: asking a running proxy takes a fraction of their time.
"""

import http.client
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from otrta_core import OtrtaError
from proxy_trio.client_settings import SERVE_FILE, TOKEN_FILE, WALLET_FILE, client_home

HOST: Final = "127.0.0.1"
BUSY_S: Final = 10.0
"""How long a command waits for another one to let go of the wallet."""
ACTION_TIMEOUT_S: Final = 180.0

_POLL_S = 0.1
_MAX_ANSWER_BYTES = 64 << 20


class ActionFailed(OtrtaError):
    """The running proxy could not carry an action out; ``failed_code`` is its error's machine code."""

    code = "action_failed"

    def __init__(self, message: str, failed_code: str) -> None:
        super().__init__(message)
        self.failed_code = failed_code


class WalletLink:
    """Carries out wallet actions on one home, each by itself: between two, the wallet is free."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = client_home() if home is None else home

    def act(self, action: str, **params: Any) -> Any:
        """Carry out an action and return its result.

        Raises:
            WalletBusy: another process has the wallet, and it is no running ``otrta serve``.
            OtrtaError: the action could not be carried out; the message says what to do.
        """
        deadline = time.monotonic() + BUSY_S
        while True:
            if not self.taken:
                try:
                    return _open_and_act(self.home, action, params)
                except OtrtaError as error:
                    if error.code != "wallet_busy":  # else somebody was quicker
                        raise
            elif (proxy := serving(self.home)) is not None:
                try:
                    return _ask(proxy, action, params)
                except ConnectionRefusedError:
                    pass  # it is on its way out
            if time.monotonic() > deadline:
                raise _busy(self.home)
            time.sleep(_POLL_S)

    @property
    def taken(self) -> bool:
        """Tell whether another process holds the lock that ``otrta_wallet.database`` puts on a wallet."""
        path = self.home / f"{WALLET_FILE}.lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0, mode=0o600):
                return False
        except Timeout:
            return True


def error_code(error: OtrtaError) -> str:
    """Return the machine code of an error, be it raised here or in the running proxy."""
    return error.failed_code if isinstance(error, ActionFailed) else error.code


def _busy(home: Path) -> OtrtaError:
    from otrta_wallet import WalletBusy

    return WalletBusy(f"another process has the wallet in {home} open: wait for it to end, or stop it")


def _open_and_act(home: Path, action: str, params: Mapping[str, Any]) -> Any:
    import trio

    from otrta_cli.seed_hint import hint_at_seed
    from proxy_trio.actions import act
    from proxy_trio.client import open_client
    from proxy_trio.client_settings import load_client_settings
    from proxy_trio.log import quiet

    quiet()
    settings = load_client_settings(home)

    async def work() -> Any:
        # the words of a restore are those of the wallet that it is made into
        async with open_client(home, settings, words=params.get("words")) as client:
            result = await act(client, action, params)
            await hint_at_seed(client)
            return result

    return trio.run(work)


@dataclass(frozen=True, slots=True)
class Serving:
    """A proxy that says it serves a home: its process, its port and the token that its wallet asks for."""

    pid: int
    port: int
    local_token: str = field(repr=False)


def serving(home: Path) -> Serving | None:
    """Return the proxy that says it serves this home, if its process lives."""
    try:
        told = json.loads((home / SERVE_FILE).read_text("utf-8"))
        pid, port = int(told["pid"]), int(told["port"])
        token = (home / TOKEN_FILE).read_text("utf-8").strip()
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return Serving(pid, port, token)


def _ask(proxy: Serving, action: str, params: Mapping[str, Any]) -> Any:
    connection = http.client.HTTPConnection(HOST, proxy.port, timeout=ACTION_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {proxy.local_token}"}
        connection.request("POST", f"/_otrta/{action}", json.dumps(params), headers)
        reply = connection.getresponse()
        data = reply.read(_MAX_ANSWER_BYTES)
    except ConnectionRefusedError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise ActionFailed(
            f"`otrta serve` did not answer ({type(error).__name__}); what it began goes on: "
            "look at `otrta history` before you try again",
            "no_answer",
        ) from None
    finally:
        connection.close()
    try:
        value = json.loads(data)
        error_told = value["error"] if reply.status >= 400 else None
    except (ValueError, KeyError, TypeError):
        raise ActionFailed("`otrta serve` answered with what is no answer of otrta's", "no_answer") from None
    if error_told is not None:
        raise ActionFailed(str(error_told.get("message")), str(error_told.get("code")))
    return value
