"""Taking the money for a call out of the wallet: within the budgets, and journalled as it leaves."""

import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import trio
from sqlalchemy import Connection

from otrta_core import CallRequest, KeysetError, OtrtaError, Token, Unit, face_value, format_msat, input_fee
from otrta_core.requests import OUTPUT_LIMIT_FIELD
from otrta_wallet import NotEnoughFunds, Transfer, Wallet
from otrta_wallet.errors import MintError
from proxy_trio import budget, calls
from proxy_trio.asking import Source
from proxy_trio.budget import Budgets
from proxy_trio.errors import WalletEmpty
from proxy_trio.gateway_info import GatewayInfo

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
    """

    gateway: str
    info: GatewayInfo
    request: CallRequest
    amount_msat: int
    bound_msat: int | None
    sources: tuple[Source, ...]
    exact: bool = False
    takes: tuple[str, ...] = ()


class _TooLarge(Exception):
    """A token of more proofs or bytes than the gateway takes."""


class Cashier:
    """Hands out tokens for calls. ``swap_now`` swaps kept change at a mint, because it is needed."""

    def __init__(
        self, wallet: Wallet, budgets: Budgets, swap_now: Callable[[str, str], Awaitable[bool]]
    ) -> None:
        self._wallet = wallet
        self._budgets = budgets
        self._swap_now = swap_now
        self._swapping: dict[Source, trio.Lock] = defaultdict(trio.Lock)

    async def pay(self, payment_id: str, purchase: Purchase) -> Transfer:
        """Take a token out of the wallet, with the row of its payment.

        Raises:
            BudgetExceeded: it would go beyond a budget.
            WalletEmpty: no mint that the gateway takes has enough.
            MintError, KeysetError: a swap was needed, and its mint could not do it. Nothing has left in any
                case.
        """
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
        available = await self._available_msat(purchase)
        raise WalletEmpty(
            f"This call may cost up to {format_msat(purchase.amount_msat)}, and {format_msat(available)} can "
            "be spent for it. Top up: `otrta invoice AMOUNT`.",
            required_msat=purchase.amount_msat,
            available_msat=available,
        )

    async def _from(self, payment_id: str, purchase: Purchase, mint: str, unit: Unit) -> Transfer | None:
        """Take what is wanted from one mint, in one unit; None where there is not enough.

        Proofs at hand come first, then a swap to the exact amount; kept change is swapped where it is needed.
        """
        amount = max(1, unit.at_least(purchase.amount_msat))  # what is free is still shown a token
        fees = self._wallet.mints.fee_ppk(mint)
        exact = face_value(amount, max(fees.values(), default=0))
        left = unit.at_most(await self._check(unit.to_msat(amount)))
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
                    at_most=min(left, most),
                    memo=memo,
                    reference=payment_id,
                    also=journal,
                )
            return None

        if (transfer := await at_hand()) is not None:
            return transfer
        # one swap at a time: what another one holds back meanwhile would look like an empty wallet
        async with self._swapping[mint, unit]:
            while True:
                if (transfer := await at_hand()) is not None:
                    return transfer
                # before the swap, which would be for nothing, and would cost counters of the seed
                await self._check(unit.to_msat(exact))
                await self._wallet.mints.refresh_if_old(mint)
                try:
                    return await self._wallet.send(
                        mint, exact, unit, memo=memo, reference=payment_id, record=None, also=journal
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
    ) -> Callable[[Connection, float, Transfer], None]:
        request, limits = purchase.request, purchase.info.limits

        def journal(conn: Connection, now: float, transfer: Transfer) -> None:
            text = transfer.token or ""
            token = Token.parse(text)
            if len(text) > limits.max_token_bytes or len(token.proofs) > limits.max_proofs:
                raise _TooLarge
            paid_msat = unit.to_msat(transfer.amount)
            budget.check(self._budgets, paid_msat, calls.spent_since(conn, budget.day_begins(now)), now)
            fee_msat = unit.to_msat(input_fee(token.proofs, fees))
            capped_by_payment = request.kind in OUTPUT_LIMIT_FIELD and request.output_limit is None
            known = None if capped_by_payment else purchase.bound_msat
            bound_msat = paid_msat - fee_msat if known is None else known
            calls.begin(
                conn,
                now,
                id=payment_id,
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

        return journal

    async def _check(self, amount_msat: int) -> int:
        """Check an amount against the budgets and return the most that they leave, in msat."""

        def check(conn: Connection, now: float) -> int:
            spent = calls.spent_since(conn, budget.day_begins(now))
            budget.check(self._budgets, amount_msat, spent, now)
            return min(self._budgets.per_request_msat, self._budgets.per_day_msat - spent)

        return await self._wallet.transactions.run(check)

    async def _available_msat(self, purchase: Purchase) -> int:
        wanted = {(mint, unit.value) for mint, unit in purchase.sources}
        balances = await self._wallet.balances()
        return sum(Unit.parse(b.unit).to_msat(b.available) for b in balances if (b.mint, b.unit) in wanted)
