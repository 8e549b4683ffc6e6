"""Paying for calls from the wallet: the ``Payer`` of ``proxy_trio.payer``."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from otrta_core import (
    CallRequest,
    InvalidRequest,
    ModelPrice,
    OtrtaError,
    Token,
    Unit,
    face_value,
    format_msat,
    input_fee,
    quote_msat,
)
from otrta_core.requests import PAYABLE_PATHS
from otrta_wallet import NotEnoughFunds, Transfer, Wallet
from otrta_wallet.mint_url import normalize_mint_url
from proxy_trio import budget, calls
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.budget import Budgets
from proxy_trio.calls import PaidCall
from proxy_trio.change_filter import Comment
from proxy_trio.errors import GatewayFailure, GatewayUnreachable, WalletEmpty
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import Gateways
from proxy_trio.payer import Attempt, Call, Head, Outcome
from proxy_trio.reckoning import PaidAttempt, asked_by, figure, judge, waiting_for
from proxy_trio.schema import CallState

_UNIT_ORDER: Final = (Unit.MSAT, Unit.SAT)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be paid, and where it may come from.

    Attributes:
        amount_msat: what must remain of the token after its input fee.
        bound_msat: the most that the call may cost.
        sources: (mint, unit) pairs that the gateway takes and the wallet knows, best first.
    """

    amount_msat: int
    bound_msat: int
    sources: tuple[tuple[str, Unit], ...]


