"""The client as a whole: wallet, gateways, payer and what runs in the background."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import structlog
import trio
from sqlalchemy import Connection

from otrta_wallet import Wallet
from otrta_wallet.mint_client import mint_transport, new_http_client
from otrta_wallet.mint_url import normalize_mint_url
from proxy_trio import calls
from proxy_trio.app_keys import KeyRing
from proxy_trio.approvals import Approvals
from proxy_trio.asking import Source
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.call_recovery import CallRecovery
from proxy_trio.calls import PaidCall
from proxy_trio.cashier import Cashier
from proxy_trio.client_settings import WALLET_FILE, ClientSettings
from proxy_trio.gateway import gateway_transport
from proxy_trio.gateways import Gateways, gateway_url
from proxy_trio.locked_pool import LockedPool
from proxy_trio.mover import Mover
from proxy_trio.offers import sources
from proxy_trio.participant import ClientParticipant
from proxy_trio.private_files import make_private
from proxy_trio.schema import CallState
from proxy_trio.spending import Spending
from proxy_trio.stocking import Stocker
from proxy_trio.swapping import Swapper
from proxy_trio.wallet_payer import WalletPayer
from proxy_trio.ways import WayFinder, Ways

_log = structlog.get_logger(__name__)

VERSION_TABLE: Final = "client_version"
RECOVER_EVERY_S: Final = 15.0
TOP_UP_EVERY_S: Final = 60.0
SIDE_BY_SIDE: Final = 8
"""How many payments are settled at once, so that a silent gateway holds up no other."""


@dataclass(slots=True)
class Client:
    """What the proxy, the commands and the wallet actions work on."""

    home: Path
    settings: ClientSettings
    wallet: Wallet
    gateways: Gateways
    payer: WalletPayer
    recovery: CallRecovery
    swapper: Swapper
    mover: Mover
    spending: Spending
    keys: KeyRing
    approvals: Approvals
    ways: Ways
    new_transport: Callable[[], httpx.AsyncBaseTransport]
    pool: LockedPool
    _wake: trio.Event = field(default_factory=trio.Event)
    _locks: dict[str, trio.Lock] = field(default_factory=dict)

    def put_in_force(self, settings: ClientSettings) -> None:
        """Let other budgets hold from now on; all else does so at the next start."""
        live = {"budgets": settings.budgets, "require_keys": settings.require_keys}
        self.settings = self.spending.settings = self.settings.model_copy(update=live)

    async def settle_call(self, call_id: str) -> None:
        """Bring one payment as far as it can be brought now; one at a time for each. Never raises."""
        lock = self._locks.setdefault(call_id, trio.Lock())
        async with lock:
            try:
                await self.recovery.settle(call_id)
            except Exception as error:
                _log.error("call_not_settled", call=call_id, error=type(error).__name__)
        if not lock.statistics().tasks_waiting:
            self._locks.pop(call_id, None)

    async def recover_once(
        self, *, at_once: bool = False, everything: bool = False, expired: bool = False
    ) -> int:
        """End whatever can be ended now and return how much is still open.

        Args:
            at_once: do not wait for the time of the next try, of payments and at mints.
            everything: do not wait for it at mints.
            expired: also ask for invoices that were given up.
        """
        found = await self.wallet.recover(everything=at_once or everything, expired=expired)
        await self.mover.drop_unbegun()
        run = self.wallet.transactions.run
        now = self.wallet.transactions.now()
        states = (*calls.OPEN, CallState.DISPUTED)
        limit = trio.CapacityLimiter(SIDE_BY_SIDE)
        async with trio.open_nursery() as nursery:
            for call in await run(lambda conn, _now: calls.with_states(conn, states)):
                if (at_once or call.next_try_at <= now) and call.id not in self.payer.running:
                    nursery.start_soon(self._settle_within, limit, call)
            for call in await run(_with_token_left):
                if at_once or call.next_try_at <= now:
                    nursery.start_soon(self._verify_within, limit, call)
        await self.pool.take_back()
        left = await run(lambda conn, _now: calls.with_states(conn, calls.OPEN))
        return found.open + len(left)

    async def _settle_within(self, limit: trio.CapacityLimiter, call: PaidCall) -> None:
        async with limit:
            await self.settle_call(call.id)

    async def _verify_within(self, limit: trio.CapacityLimiter, call: PaidCall) -> None:
        async with limit:
            try:
                await self.recovery.verify(call)
            except Exception as error:
                _log.error("call_not_verified", call=call.id, error=type(error).__name__)

    def wake(self, _call_id: str) -> None:
        """Have the background look at open payments now."""
        self._wake.set()

    async def run(self) -> None:
        """Do what runs in the background, until cancelled: recovery on a timer, swaps at random delays."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._recover_for_ever)
            nursery.start_soon(self.swapper.run)
            nursery.start_soon(Stocker(self.wallet).run)
            nursery.start_soon(self.pool.run)
            nursery.start_soon(self._top_up_for_ever)

    async def top_up_once(self) -> None:
        """Move a float to the mints of trusted gateways that take none of the mints where money is."""
        for entry in await self.gateways.entries():
            info = self.gateways.info_at_hand(entry.url)
            if info is not None and entry.distrusted_for is None:
                await self.mover.top_up(sources(info, self.wallet.mints.urls))

    async def _top_up_for_ever(self) -> None:
        while True:
            await trio.sleep(TOP_UP_EVERY_S)
            try:
                await self.top_up_once()
            except Exception as error:
                _log.error("top_up_failed", error=type(error).__name__)

    async def _recover_for_ever(self) -> None:
        at_start = True
        while True:
            self._wake = trio.Event()
            try:
                await self.recover_once(everything=at_start)
                at_start = False
            except Exception as error:
                _log.error("recovery_failed", error=type(error).__name__)
            with trio.move_on_after(RECOVER_EVERY_S):
                await self._wake.wait()


