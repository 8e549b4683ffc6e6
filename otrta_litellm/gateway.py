"""The gateway as a whole: it opens the wallet, keeps mints and debts in order, and settles what died."""

import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import anyio
import structlog
from sqlalchemy import Connection

from otrta_core import OtrtaError, Settlement, Token
from otrta_litellm import change, payments
from otrta_litellm.acceptance import Acceptance
from otrta_litellm.answers import GateError
from otrta_litellm.change_float import ChangeFloat
from otrta_litellm.checkout import Checkout
from otrta_litellm.guards import Guards
from otrta_litellm.lock_desk import LockDesk
from otrta_litellm.marker import RAISE_EVERY_S, Marker
from otrta_litellm.metrics import Metrics
from otrta_litellm.payments import Payment, PaymentParticipant
from otrta_litellm.payout import Payouts
from otrta_litellm.payout_rows import PayoutParticipant
from otrta_litellm.prices import REFRESH_EVERY_S, Prices
from otrta_litellm.rate_keeper import RateKeeper
from otrta_litellm.redemption import Redemption
from otrta_litellm.relay import HeldBytes
from otrta_litellm.risk import Risk
from otrta_litellm.router_view import RouterView
from otrta_litellm.schema import VERSION_TABLE, PaymentState
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.swap_queue import SwapQueue
from otrta_litellm.terms import Quotes
from otrta_litellm.till import Till
from otrta_litellm.turns import turn
from otrta_wallet import MintError, Wallet, store
from otrta_wallet.recovery import Recovery
from otrta_wallet.restore import EMPTY_BATCHES
from otrta_wallet.schema import ProofStatus

RECOVER_EVERY_S = 5.0
CLAIMS_EVERY_S = 20.0
PAYOUTS_EVERY_S = 10.0
RESTOCK_EVERY_S = 2.0

TAKE_BACK_EVERY_S = 600.0
SET_ASIDE_S = 30 * 86_400.0
"""How long change that a store's other life may have handed out can be spent by whoever has it."""

CLAIMS_AT_ONCE = 50
"""Of how many payments a mint is asked at once whether their change is spent; each has some 15 proofs."""

STARTUP_S = 15.0
FIRST_LOOK_S = 8.0
"""How long the mints may take at the start before calls are served."""

CHECK_WITHIN_S = 3.0
"""How long whoever asks for change waits for the mint's word on whether it is spent."""

GIVEN_UP_S = 60.0
"""A payment that was received and never got further is rejected after this long."""

_log = structlog.get_logger(__name__)