class WalletPayer:
    """Pays from a wallet, within budgets, and keeps the change.

    ``settle_later`` is told of payments whose change has to be fetched or taken back.
    """

    def __init__(
        self,
        wallet: Wallet,
        gateways: Gateways,
        bookkeeper: Bookkeeper,
        budgets: Budgets,
        settle_later: Callable[[str], None],
        settle_now: Callable[[str], Awaitable[None]],
    ) -> None:
        self._wallet = wallet
        self._gateways = gateways
        self._books = bookkeeper
        self._budgets = budgets
        self._settle_later = settle_later
        self._settle_now = settle_now
        self.running: set[str] = set()

    # --- before the call ------------------------------------------------------------------------------

    async def open(self, call: Call) -> Attempt:
        """Choose a gateway, quote the call, check the budgets and journal the payment."""
        request = self._request(call) if call.payable else None
        url, info = await self._choose_gateway(call.model if call.payable else None)
        if request is None:
            return PaidAttempt(payment_id=calls.new_id(), gateway_url=url)
        price = info.models.get(request.model)
        if price is None:
            # nobody sells it: the gateway's own refusal tells the app, and nothing is paid
            return PaidAttempt(payment_id=calls.new_id(), gateway_url=url, may_retry=False)
        quote = quote_msat(price, request, default_output_tokens=info.default_output_tokens)
        wanted = Wanted(quote, quote, self._sources(info))
        return await self._pay(url, info, price, request, wanted, may_retry=True)

    def _request(self, call: Call) -> CallRequest:
        try:
            return CallRequest.parse(PAYABLE_PATHS[call.path], call.json)
        except KeyError:
            raise InvalidRequest("this path has no price") from None

    async def _choose_gateway(self, model: str | None) -> tuple[str, GatewayInfo]:
        """Return the first trusted gateway that sells the model, else the first that answers."""
        entries = await self._gateways.entries()
        trusted = [entry.url for entry in entries if entry.distrusted_for is None]
        if not trusted:
            raise GatewayUnreachable(
                "There is no gateway to pay. Add one: `otrta gateways add URL`."
                if not entries
                else "No gateway in the list is trusted any more: see `otrta gateways` and `otrta pending`."
            )
        answering: tuple[str, GatewayInfo] | None = None
        failure: GatewayFailure | None = None
        for url in trusted:
            try:
                info = await self._gateways.info(url)
            except GatewayFailure as error:
                failure = error
                continue
            if model is None or model in info.models:
                return url, info
            answering = answering or (url, info)
        if answering is None:
            raise failure or GatewayUnreachable("No gateway can be reached; nothing was paid.")
        return answering

    def _sources(self, info: GatewayInfo) -> tuple[tuple[str, Unit], ...]:
        taken = info.units_by_mint()
        known = [url for url in self._wallet.mints.urls if url in taken]
        return tuple((url, unit) for unit in _UNIT_ORDER for url in known if unit in taken[url])

    async def _pay(
        self,
        url: str,
        info: GatewayInfo,
        price: ModelPrice | None,
        request: CallRequest,
        wanted: Wanted,
        *,
        may_retry: bool,
    ) -> PaidAttempt:
        if not wanted.sources:
            names = ", ".join(info.units_by_mint()) or "none that can be read"
            raise WalletEmpty(
                f"The gateway takes tokens of other mints than this wallet uses: {names}. If you trust one "
                "of them, `otrta mints add URL`, then `otrta invoice AMOUNT`.",
                required_msat=wanted.amount_msat,
                available_msat=0,
            )
        payment_id = calls.new_id()
        for mint, unit in wanted.sources:
            self.running.add(payment_id)  # before its row is there: recovery leaves running calls alone
            try:
                transfer = await self._hand_out(payment_id, url, request, wanted, mint, unit)
            except BaseException:
                self.running.discard(payment_id)
                raise
            if transfer is not None:
                return PaidAttempt(
                    payment_id=payment_id,
                    gateway_url=url,
                    token=transfer.token,
                    price=price,
                    info=info,
                    may_retry=may_retry,
                )
        self.running.discard(payment_id)
        available = await self._available_msat(wanted)
        raise WalletEmpty(
            f"This call may cost up to {format_msat(wanted.amount_msat)}, and {format_msat(available)} can "
            "be spent for it. Top up: `otrta invoice AMOUNT`.",
            required_msat=wanted.amount_msat,
            available_msat=available,
        )

    async def _hand_out(
        self, payment_id: str, url: str, request: CallRequest, wanted: Wanted, mint: str, unit: Unit
    ) -> Transfer | None:
        """Take a token of what is wanted out of the wallet, with its row; None where there is not enough."""
        amount = unit.at_least(wanted.amount_msat)
        fees = self._wallet.mints.fee_ppk(mint)
        memo = secrets.token_hex(16)

        def journal(conn: Connection, now: float, transfer: Transfer) -> None:
            paid_msat = unit.to_msat(transfer.amount)
            budget.check(self._budgets, paid_msat, calls.spent_since(conn, budget.day_begins(now)), now)
            fee_msat = unit.to_msat(_fee_of(transfer, fees))
            bound = wanted.bound_msat if request.output_limit is not None else paid_msat - fee_msat
            if request.kind != "chat":
                bound = wanted.bound_msat
            calls.begin(
                conn,
                now,
                id=payment_id,
                gateway=url,
                model=request.model,
                stream=request.stream,
                mint=mint,
                unit=unit.value,
                transfer_id=transfer.id,
                paid_msat=paid_msat,
                fee_msat=fee_msat,
                bound_msat=min(bound, paid_msat - fee_msat),
            )

        budget_msat = unit.to_msat(amount)
        budget.check(self._budgets, budget_msat, 0, self._wallet.transactions.now())
        for attempt in range(2):
            transfer = await self._wallet.transfer_at_hand(
                mint,
                amount,
                unit,
                net_of_fee=True,
                at_most=2 * amount + 64,
                memo=memo,
                reference=payment_id,
                also=journal,
            )
            if transfer is not None:
                return transfer
            if attempt == 0 and not await self._redeem_kept(mint, unit):
                break
        exact = face_value(amount, max(fees.values(), default=0))
        try:
            return await self._wallet.send(
                mint, exact, unit, memo=memo, reference=payment_id, record=None, also=journal
            )
        except NotEnoughFunds:
            return None

    async def _redeem_kept(self, mint: str, unit: Unit) -> bool:
        """Swap change that was waiting for it, since it is needed now; tells whether there was any."""
        waiting = [op for op in await self._wallet.kept() if op.mint == mint and op.unit == unit]
        for operation in waiting:
            try:
                await self._wallet.redeem(operation.id)
            except OtrtaError:
                continue
        return bool(waiting)

    async def _available_msat(self, wanted: Wanted) -> int:
        sources = {(mint, unit.value) for mint, unit in wanted.sources}
        balances = await self._wallet.balances()
        return sum(Unit.parse(b.unit).to_msat(b.available) for b in balances if (b.mint, b.unit) in sources)

    # --- while it runs --------------------------------------------------------------------------------

    async def on_head(self, attempt: Attempt, head: Head) -> None:
        """Store the change of the header, and what the gateway says it charged."""
        if attempt.token is None:
            return
        cost = figure(head.get("x-otrta-cost-msat"))
        if cost is not None:
            await self._books.update(await self._load(attempt.payment_id), cost_msat=cost)
        change = head.get("x-cashu")
        if change is not None and change.strip().startswith("cashu"):
            await self._books.store_change(attempt.payment_id, change.strip())

    async def on_comment(self, attempt: Attempt, comment: Comment) -> None:
        """Store the change of a stream, and what the gateway says it charged."""
        if attempt.token is None or not comment.complete:
            return
        if comment.name == "x-cashu":
            await self._books.store_change(attempt.payment_id, comment.value.strip())
        elif comment.name == "otrta":
            cost = figure(dict(_pairs(comment.value)).get("cost"))
            if cost is not None:
                await self._books.update(await self._load(attempt.payment_id), cost_msat=cost)

    async def on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Close the payment, or hand it to recovery."""
        if attempt.token is None or not isinstance(attempt, PaidAttempt):
            return
        try:
            await self._close(attempt, outcome)
        finally:
            self.running.discard(attempt.payment_id)

    async def _close(self, attempt: PaidAttempt, outcome: Outcome) -> None:
        call = await self._load(attempt.payment_id)
        if call.state is not CallState.IN_FLIGHT:
            return
        if not outcome.may_have_left:
            await self._books.undo(call, "nothing was sent")
            return
        judgement = judge(call, attempt, outcome)
        if judgement is None:
            await self._books.update(call, state=CallState.AWAITING_CHANGE, reason=waiting_for(outcome))
            self._settle_later(call.id)
        else:
            cost = max(0, call.paid_msat - call.fee_msat - (call.change_msat or 0))
            await self._books.close(call, judgement, cost_msat=cost, change_msat=call.change_msat or 0)

    async def retry(self, call: Call, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """Pay once more what a 402 or an ``insufficient_payment`` asks for."""
        if not isinstance(attempt, PaidAttempt) or not attempt.may_retry or not call.payable:
            return None
        asked = asked_by(outcome)
        if asked is None or asked.amount is None or asked.unit is None:
            return None
        try:
            unit = Unit.parse(asked.unit)
            mints = {normalize_mint_url(mint) for mint in asked.mints}
        except OtrtaError:
            return None
        if attempt.token is not None:
            await self._settle_now(attempt.payment_id)
        self._gateways.forget_info(attempt.gateway_url)
        known = [url for url in self._wallet.mints.urls if url in mints or not mints]
        request = self._request(call)
        # ``a`` holds the fee of redeeming it, so it is what must be handed out, and at most what may be lost
        amount_msat = unit.to_msat(asked.amount)
        wanted = Wanted(amount_msat, amount_msat, tuple((url, unit) for url in known))
        return await self._pay(
            attempt.gateway_url, attempt.info, attempt.price, request, wanted, may_retry=False
        )

    async def _load(self, payment_id: str) -> PaidCall:
        return await self._wallet.transactions.run(lambda conn, _now: calls.load(conn, payment_id))


def _fee_of(transfer: Transfer, fees: Mapping[str, int]) -> int:
    return input_fee(Token.parse(transfer.token or "").proofs, fees)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(name, value) for word in text.split() for name, _, value in [word.partition("=")]]
