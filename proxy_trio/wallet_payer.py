"""Paying for calls from the wallet: the ``Payer`` of ``proxy_trio.payer``."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from otrta_core import (
    CallRequest,
    InvalidRequest,
    KeysetError,
    ModelPrice,
    OtrtaError,
    face_value,
    format_msat,
)
from otrta_wallet import Wallet
from otrta_wallet.errors import MintError
from proxy_trio import calls
from proxy_trio.asking import Asked, AskedPrices, Size, Source, read_ask
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.cashier import Cashier, Purchase
from proxy_trio.change_filter import Comment
from proxy_trio.choice import another_may_try, asks_too_much, in_order, is_back
from proxy_trio.errors import GatewayAsksTooMuch, GatewayUnreachable, WalletEmpty
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.gateways import Gateways
from proxy_trio.health import Health, retry_after_s
from proxy_trio.move_plan import ROOM_MSAT
from proxy_trio.offers import Offer, find_offers
from proxy_trio.payer import Attempt, Call, Head, Outcome
from proxy_trio.reckoning import (
    PaidAttempt,
    judge,
    may_keep_msat,
    needs_no_change,
    same_proofs,
    tokens_used,
    waiting_for,
    was_refused,
)
from proxy_trio.schema import CallState

BACK_WITHIN_S: Final = 20.0
"""How long an app waits for its payment to come back from a gateway that failed, before it hears of it."""
MOVED_WITHIN_S: Final = 45.0
"""How long an app waits for value to come from another mint; what comes later is there for the next call."""
MOST_FAVOURITES: Final = 1000


class WalletPayer:
    """Pays from a wallet, within budgets, and keeps the change.

    ``settle_later`` is told of payments whose change has to be fetched or taken back; ``settle_now`` does it.
    ``running`` holds the ids of payments whose calls are on their way: recovery leaves those alone.
    ``health`` is how the gateways have done lately.
    """

    def __init__(
        self,
        wallet: Wallet,
        gateways: Gateways,
        bookkeeper: Bookkeeper,
        cashier: Cashier,
        settle_later: Callable[[str], None],
        settle_now: Callable[[str], Awaitable[None]],
        bring: Callable[[Sequence[Source], int], Awaitable[bool]],
    ) -> None:
        self._wallet = wallet
        self._gateways = gateways
        self._books = bookkeeper
        self._cashier = cashier
        self._settle_later = settle_later
        self._settle_now = settle_now
        self._bring = bring
        self._asked = AskedPrices()
        self._favourites: dict[str, str] = {}
        self.health = Health(trio.current_time)
        self.running: set[str] = set()

    async def open(self, call: Call) -> Attempt:
        """Choose a gateway, quote the call, check the budgets and journal the payment."""
        self._cashier.admit(call.key, call.model)
        request = _request(call) if call.payable else None
        return await self._first_that_can_be_paid(
            call, await self._in_order(call, request), request, frozenset()
        )

    async def _in_order(self, call: Call, request: CallRequest | None) -> list[Offer]:
        """Return the offers of those that sell a call, the best first; if none does, the best of all."""
        now = self._wallet.transactions.now()
        offers = await find_offers(
            self._gateways,
            self._wallet.mints.urls,
            request,
            lambda url: self._asked.look_up(url, call.path, call.model or "", _size(call, request), now),
        )
        ranked = in_order(offers, self.health.standing, self._favourites.get(call.model or ""))
        return [offer for offer in ranked if offer.sold] or ranked[:1]

    async def _first_that_can_be_paid(
        self, call: Call, offers: Sequence[Offer], request: CallRequest | None, tried: frozenset[str]
    ) -> PaidAttempt:
        """Pay the first of several offers that wallet and budgets allow; raises what hinders the first."""
        failure: OtrtaError | None = None
        for offer in offers:
            if request is None or offer.quote_msat is None:
                # free, not sold, or at an unknown price: the gateway's own answer tells, and nothing is paid
                self.health.begun(offer.url)
                return PaidAttempt(
                    payment_id=calls.new_id(),
                    gateway_url=offer.url,
                    request=request,
                    info=offer.info,
                    tried=tried,
                    begun_at=trio.current_time(),
                )
            try:
                price = offer.info.price(request)
                return await self._pay(call, purchase_of(offer, request), price, may_retry=True, tried=tried)
            except (WalletEmpty, MintError, KeysetError) as error:  # of another mint there may be enough
                failure = failure or error
        if failure is not None and request is not None:
            for offer in offers:
                if (moved := await self._pay_after_a_move(call, offer, request, tried)) is not None:
                    return moved
        raise failure or GatewayUnreachable("No gateway can be reached; nothing was paid.")

    async def _pay_after_a_move(
        self, call: Call, offer: Offer, request: CallRequest, tried: frozenset[str]
    ) -> PaidAttempt | None:
        """Pay for an offer once value has come to a mint that its gateway takes; None where none did."""
        if offer.quote_msat is None or not offer.sources:
            return None
        arrived = False
        with trio.move_on_after(MOVED_WITHIN_S):
            arrived = await self._bring(offer.sources, offer.quote_msat + ROOM_MSAT)
        if not arrived:
            return None
        price = offer.info.price(request)
        return await self._pay(call, purchase_of(offer, request), price, may_retry=True, tried=tried)

    async def _pay(
        self,
        call: Call,
        purchase: Purchase,
        price: ModelPrice | None,
        *,
        may_retry: bool,
        tried: frozenset[str],
    ) -> PaidAttempt:
        payment_id = calls.new_id()
        self.running.add(payment_id)  # before its row is there
        try:
            transfer = await self._cashier.pay(payment_id, replace(purchase, key_id=call.key_id))
        except BaseException:
            self.running.discard(payment_id)
            raise
        self.health.begun(purchase.gateway)
        return PaidAttempt(
            payment_id=payment_id,
            gateway_url=purchase.gateway,
            token=transfer.token,
            request=purchase.request,
            change_in_stream=purchase.info.change_in_stream,
            price=price,
            info=purchase.info,
            may_retry=may_retry,
            tried=tried,
            begun_at=trio.current_time(),
        )

    async def on_head(self, attempt: Attempt, head: Head) -> None:
        """Store the change of the header."""
        if isinstance(attempt, PaidAttempt):
            self.health.answered(attempt.gateway_url, trio.current_time() - attempt.begun_at)
        change = (head.get("x-cashu") or "").strip()
        paid = attempt.token
        if paid is not None and change.startswith("cashu") and not same_proofs(paid, change):
            await self._books.store_change(attempt.payment_id, change)

    async def on_comment(self, attempt: Attempt, comment: Comment) -> None:
        """Store the change of a stream."""
        if attempt.token is not None and comment.complete and comment.name == "x-cashu":
            await self._books.store_change(attempt.payment_id, comment.value.strip())

    async def on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Close the payment, or hand it to recovery."""
        if isinstance(attempt, PaidAttempt):
            self.health.ended(attempt.gateway_url, outcome, retry_after_s(outcome))
            if attempt.request is not None and outcome.status is not None and outcome.status < 400:
                self._favourites.pop(attempt.request.model, None)
                self._favourites[attempt.request.model] = attempt.gateway_url
                if len(self._favourites) > MOST_FAVOURITES:
                    del self._favourites[next(iter(self._favourites))]
        if attempt.token is None or not isinstance(attempt, PaidAttempt):
            return
        try:
            await self._close(attempt, outcome)
        finally:
            self.running.discard(attempt.payment_id)

    async def _close(self, attempt: PaidAttempt, outcome: Outcome) -> None:
        call = await self._books.load(attempt.payment_id)
        if call.state is not CallState.IN_FLIGHT:
            return
        if not outcome.may_have_left:
            await self._books.undo(call, "nothing was sent")
            return
        bound_msat = may_keep_msat(call, attempt, outcome)
        judgement = judge(call, bound_msat, outcome, needs_none=needs_no_change(call, attempt, outcome))
        if judgement is not None:
            await self._books.close(
                call, judgement, change_msat=call.change_msat or 0, **tokens_used(attempt, outcome)
            )
            return
        await self._books.update(
            call,
            state=CallState.AWAITING_CHANGE,
            **tokens_used(attempt, outcome),
            bound_msat=bound_msat,  # what the answer proves is held against the gateway later too
            refused=was_refused(outcome),
            reason=call.reason or waiting_for(outcome),
        )
        self._settle_later(call.id)

    async def retry(self, call: Call, attempt: Attempt, outcome: Outcome) -> Attempt | None:
        """Pay once more what a 402 or an ``insufficient_payment`` asks for, or go to another gateway.

        The first token, where there was one, is taken back first, so that it can pay again. Another gateway
        has the call only once nothing of the payment is left with this one.
        """
        if not isinstance(attempt, PaidAttempt):
            return None
        hindrance: OtrtaError | None = None
        if call.payable and attempt.may_retry and attempt.request is not None:
            try:
                following = await self._pay_what_is_asked(call, attempt, outcome)
            except OtrtaError as error:
                hindrance, following = error, None
            if following is not None:
                return following
        elsewhere = await self._elsewhere(call, attempt) if another_may_try(outcome) else None
        if elsewhere is None and hindrance is not None:
            raise hindrance
        return elsewhere

    async def _pay_what_is_asked(
        self, call: Call, attempt: PaidAttempt, outcome: Outcome
    ) -> PaidAttempt | None:
        info, url, request = attempt.info, attempt.gateway_url, _request(call)
        if not info.gives_change and attempt.token is not None:
            self._asked.forget(url, call.path, request.model)
        asked = read_ask(outcome, info)
        if asked is None:
            return None
        if attempt.token is not None:
            await self._settle_now(attempt.payment_id)
        self._gateways.forget_info(url)
        if info.gives_change:
            info = await self._check_against_prices(url, request, asked)
        else:
            now = self._wallet.transactions.now()
            self._asked.note(url, call.path, request.model, _size(call, request), asked, now)
        purchase = purchase_of_ask(url, info, request, asked, self._wallet.mints.urls)
        return await self._pay(call, purchase, info.price(request), may_retry=False, tried=attempt.tried)

    async def _check_against_prices(self, url: str, request: CallRequest, asked: Asked) -> GatewayInfo:
        """Return what a gateway says of itself now; raises GatewayAsksTooMuch where it asks for far more."""
        info = await self._gateways.info(url)
        quote = info.quote(request)
        fees_ppk = [unit.input_fee_ppk for mint in info.mints for unit in mint.units.values()]
        most = None if quote is None else face_value(max(1, quote.pay_msat), max(fees_ppk, default=0))
        if asks_too_much(asked.amount_msat, most):
            raise GatewayAsksTooMuch(
                f"The gateway asks for {format_msat(asked.amount_msat)}, and its own prices come to "
                f"{format_msat(most or 0)}. Nothing was paid."
            )
        return info

    async def _elsewhere(self, call: Call, attempt: PaidAttempt) -> PaidAttempt | None:
        """Go to another gateway; None where the payment is not back, or nobody else sells the call."""
        if attempt.token is not None and not await self._is_back(attempt.payment_id):
            return None
        tried = attempt.tried | {attempt.gateway_url}
        try:
            offers = await self._in_order(call, attempt.request)
            others = [offer for offer in offers if offer.url not in tried and offer.sold]
            return (
                await self._first_that_can_be_paid(call, others, attempt.request, tried) if others else None
            )
        except OtrtaError:
            return None  # what the first gateway said is what the app is to hear

    async def _is_back(self, payment_id: str) -> bool:
        """Have a payment brought back as far as it can be soon, and tell whether all of it is."""
        with trio.move_on_after(BACK_WITHIN_S):
            await self._settle_now(payment_id)
        call = await self._books.load(payment_id)
        return call.state not in calls.OPEN and is_back(
            paid_msat=call.paid_msat, fee_msat=call.fee_msat, change_msat=call.change_msat
        )