class Gateway:
    """One per process. ``run`` is its life; everything else may be called once it is ready.

    One that is not ``selling`` opens the store for its operator: it makes no prices and pays out nothing by
    itself.
    """

    def __init__(self, settings: GatewaySettings, view: RouterView, *, selling: bool = True) -> None:
        self.settings = settings
        self._selling = selling
        self.prices = Prices(settings, view, shared=not settings.store_url.startswith("sqlite"))
        self.rate = RateKeeper(settings.btc_usd)
        self.till = Till(settings)
        self.guards = Guards(settings)
        self.metrics = Metrics(settings.mints)
        self.held = HeldBytes(settings.buffer_total_bytes)
        self.running: set[str] = set()
        self.change_float = ChangeFloat()
        self._ready = anyio.Event()
        self._wallet: Wallet | None = None
        self._checkout: Checkout | None = None
        self._queue: SwapQueue | None = None
        self._locks: LockDesk | None = None
        self._payouts: Payouts | None = None

    async def run(self) -> None:
        """Open the wallet and keep it in order until cancelled.

        Raises:
            WalletBusy: another process has the store open.
        """
        participants = (PaymentParticipant(time.time), PayoutParticipant(time.time))
        migrations = [("otrta_litellm", VERSION_TABLE)]
        url = self.settings.store_url
        async with (
            self.metrics.mint_client() as http,
            Wallet.open(url, http=http, participants=participants, migrations=migrations) as wallet,
            self.rate,
        ):
            self._wallet = wallet
            self._queue = queue = SwapQueue(wallet, self.change_float)
            self._locks = locks = LockDesk(self.settings, wallet, queue)
            acceptance = Acceptance(self.settings, wallet, locks, lambda: self.guards.breakers.away)
            redemption = Redemption(
                wallet, acceptance, locks, queue, self.change_float, self.running, self._risk()
            )
            self._checkout = Checkout(Quotes(self.settings, self.prices), acceptance, locks, redemption)
            self._payouts = Payouts(self.settings, wallet)
            await wallet.transactions.run(payments.begin_life)
            marker = Marker(self.settings, wallet)
            await marker.arrive()
            await self._look_through_a_copy(marker)
            # a silent mint must not keep those from being served who pay with another's tokens
            with anyio.move_on_after(FIRST_LOOK_S):
                async with anyio.create_task_group() as tasks:
                    if self._selling:
                        tasks.start_soon(self._keep_rate)
                    await self._reach_mints()
                    await locks.refresh()
                    await self._recover_swaps(everything=True)
                    await self._end_calls()
            if selling := self._selling:
                await self._keep_prices()
            self._ready.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.run)
                works = (
                    self._reach_mints,
                    self._recover_swaps,
                    self._end_calls,
                    locks.refresh,
                    locks.work_off,
                )
                for work in works:
                    tasks.start_soon(self._every, RECOVER_EVERY_S, work)
                tasks.start_soon(self._every, CLAIMS_EVERY_S, self._watch_claims)
                tasks.start_soon(self._every, RESTOCK_EVERY_S, self._keep_float)
                tasks.start_soon(self._every, TAKE_BACK_EVERY_S, self._take_back)
                tasks.start_soon(self._every, RAISE_EVERY_S, marker.raise_number)
                if selling:
                    tasks.start_soon(self._every, PAYOUTS_EVERY_S, self._payouts.keep)
                for work in (self._keep_rate, self._keep_prices, self._keep_guards) if selling else ():
                    tasks.start_soon(self._every, REFRESH_EVERY_S, work)

    @property
    def _opened(self) -> Wallet:
        """The wallet, for what ``run`` does once it is open."""
        assert self._wallet is not None  # noqa: S101 (set before any of that)
        return self._wallet

    def _risk(self) -> Risk | None:
        settings = self.settings
        if settings.redeem == "before":
            return None
        return Risk(settings.at_risk_msat, settings.with_call_pause_s)

    async def wallet(self) -> Wallet:
        """Return the wallet, once it is open and recovered.

        Raises:
            GateError: it is not, after ``STARTUP_S``.
        """
        with anyio.move_on_after(STARTUP_S):
            await self._ready.wait()
        if self._wallet is None or not self._ready.is_set():
            raise GateError(
                "the gateway is still starting: nothing was taken; try again soon",
                code="starting",
                status=503,
            )
        return self._wallet

    async def checkout(self) -> Checkout:
        """Return the checkout, once the wallet is open; raises as ``wallet``."""
        await self.wallet()
        assert self._checkout is not None  # noqa: S101 (set before ready)
        return self._checkout

    async def payouts(self) -> Payouts:
        """Return the payouts, once the wallet is open; raises as ``wallet``."""
        await self.wallet()
        assert self._payouts is not None  # noqa: S101 (set before ready)
        return self._payouts

    async def recover(self) -> Recovery:
        """End now what is open, as far as the mints know; raises as ``wallet``."""
        wallet = await self.wallet()
        await self._reach_mints()
        found = await wallet.recover()
        await self._end_calls()
        await self._watch_claims()
        await (await self.payouts()).end_what_is_open()
        await self._take_back(0.0)
        return found

    async def settle(self, payment: Payment, settled: Settlement, outcome: str) -> Payment:
        """Settle a payment and make its change; see ``otrta_litellm.change.settle``."""
        wallet = await self.wallet()
        assert self._locks is not None  # noqa: S101 (set before ready)
        redeemed = partial(self._locks.redeemed, payment.id)
        try:
            return await change.settle(wallet, payment, settled, outcome, self.change_float, redeemed)
        finally:
            self.change_float.let_go(payment.id)
            self._locks.forget(payment.id)

    def forget(self, payment_id: str) -> None:
        """Note that a call is over: recovery settles its payment, should that be left to do."""
        self.running.discard(payment_id)
        self.change_float.let_go(payment_id)
        if self._locks is not None:
            self._locks.forget(payment_id)

    async def see_claims(self, payment: Payment) -> Payment:
        """Ask the mint whether a settled payment's change has been spent, and note it if so.

        Returns the payment as it then is; as it was where the mint cannot be asked, or has been often enough.
        """
        if payment.state is not PaymentState.SETTLED or payment.change_token is None:
            return payment
        if not self.guards.claim_looks.may(payment.id):
            return payment
        await self._look_for_claims(payment.mint, [payment])
        wallet = await self.wallet()
        return await wallet.transactions.run(lambda conn, _now: payments.load(conn, payment.id))

    async def _look_for_claims(self, mint: str, out: Sequence[Payment]) -> None:
        """Ask a mint which of these payments' change has been spent, and erase what was."""
        wallet = await self.wallet()
        ys = {p.id: [proof.Y for proof in Token.parse(p.change_token or "").proofs] for p in out}
        states: Mapping[str, str] = {}
        with anyio.move_on_after(CHECK_WITHIN_S), suppress(OtrtaError):
            states = await wallet.mints.client(mint).check_state(
                [y for of_one in ys.values() for y in of_one]
            )
        if not states:
            return

        def note(conn: Connection, now: float) -> None:
            for payment in out:
                if {states[y] for y in ys[payment.id]} != {"SPENT"}:
                    payments.put_off_claim(conn, now, payment.id, payment.changed_at)
                elif payments.claim(conn, now, payment.id):
                    # those that came back as a payment are no longer this one's
                    sent = store.proofs_with(conn, status=ProofStatus.SENT, holder=payment.id)
                    store.forget_proofs(conn, [proof.Y for proof in sent])

        await wallet.transactions.run(note)

    async def _look_through_a_copy(self, marker: Marker) -> None:
        """Where the store is a copy or a backup, find out what the other has done, before anything is served.

        Returns when each of the gateway's mints that the store knows has been asked.
        """
        wallet = self._opened
        while await marker.is_unsettled():
            async with turn(wallet, "copy") as ours:
                if ours and await self._catch_up_with_copies(wallet):
                    await marker.settle()
                    continue
            await anyio.sleep(RECOVER_EVERY_S)
        await wallet.lock_keys.load()

    async def _catch_up_with_copies(self, wallet: Wallet) -> bool:
        """Ask all mints; tells whether all have answered."""
        for mint in self.settings.mints:
            if mint in wallet.mints.urls:
                try:
                    gone = await wallet.catch_up_with_copies(mint, empty_batches=EMPTY_BATCHES)
                except OtrtaError as error:
                    _log.warning("copy_not_looked_through", mint=mint, reason=error.message)
                    return False
                _log.warning("copy_looked_through", mint=mint, gone=gone)
        await wallet.recover(everything=True)  # so that nothing more comes from what both lives had begun
        for mint in self.settings.mints:
            if mint in wallet.mints.urls:
                _log.warning("copy_set_aside", mint=mint, proofs=await wallet.set_aside(mint))
        return True

    async def _keep_float(self) -> None:
        """Break large proofs into what change has lately taken, so that it need not wait for a swap."""
        wallet = await self.wallet()
        for (mint, unit), wanted in self.change_float.standing().items():
            breaker = self.guards.breakers.of(mint)
            if not breaker.open:
                try:
                    await wallet.restock(mint, unit, wanted)
                except MintError as error:  # change is then made as it can be
                    breaker.failed()
                    _log.info("float_not_restocked", mint=mint, reason=error.message)

    async def _take_back(self, older_than_s: float = SET_ASIDE_S) -> None:
        """Swap what was set aside when the store was found to be a copy, and nobody has spent since."""
        wallet = await self.wallet()
        for mint in self.settings.mints:
            if mint in wallet.mints.urls:
                with suppress(OtrtaError):  # its mint is away: the next round tries again
                    await wallet.take_back(mint, older_than_s=older_than_s)

    async def _keep_rate(self) -> None:
        """Ask the feeds for the BTC/USD rate, where that is due."""
        await self.rate.keep(self._opened.transactions)

    async def _keep_guards(self) -> None:
        """Ask mints that are away whether they are back, and count what is held."""
        await self.guards.probe(self._opened)
        await self.guards.count_holdings(self._opened)

    async def _keep_prices(self) -> None:
        """Put this worker's prices in force, and learn of other workers'."""
        await self.prices.refresh(self._opened.transactions)

    async def _reach_mints(self) -> None:
        """Ask the mints that have not been reached yet for their keysets, side by side."""
        wallet = self._opened
        async with anyio.create_task_group() as tasks:
            for mint in self.settings.mints:
                if mint not in wallet.mints.urls or not wallet.mints.units(mint):
                    tasks.start_soon(self._reach, wallet, mint)

    async def _reach(self, wallet: Wallet, mint: str) -> None:
        try:
            await wallet.mints.add(mint, offline_ok=True)
        except OtrtaError as error:
            _log.warning("mint_unusable", mint=mint, reason=error.message)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again, each by itself, so that a silent mint holds up nothing else."""
        while True:
            await anyio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 (workers do not go in step)
            try:
                await work()
            except Exception as error:
                _log.error("upkeep_failed", work=work.__name__, error=type(error).__name__)

    async def _recover_swaps(self, *, everything: bool = False) -> None:
        """End swaps that died by the mint's state, where no other worker is at it."""
        wallet = self._opened
        async with turn(wallet, "recover") as ours:
            if ours:
                leave = set() if self._queue is None else self._queue.in_hand
                await wallet.recover(everything=everything, leave=leave)

    async def _end_calls(self) -> None:
        """Settle calls that died, here or with their worker, by what they delivered; and pay debts."""
        wallet = self._opened
        run = wallet.transactions.run
        now = wallet.transactions.now()
        await run(payments.take_over)
        for payment in await run(payments.ours_in_state, PaymentState.RECEIVED, self.running):
            if payment.id not in self.running and (payment.lease or payment.changed_at < now - GIVEN_UP_S):
                await run(payments.reject, payment.id)
        for payment in await run(payments.ours_in_state, PaymentState.REDEEMED, self.running):
            if payment.id not in self.running:
                with _by_itself(payment):
                    settled = self.till.settlement_after_crash(payment)
                    await change.settle(wallet, payment, settled, "recovered", self.change_float)
        for payment in await run(payments.ours_with_change_due, self.running):
            if payment.id not in self.running:
                with _by_itself(payment):
                    await change.make_due_change(wallet, payment)
        await run(change.free_what_nobody_is_owed)

    async def _watch_claims(self) -> None:
        """Look for change that has been spent, at all mints side by side."""
        wallet = await self.wallet()
        out: dict[str, list[Payment]] = defaultdict(list)
        for payment in await wallet.transactions.run(payments.take_claims_to_check):
            out[payment.mint].append(payment)
        async with anyio.create_task_group() as tasks:
            for mint, of_mint in out.items():
                for at in range(0, len(of_mint), CLAIMS_AT_ONCE):
                    tasks.start_soon(self._look_for_claims, mint, of_mint[at : at + CLAIMS_AT_ONCE])


@contextmanager
def _by_itself(payment: Payment) -> Iterator[None]:
    """Keep what goes wrong with one payment from holding up the others."""
    try:
        yield
    except Exception as error:
        _log.error("payment_not_ended", payment=payment.id, error=type(error).__name__)
