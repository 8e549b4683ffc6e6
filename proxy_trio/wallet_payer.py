"""Paying for calls from the wallet: the ``Payer`` of ``proxy_trio.payer``."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from otrta_core import CallRequest, InvalidRequest, ModelPrice
from otrta_wallet import Wallet
from proxy_trio import calls
from proxy_trio.asking import Asked, AskedPrices, Size, read_ask
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.cashier import Cashier, Purchase
from proxy_trio.change_filter import Comment
from proxy_trio.gateway_info import GatewayInfo
from proxy_trio.gateways import Gateways
from proxy_trio.offers import Offer, find_offers
from proxy_trio.payer import Attempt, Call, Head, Outcome
from proxy_trio.reckoning import (
    PaidAttempt,
    judge,
    may_keep_msat,
    tokens_used,
    waiting_for,
    was_refused,
)
from proxy_trio.schema import CallState


class WalletPayer:
    """Pays from a wallet, within budgets, and keeps the change.

    ``settle_later`` is told of payments whose change has to be fetched or taken back; ``settle_now`` does it.
    ``running`` holds the ids of payments whose calls are on their way: recovery leaves those alone.
    """

    def __init__(
        self,
        wallet: Wallet,
        gateways: Gateways,
        bookkeeper: Bookkeeper,
        cashier: Cashier,
        settle_later: Callable[[str], None],
        settle_now: Callable[[str], Awaitable[None]],
    ) -> None:
        self._wallet = wallet
        self._gateways = gateways
        self._books = bookkeeper
        self._cashier = cashier
        self._settle_later = settle_later
        self._settle_now = settle_now
        self._asked = AskedPrices()
        self.running: set[str] = set()

    async def open(self, call: Call) -> Attempt:
        """Choose a gateway, quote the call, check the budgets and journal the payment."""
        self._cashier.admit(call.key, call.model)
        request = _request(call) if call.payable else None
        now = self._wallet.transactions.now()
        offers = await find_offers(
            self._gateways,
            self._wallet.mints.urls,
            request,
            lambda url: self._asked.look_up(url, call.path, call.model or "", _size(call, request), now),
        )
        offer = min(offers, key=lambda each: each.rank)  # of those that are alike, the first
        if request is None or offer.quote_msat is None:
            # not sold, or at an unknown price: the gateway's own answer tells, and nothing is paid
            return PaidAttempt(payment_id=calls.new_id(), gateway_url=offer.url, info=offer.info)
        purchase = purchase_of(offer, request)
        return await self._pay(call, purchase, offer.info.price(request), may_retry=True)

    async def _pay(
        self, call: Call, purchase: Purchase, price: ModelPrice | None, *, may_retry: bool
    ) -> PaidAttempt:
        payment_id = calls.new_id()
        self.running.add(payment_id)  # before its row is there
        try:
            transfer = await self._cashier.pay(payment_id, replace(purchase, key_id=call.key_id))
        except BaseException:
            self.running.discard(payment_id)
            raise
        return PaidAttempt(
            payment_id=payment_id,
            gateway_url=purchase.gateway,
            token=transfer.token,
            request=purchase.request,
            change_in_stream=purchase.info.change_in_stream,
            price=price,
            info=purchase.info,
            may_retry=may_retry,
        )

    async def on_head(self, attempt: Attempt, head: Head) -> None:
        """Store the change of the header."""
        change = (head.get("x-cashu") or "").strip()
        if attempt.token is not None and change.startswith("cashu"):
            await self._books.store_change(attempt.payment_id, change)

    async def on_comment(self, attempt: Attempt, comment: Comment) -> None:
        """Store the change of a stream."""
        if attempt.token is not None and comment.complete and comment.name == "x-cashu":
            await self._books.store_change(attempt.payment_id, comment.value.strip())

    async def on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Close the payment, or hand it to recovery."""
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
        judgement = judge(call, bound_msat, outcome, gives_change=attempt.info.gives_change)
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
        """Pay once more what a 402 or an ``insufficient_payment`` asks for.

        The first token, where there was one, is taken back first, so that it can pay again.
        """
        if not isinstance(attempt, PaidAttempt) or not attempt.may_retry or not call.payable:
            return None
        info, url, request = attempt.info, attempt.gateway_url, _request(call)
        if not info.gives_change and attempt.token is not None:
            self._asked.forget(url, call.path, request.model)
        asked = read_ask(outcome, info)
        if asked is None:
            return None
        if attempt.token is not None:
            await self._settle_now(attempt.payment_id)
        self._gateways.forget_info(url)
        if not info.gives_change:
            now = self._wallet.transactions.now()
            self._asked.note(url, call.path, request.model, _size(call, request), asked, now)
        purchase = purchase_of_ask(url, info, request, asked, self._wallet.mints.urls)
        return await self._pay(call, purchase, attempt.price, may_retry=False)


def purchase_of(offer: Offer, request: CallRequest) -> Purchase:
    """Return what is to be paid for an offer whose price is known."""
    quote_msat = offer.quote_msat or 0
    gives_change = offer.info.gives_change
    return Purchase(
        offer.url,
        offer.info,
        request,
        quote_msat,
        quote_msat if gives_change else None,
        offer.sources,
        exact=not gives_change,
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
        asked.amount_msat if info.gives_change else None,
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
