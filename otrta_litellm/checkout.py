"""From a request and a token to a payment that is certain, or a refusal that says what is wrong.

The order of checks is the contract's: size and count, mint and unit, what this gateway already took, price
and amount, DLEQ, and only then the mint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from sqlalchemy import Connection

from otrta_core import (
    CallRequest,
    KeysetError,
    ModelPrice,
    OtrtaError,
    PaymentRequest,
    Token,
    TokenError,
    Unit,
    UnsupportedParameter,
    affordable_output_tokens,
    face_value,
    minimum_msat,
    quote_msat,
)
from otrta_litellm import payments
from otrta_litellm.answers import GateError
from otrta_litellm.body_policy import check_fields, has_token_numbers, outbound_body, parse_body
from otrta_litellm.payments import AlreadyTaken, Offer, Payment
from otrta_litellm.price_book import PriceBook
from otrta_litellm.refusals import (
    OVER,
    as_refusal,
    insufficient,
    journalled,
    mint_away,
    no_mint,
    pending,
    spent,
)
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.way import SOLD_PATHS
from otrta_wallet import (
    MintNotKnown,
    MintUnreachable,
    OutcomeUnknown,
    UnitMismatch,
    Wallet,
)
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.wallet import Incoming

INSPECT_WITHIN_S = 10.0
"""How long a token may wait for its mint to name a keyset that is not at hand."""

REDEEM_WITHIN_S = 30.0
"""How long a caller waits for a swap; recovery ends one that takes longer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call is and what it may cost; amounts in msat."""

    path: str
    call: CallRequest
    body: Mapping[str, Any] = field(repr=False)
    price: ModelPrice
    quote_msat: int
    minimum_msat: int


class Checkout:
    """Takes payments for calls.

    ``running`` holds the ids of payments whose calls this process runs; who takes a payment takes its id out
    of it again when the call has been settled.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        wallet: Wallet,
        prices: PriceBook,
        owner: str,
        running: set[str],
    ) -> None:
        self._running = running
        self._settings = settings
        self._wallet = wallet
        self._prices = prices
        self._owner = owner

    def terms(self, path: str, raw_body: bytes) -> Terms:
        """Read a body and price it.

        Raises:
            InvalidRequest: the body, or something in it, cannot be bought.
            GateError: the model is unknown or has no price.
        """
        kind = SOLD_PATHS[path]
        body = parse_body(raw_body)
        call = CallRequest.parse(kind, body)
        price = self._prices.price(call.model, kind)
        if price is None:
            raise GateError(
                "this model is not sold here: GET /v1/cashu/info lists the ones that are",
                code="model_not_found",
                status=404,
                param="model",
            )
        check_fields(kind, body)
        if has_token_numbers(kind, body) and not self._prices.takes_token_numbers(call.model):
            raise UnsupportedParameter("this model takes texts, not token numbers", param="input")
        default = self._settings.default_output_tokens
        return Terms(
            path,
            call,
            body,
            price,
            quote_msat(price, call, default_output_tokens=default),
            minimum_msat(price, call, min_output_tokens=self._settings.min_output_tokens),
        )

    def offered_mints(self, unit: Unit) -> dict[str, int]:
        """Return the mints that take this unit here, with their input fee in ppk."""
        fees = {url: self.units_of(url).get(unit) for url in self._settings.mints}
        return {url: fee_ppk for url, fee_ppk in fees.items() if fee_ppk is not None}

    def units_of(self, mint: str) -> dict[Unit, int]:
        """Return the units taken of a mint, with their input fee in ppk; none of one not yet reached."""
        mints, most = self._wallet.mints, self._settings.max_fee_ppk
        listed = mints.units(mint) if mint in mints.urls else {}
        return {unit: listed[unit] for unit in Unit if listed.get(unit, most + 1) <= most}

    def payment_request(self, terms: Terms) -> PaymentRequest:
        """Say what is to be paid (NUT-24).

        Raises:
            GateError: no mint has been reached yet, so there is nothing to ask for.
        """
        unit = self._settings.unit
        mints = self.offered_mints(unit)
        if not mints:
            raise no_mint()
        amount = face_value(unit.at_least(terms.quote_msat), max(mints.values()))
        return PaymentRequest(amount=amount, unit=unit, mints=tuple(mints))

    def _request_if_known(self, terms: Terms) -> PaymentRequest | None:
        try:
            return self.payment_request(terms)
        except GateError:
            return None

    def payment_required(self, terms: Terms) -> GateError:
        """Return the 402 for a call without a token."""
        return GateError(
            "This call has to be paid: send it again with a Cashu token in the X-Cashu header.",
            code="payment_required",
            status=402,
            required_msat=terms.quote_msat,
            request=self.payment_request(terms),
        )

    def read_token(self, values: Sequence[str]) -> Token:
        """Read the one X-Cashu header.

        Raises:
            TokenError: none, several, or one that is damaged or too large.
        """
        if len(values) != 1:
            raise TokenError("send exactly one X-Cashu header")
        limits = self._settings
        return Token.parse(values[0], max_bytes=limits.max_token_bytes, max_proofs=limits.max_proofs)

    async def present(self, token: Token) -> Incoming:
        """Check mint, unit and keysets; nothing is taken yet.

        Raises:
            MintNotKnown, UnitMismatch, TokenError, TokenUneconomic: it cannot be accepted.
            GateError: its mint cannot be reached.
        """
        mints = self._wallet.mints
        if any(proof.secret.lstrip().startswith("[") for proof in token.proofs):
            raise GateError(
                "locked tokens are not taken here yet: send proofs without a spending condition",
                code="lock_not_accepted",
                status=400,
            )
        mint = normalize_mint_url(token.mint)
        if mint not in self._settings.mints:
            raise MintNotKnown("tokens of this mint are not taken here")
        if mint not in mints.urls:
            raise mint_away()
        try:
            unit = Unit.parse(token.unit)
        except OtrtaError:
            raise UnitMismatch("tokens of this unit are not taken here: send msat or sat") from None
        try:
            with anyio.fail_after(INSPECT_WITHIN_S):
                incoming = await self._wallet.inspect(token)
        except KeysetError as error:
            raise TokenError(error.message) from None
        except (MintUnreachable, OutcomeUnknown, TimeoutError):
            raise mint_away() from None
        fees = mints.fee_ppk(incoming.token.mint)
        if any(fees[proof.id] > self._settings.max_fee_ppk for proof in incoming.token.proofs):
            raise MintNotKnown("this mint's input fee is higher than this gateway accepts")
        if unit not in mints.units(incoming.token.mint):
            raise UnitMismatch("this mint no longer makes e-cash of this unit")
        return incoming

    async def taken_before(self, token: Token) -> Payment | None:
        """Return the payment that this very set of proofs was, or None where none of them was taken.

        Raises:
            GateError: they belong to another payment, or only part of one is here.
        """
        ys = [proof.Y for proof in token.proofs]

        def look(conn: Connection, _now: float) -> tuple[list[Payment], bool]:
            claims = payments.claims_on(conn, ys)
            whole = len(claims) == 1 and all(
                len(found) == len(ys) == payments.claim_size(conn, payment_id)
                for payment_id, found in claims.items()
            )
            return [payments.load(conn, payment_id) for payment_id in claims], whole

        found, whole = await self._wallet.transactions.run(look)
        if not found:
            return None
        if not whole:
            if all(payment.state in OVER for payment in found):
                raise spent()
            raise pending()
        payment = found[0]
        if payment.memo_hash is not None and payment.memo_hash != payments.memo_hash(token):
            raise spent() if payment.state in OVER else pending()
        return payment

    def refuse_taken(self, payment: Payment) -> GateError:
        """Return the refusal for a token that was taken here before, with its change where there is some."""
        return spent(payment.change_token) if payment.state in OVER else pending()

    def check_amount(self, terms: Terms, incoming: Incoming) -> None:
        """Check that the token is worth enough.

        Raises:
            GateError: it is not; the payment request says what would be.
        """
        unit = Unit.parse(incoming.token.unit)
        if unit.to_msat(incoming.net) >= terms.minimum_msat:
            return
        fee_ppk = max(self.offered_mints(unit).values(), default=0)
        if incoming.token.amount >= face_value(unit.at_least(terms.quote_msat), fee_ppk):
            return
        raise insufficient(
            unit.to_msat(incoming.net), terms.minimum_msat, terms.quote_msat, self._request_if_known(terms)
        )

    def outbound_body(self, terms: Terms, payment: Payment) -> dict[str, Any]:
        """Return the body for LiteLLM, its output capped by what was paid where the caller set no limit."""
        cap = None
        if terms.call.kind == "chat" and terms.call.output_limit is None:
            cap = affordable_output_tokens(terms.price, terms.call, payment.paid_msat - payment.fee_msat)
            if cap is not None:
                cap = max(cap, self._settings.min_output_tokens)
                if terms.price.max_output_tokens is not None:
                    cap = min(cap, terms.price.max_output_tokens)
        return outbound_body(terms.call.kind, terms.body, cap)

    async def take(self, terms: Terms, incoming: Incoming) -> Payment:
        """Claim the proofs, redeem them at the mint, and return the redeemed payment.

        Raises:
            GateError, OtrtaError: the refusal. The token is untouched, but for the 503 that says that it
                is journalled: it is then claimable once recovery has ended its swap.

        Cancelled, the payment stays journalled; recovery ends it.
        """
        unit = Unit.parse(incoming.token.unit)
        offer = Offer(
            incoming.token,
            unit.to_msat(incoming.token.amount),
            unit.to_msat(incoming.fee),
            terms.path,
            terms.call.model,
            terms.price,
            terms.call.prompt_tokens,
        )
        run = self._wallet.transactions.run
        try:
            payment = await run(payments.receive, offer, self._owner)
        except AlreadyTaken:
            taken = await self.taken_before(incoming.token)
            raise (pending() if taken is None else self.refuse_taken(taken)) from None
        self._running.add(payment.id)  # before it can be redeemed: recovery leaves running calls alone
        try:
            return await self._redeem(payment, incoming)
        except BaseException:
            self._running.discard(payment.id)
            raise

    async def _redeem(self, payment: Payment, incoming: Incoming) -> Payment:
        run = self._wallet.transactions.run
        try:
            await self._wallet.check_dleq(incoming)
            operation = await self._wallet.prepare_receive(
                incoming,
                reference=payment.id,
                also=lambda conn, now, _operation: payments.begin_redeeming(conn, now, payment.id),
            )
        except OtrtaError as error:
            await run(payments.reject, payment.id)
            raise as_refusal(error) from None
        try:
            with anyio.fail_after(REDEEM_WITHIN_S):
                await self._wallet.carry_out(operation)
        except MintUnreachable:
            raise mint_away() from None
        except (OutcomeUnknown, TimeoutError):
            raise journalled() from None
        except OtrtaError as error:
            taken = await self.taken_before(incoming.token)
            raise (error if taken is None else self.refuse_taken(taken)) from None
        return await run(lambda conn, _now: payments.load(conn, payment.id))
