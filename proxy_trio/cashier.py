"""Taking the money for a call out of the wallet: within the budgets, and journalled as it leaves."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio
from sqlalchemy import Connection

from otrta_core import CallRequest, KeysetError, OtrtaError, Token, Unit, face_value, format_msat, input_fee
from otrta_core.requests import OUTPUT_LIMIT_FIELD
from otrta_wallet import NotEnoughFunds, Transfer, Wallet
from otrta_wallet.errors import MintError
from proxy_trio import approvals, calls
from proxy_trio.app_keys import AppKey
from proxy_trio.approvals import ApprovalNeeded, Approvals, Ask
from proxy_trio.asking import Source
from proxy_trio.client_settings import as_msat
from proxy_trio.errors import ApprovalDenied, BudgetExceeded, WalletEmpty
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.locked_pool import LockedPool, Wanted
from proxy_trio.spending import Allowance, Spending

_SLACK = 64
"""A token may be twice what is wanted and this much, in its unit, before a swap is worth its time."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is to be paid, to whom, and where it may come from.

    Attributes:
        gateway: its URL.
        info: what it says of itself.
        request: the call.
        amount_msat: what must remain of the token after its input fee.
        bound_msat: the most that the call may cost; None for all that is paid.
        sources: (mint, unit) pairs, best first.
        exact: whether nothing beyond the amount is handed out, since it would not come back.
        takes: the mints that the gateway takes, for the message where none of them is the wallet's.
        key_id: of the app's key; None where it gave none.
    """

    gateway: str
    info: GatewayInfo
    request: CallRequest
    amount_msat: int
    bound_msat: int | None
    sources: tuple[Source, ...]
    exact: bool = False
    takes: tuple[str, ...] = ()
    key_id: str | None = None

    def ask(self, amount_msat: int) -> Ask:
        """Return what the choke point is asked, for a token of this face value."""
        return Ask(self.key_id, self.request.model, self.gateway, amount_msat)


class _TooLarge(Exception):
    """A token of more proofs or bytes than the gateway takes, or of more money than may leave at once."""


class Cashier:
    """Hands out tokens for calls, within what ``spending`` allows."""

    def __init__(
        self,
        wallet: Wallet,
        spending: Spending,
        approvals: Approvals,
        swap_now: Callable[[str, str], Awaitable[bool]],
        pool: LockedPool,
        swapping: Mapping[Source, trio.Lock],
    ) -> None:
        """Make a cashier.

        Args:
            wallet: whose money it is.
            spending: the choke point.
            approvals: holds calls until the user has said yes.
            swap_now: swaps kept change at a mint, because it is needed.
            pool: of tokens that are locked to gateways.
            swapping: held while money is taken out by a swap.
        """
        self._wallet = wallet
        self._spending = spending
        self._approvals = approvals
        self._swap_now = swap_now
        self._pool = pool
        self._swapping = swapping

    def admit(self, key: AppKey | None, model: str | None) -> None:
        """Refuse a model that may not be paid for, before any gateway hears of the call.

        Raises:
            ModelNotAllowed: by the settings, or by the app's key.
        """
        self._spending.admit(key, model)

    async def pay(self, payment_id: str, purchase: Purchase) -> Transfer:
        """Take a token out of the wallet, with the row of its payment.

        A payment that is to be approved is held until it is, for as long as the settings say. If cancelled,
        nothing has left.

        Raises:
            BudgetExceeded: it would go beyond a budget.
            SpendingPaused, KeyRefused, ModelNotAllowed: as ``Spending.allow`` says.
            ApprovalRequired, ApprovalDenied: the user has not approved it, or said no.
            WalletEmpty: no mint that the gateway takes has enough.
            MintError, KeysetError: a swap was needed, and its mint could not do it. Nothing has left in any
                case.
        """
        held_until = trio.current_time() + self._spending.approval_wait_s
        while True:
            try:
                return await self._pay(payment_id, purchase)
            except ApprovalNeeded:
                pass
            if await self._available_msat(purchase) < purchase.amount_msat:
                raise await self._wallet_empty(purchase)
            left_s = max(0.0, held_until - trio.current_time())
            await self._approvals.wait(purchase.ask(await self._needed_msat(purchase)), left_s)

    async def _pay(self, payment_id: str, purchase: Purchase) -> Transfer:
        """Take a token of the first mint that can; raises ``ApprovalNeeded`` too."""
        if not purchase.sources:
            names = ", ".join(purchase.takes) or "none that can be read"
            raise WalletEmpty(
                f"The gateway takes tokens of other mints than this wallet uses: {names}. If you trust one "
                "of them, `otrta mints add URL`, then `otrta invoice AMOUNT`.",
                required_msat=purchase.amount_msat,
                available_msat=0,
            )
        failure: OtrtaError | None = None
        for mint, unit in purchase.sources:
            try:
                transfer = await self._from(payment_id, purchase, mint, unit)
            except (MintError, KeysetError) as error:
                failure = error
                continue
            if transfer is not None:
                return transfer
        if failure is not None:
            raise failure
        raise await self._wallet_empty(purchase)

    async def _from(self, payment_id: str, purchase: Purchase, mint: str, unit: Unit) -> Transfer | None:
        """Take what is wanted from one mint, in one unit; None where there is not enough.

        A token that is locked to the gateway comes first, then proofs at hand, then a swap to the exact
        amount; kept change is swapped where it is needed.
        """
        amount = _net(purchase, unit)
        fees = self._wallet.mints.fee_ppk(mint)
        exact = self._exact(purchase, mint, unit)
        memo = secrets.token_hex(16)
        journal = self._journal(payment_id, purchase, unit, fees)
        most = exact if purchase.exact else 2 * amount + _SLACK

        async def at_hand() -> Transfer | None:
            with suppress(_TooLarge):
                return await self._wallet.transfer_at_hand(
                    mint,
                    amount,
                    unit,
                    net_of_fee=True,
                    at_most=min(most, self._at_most(unit, amount, exact)),
                    memo=memo,
                    reference=payment_id,
                    also=journal(unit.to_msat(amount)),
                )
            return None

        async def locked() -> Transfer | None:
            at_most = min(most, self._at_most(unit, amount, exact))
            wanted = Wanted((purchase.gateway, mint, unit), purchase.info, amount, at_most)
            with suppress(_TooLarge):
                return await self._pool.take(wanted, payment_id, journal(unit.to_msat(amount)))
            return None

        if not purchase.exact and (transfer := await locked()) is not None:
            return transfer
        if (transfer := await at_hand()) is not None:
            return transfer
        # one swap at a time: what another one holds back meanwhile would look like an empty wallet
        async with self._swapping[mint, unit]:
            while True:
                if (transfer := await at_hand()) is not None:
                    return transfer
                # before the swap, which would be for nothing, and would cost counters of the seed
                await self._wallet.transactions.run(self._spending.allow, purchase.ask(unit.to_msat(exact)))
                await self._wallet.mints.refresh_if_old(mint)
                try:
                    return await self._wallet.send(
                        mint,
                        exact,
                        unit,
                        memo=memo,
                        reference=payment_id,
                        record=None,
                        also=journal(unit.to_msat(exact)),
                    )
                except NotEnoughFunds:
                    if not await self._swap_now(mint, unit):
                        return None
                except _TooLarge:
                    raise WalletEmpty(
                        "The gateway takes only smaller tokens than this call needs. Ask for less output.",
                        required_msat=purchase.amount_msat,
                        available_msat=0,
                    ) from None

    def _journal(
        self, payment_id: str, purchase: Purchase, unit: Unit, fees: Mapping[str, int]
    ) -> Callable[[int], Callable[[Connection, float, Transfer], None]]:
        request, limits = purchase.request, purchase.info.limits

        def journal(least_msat: int, conn: Connection, now: float, transfer: Transfer) -> None:
            text = transfer.token or ""
            token = Token.parse(text)
            if len(text) > limits.max_token_bytes or len(token.proofs) > limits.max_proofs:
                raise _TooLarge
            paid_msat = unit.to_msat(transfer.amount)
            allowance = self._allow(conn, now, purchase, paid_msat, least_msat)
            fee_msat = unit.to_msat(input_fee(token.proofs, fees))
            capped_by_payment = request.kind in OUTPUT_LIMIT_FIELD and request.output_limit is None
            known = None if capped_by_payment else purchase.bound_msat
            bound_msat = paid_msat - fee_msat if known is None else known
            calls.begin(
                conn,
                now,
                id=payment_id,
                key_id=purchase.key_id,
                gateway=purchase.gateway,
                model=request.model,
                stream=request.stream,
                mint=transfer.mint,
                unit=unit.value,
                transfer_id=transfer.id,
                paid_msat=paid_msat,
                fee_msat=fee_msat,
                bound_msat=min(bound_msat, paid_msat - fee_msat),
            )
            if allowance.approval is not None:
                approvals.use(conn, allowance.approval.id, payment_id)

        return lambda least_msat: partial(journal, least_msat)

    def _allow(
        self, conn: Connection, now: float, purchase: Purchase, paid_msat: int, least_msat: int
    ) -> Allowance:
        """Have a token allowed; raises ``_TooLarge`` where only one that fits better would be."""
        try:
            return self._spending.allow(conn, now, purchase.ask(paid_msat))
        except (BudgetExceeded, ApprovalNeeded, ApprovalDenied):
            if paid_msat <= least_msat:
                raise
            self._spending.allow(conn, now, purchase.ask(least_msat))
            raise _TooLarge from None

    def _at_most(self, unit: Unit, amount: int, exact: int) -> int:
        """Return the largest token that is worth trying, in its unit, by what is known without the store."""
        settings = self._spending.settings
        threshold_msat = as_msat(settings.budgets.approve_above_sat)
        most = 2 * amount + _SLACK
        if settings.limits.per_request_msat is not None:
            most = min(most, max(amount, unit.at_most(settings.limits.per_request_msat)))
        if threshold_msat is not None:
            most = min(most, max(exact, unit.at_most(threshold_msat)))
        return most

    async def _needed_msat(self, purchase: Purchase) -> int:
        """Return the face value that is to be approved: of the first source that has it, else the most."""
        has = {(b.mint, b.unit): b.available for b in await self._wallet.balances()}
        amounts = {source: self._exact(purchase, *source) for source in purchase.sources}
        enough = [
            unit.to_msat(amount)
            for (mint, unit), amount in amounts.items()
            if has.get((mint, unit.value), 0) >= amount
        ]
        return next(iter(enough), max(unit.to_msat(amount) for (_, unit), amount in amounts.items()))

    def _exact(self, purchase: Purchase, mint: str, unit: Unit) -> int:
        """Return the face value of a token made for a purchase by a swap, in its unit."""
        return face_value(_net(purchase, unit), max(self._wallet.mints.fee_ppk(mint).values(), default=0))

    async def _wallet_empty(self, purchase: Purchase) -> WalletEmpty:
        available = await self._available_msat(purchase)
        return WalletEmpty(
            f"This call may cost up to {format_msat(purchase.amount_msat)}, and {format_msat(available)} can "
            "be spent for it. Top up: `otrta invoice AMOUNT`.",
            required_msat=purchase.amount_msat,
            available_msat=available,
        )

    async def _available_msat(self, purchase: Purchase) -> int:
        wanted = {(mint, unit.value) for mint, unit in purchase.sources}
        balances = await self._wallet.balances()
        return sum(Unit.parse(b.unit).to_msat(b.available) for b in balances if (b.mint, b.unit) in wanted)


def _net(purchase: Purchase, unit: Unit) -> int:
    """Return what must remain of a token after its fee, in its unit; what is free is still shown one."""
    return max(1, unit.at_least(purchase.amount_msat))