def purchase_of(offer: Offer, request: CallRequest) -> Purchase:
    """Return what is to be paid for an offer whose price is known."""
    return Purchase(
        offer.url,
        offer.info,
        request,
        offer.quote_msat or 0,
        offer.bound_msat,
        offer.sources,
        exact=not offer.info.gives_change,
        takes=tuple(offer.info.units_by_mint() if offer.asked is None else sorted(offer.asked.mints)),
    )


def purchase_of_ask(
    url: str, info: GatewayInfo, request: CallRequest, asked: Asked, mints: Sequence[str]
) -> Purchase:
    """Return what is to be paid where a refusal asked for it.

    It holds the fee of redeeming it, so it is what must be handed out, and at most what may be lost.
    """
    return Purchase(
        url,
        info,
        request,
        asked.amount_msat,
        asked.amount_msat if info.kind is GatewayKind.OTRTA else None,
        asked.sources(mints),
        exact=not info.gives_change,
        takes=tuple(sorted(asked.mints)),
    )


def _size(call: Call, request: CallRequest | None) -> Size:
    sent = len(call.body.outbound) if call.body else 0
    return sent, request.output_limit if request else None


def _request(call: Call) -> CallRequest:
    if call.body is None:
        raise InvalidRequest("this path has no price")
    return call.body.request()
