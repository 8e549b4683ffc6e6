"""The client as a whole: wallet, gateways, payer and what runs in the background."""

import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import structlog
import trio
from sqlalchemy import Connection

from otrta_core import OtrtaError
from otrta_wallet import MintRefused, Operation, TokenSpent, Wallet
from otrta_wallet.decisions import Verdict
from proxy_trio import calls
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.call_recovery import CallRecovery
from proxy_trio.client_settings import WALLET_FILE, ClientSettings
from proxy_trio.gateway import gateway_transport
from proxy_trio.gateways import Gateways, distrust
from proxy_trio.schema import CallState
from proxy_trio.wallet_payer import WalletPayer

_log = structlog.get_logger(__name__)

VERSION_TABLE: Final = "client_version"
RECOVER_EVERY_S: Final = 15.0
SHORTEST_SWAP_DELAY_S: Final = 0.5


class ClientParticipant:
    """Disputes a payment whose change turned out to be spent, together with the failed swap."""

    def operation_done(self, conn: Connection, operation: Operation) -> None:
        """Nothing to do: kept change counts from the moment it is stored."""

    def operation_failed(self, conn: Connection, operation: Operation, verdict: Verdict) -> None:
        """The change was not ours to have: the gateway handed it out twice, or never had it."""
        if operation.kind != "redeem" or operation.reference is None or verdict is not Verdict.FAIL_SPENT:
            return
        try:
            call = calls.load(conn, operation.reference)
        except KeyError:
            return
        reason = "the change had been spent already"
        calls.change(
            conn,
            operation.created_at,
            call.id,
            was=(*calls.OPEN, CallState.DISPUTED, CallState.DONE),
            state=CallState.DISPUTED,
            missing_msat=call.change_msat,
            change_msat=0,
            reason=reason,
        )
        distrust(conn, operation.created_at, call.gateway, reason)


@dataclass(slots=True)
class Client:
    """What the proxy, the commands and the wallet actions work on."""

    home: Path
    settings: ClientSettings
    wallet: Wallet
    gateways: Gateways
    payer: WalletPayer
    recovery: CallRecovery
    _wake: trio.Event
    _locks: dict[str, trio.Lock]

    async def settle_call(self, call_id: str) -> None:
        """Bring one payment as far as it can be brought now; one at a time for each."""
        lock = self._locks.setdefault(call_id, trio.Lock())
        async with lock:
            try:
                await self.recovery.settle(call_id)
            except OtrtaError as error:
                _log.warning("call_not_settled", call=call_id, reason=error.code)
        if not lock.statistics().tasks_waiting:
            self._locks.pop(call_id, None)

    async def recover_once(self, *, at_once: bool = False) -> int:
        """End whatever can be ended now and return how much is still open.

        Args:
            at_once: do not wait for the time of the next try.
        """
        found = await self.wallet.recover()
        run = self.wallet.transactions.run
        now = self.wallet.transactions.now()
        states = (*calls.OPEN, CallState.DISPUTED)
        for call in await run(lambda conn, _now: calls.with_states(conn, states)):
            due = at_once or call.next_try_at <= now
            if due and call.id not in self.payer.running:
                await self.settle_call(call.id)
        left = await run(lambda conn, _now: calls.with_states(conn, calls.OPEN))
        return found.open + len(left)

    async def redeem_kept(self) -> None:
        """Swap all change that waits for it, each by itself."""
        for operation in await self.wallet.kept():
            await self._redeem(operation.id)

    async def _redeem(self, operation_id: str) -> None:
        try:
            await self.wallet.redeem(operation_id)
        except (TokenSpent, MintRefused, OtrtaError):
            return  # it is closed, or stays kept for the next round

    def wake(self, _call_id: str) -> None:
        """Have the background look at open payments now."""
        self._wake.set()

    async def run(self) -> None:
        """Do what runs in the background, until cancelled: recovery on a timer, swaps at random delays."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._recover_for_ever)
            nursery.start_soon(self._swap_for_ever, nursery)

    async def _recover_for_ever(self) -> None:
        while True:
            try:
                await self.recover_once()
            except Exception as error:
                _log.error("recovery_failed", error=type(error).__name__)
            with trio.move_on_after(RECOVER_EVERY_S):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _swap_for_ever(self, nursery: trio.Nursery) -> None:
        waiting: set[str] = set()

        async def swap_later(operation_id: str) -> None:
            # when each swap happens must not tell which call it belongs to
            longest = max(self.settings.privacy.swap_delay_s, SHORTEST_SWAP_DELAY_S)
            await trio.sleep(random.SystemRandom().uniform(SHORTEST_SWAP_DELAY_S, longest))
            await self._redeem(operation_id)
            waiting.discard(operation_id)

        while True:
            for operation in await self.wallet.kept():
                if operation.id not in waiting:
                    waiting.add(operation.id)
                    nursery.start_soon(swap_later, operation.id)
            await trio.sleep(SHORTEST_SWAP_DELAY_S)


@asynccontextmanager
async def open_client(
    home: Path, settings: ClientSettings, *, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Client]:
    """Open the client of a home directory, which is made if there is none.

    Raises:
        WalletBusy: another process has it open.
    """
    make_private(home)
    async with AsyncExitStack() as stack:
        wallet = await stack.enter_async_context(
            Wallet.open(
                f"sqlite:///{home / WALLET_FILE}",
                participants=[ClientParticipant()],
                migrations=[("proxy_trio", VERSION_TABLE)],
            )
        )
        if transport is None:
            transport = await stack.enter_async_context(gateway_transport())
        gateways = Gateways(wallet.transactions, transport)
        bookkeeper = Bookkeeper(wallet)
        recovery = CallRecovery(wallet, bookkeeper, transport)
        client: Client

        async def settle_now(call_id: str) -> None:
            await client.settle_call(call_id)

        payer = WalletPayer(
            wallet, gateways, bookkeeper, settings.limits, lambda call_id: client.wake(call_id), settle_now
        )
        client = Client(home, settings, wallet, gateways, payer, recovery, trio.Event(), {})
        for url in settings.mints:
            await wallet.mints.add(url, offline_ok=True)
        for url in settings.gateways:
            await gateways.add(url, offline_ok=True)
        yield client


def make_private(home: Path) -> None:
    """Make a directory that only its owner can look into."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(home, 0o700)