@asynccontextmanager
async def open_client(
    home: Path,
    settings: ClientSettings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    mint_http: httpx.AsyncClient | None = None,
    clock: Callable[[], float] = time.time,
    words: str | None = None,
) -> AsyncIterator[Client]:
    """Open the client of a home directory, which is made if there is none.

    Args:
        home: the directory.
        settings: that hold there.
        transport: to gateways; one is made where none is given.
        mint_http: the client that talks to mints; likewise.
        clock: unix time.
        words: of the wallet's seed, where it is to be restored; None for its own.

    Raises:
        WalletBusy: another process has it open.
        SeedInUse: the wallet has been used with other words.
    """
    make_private(home)
    async with AsyncExitStack() as stack:
        wallet: Wallet
        ways = settings.ways()

        def new_transport() -> httpx.AsyncBaseTransport:
            return WayFinder(ways, gateway_transport, apart=ways.apart)

        if transport is None:
            transport = await stack.enter_async_context(new_transport())
        if mint_http is None:
            to_mints = WayFinder(ways, mint_transport)
            mint_http = await stack.enter_async_context(new_http_client(transport=to_mints))

        def give_up(conn: Connection, now: float, transfer_id: str) -> None:
            wallet.close_transfer(conn, now, transfer_id)

        wallet = await stack.enter_async_context(
            Wallet.open(
                f"sqlite:///{home / WALLET_FILE}",
                participants=[ClientParticipant(clock, give_up)],
                migrations=[("proxy_trio", VERSION_TABLE)],
                clock=clock,
                http=mint_http,
                words=words,
            )
        )
        await ways.load(wallet.transactions)
        gateways = Gateways(wallet.transactions, transport)
        bookkeeper = Bookkeeper(wallet)
        recovery = CallRecovery(wallet, bookkeeper, transport)
        swapper = Swapper(
            wallet, bookkeeper, settings.privacy.swap_delay_s, merge=settings.privacy.merge_change
        )
        spending = Spending(settings)
        keys = KeyRing(wallet.transactions)
        await keys.load()
        approvals = Approvals(wallet.transactions)
        swapping: dict[Source, trio.Lock] = defaultdict(trio.Lock)
        pool = LockedPool(wallet, gateways, swapping)
        client: Client

        async def settle_now(call_id: str) -> None:
            await client.settle_call(call_id)

        mover = Mover(wallet, settings.move_rules, swapper.swap_now)
        payer = WalletPayer(
            wallet,
            gateways,
            bookkeeper,
            Cashier(wallet, spending, approvals, swapper.swap_now, pool, swapping),
            lambda call_id: client.wake(call_id),
            settle_now,
            mover.bring,
        )
        client = Client(
            home,
            settings,
            wallet,
            gateways,
            payer,
            recovery,
            swapper,
            mover,
            spending,
            keys,
            approvals,
            ways,
            new_transport,
            pool,
        )
        await _add_from_settings(client)
        yield client


async def _add_from_settings(client: Client) -> None:
    for url in client.settings.mints:
        if normalize_mint_url(url) not in client.wallet.mints.urls:
            await client.wallet.mints.add(url, offline_ok=True)
    known = {entry.url for entry in await client.gateways.entries()}
    for url in client.settings.gateways:
        if gateway_url(url) not in known:
            await client.gateways.add(url, offline_ok=True)


def _with_token_left(conn: Connection, _now: float) -> list[PaidCall]:
    return calls.with_token_left(conn)
