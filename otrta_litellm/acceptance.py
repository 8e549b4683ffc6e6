"""Whether a token can pay for a call, or a refusal that says what is wrong.

The order of checks is the contract's: size and count, mint and unit, what this gateway already took, price
and amount; DLEQ and the mint come after these, in ``otrta_litellm.redemption``.
"""

from collections.abc import Callable, Collection, Sequence

import anyio
from sqlalchemy import Connection

from otrta_core import P2PK, KeysetError, OtrtaError, PaymentRequest, Token, TokenError, Unit, face_value
from otrta_litellm import payments
from otrta_litellm.answers import GateError
from otrta_litellm.lock_desk import LockDesk
from otrta_litellm.payments import Payment
from otrta_litellm.refusals import OVER, insufficient, mint_away, no_mint, pending, spent
from otrta_litellm.settings import GatewaySettings
from otrta_litellm.terms import Terms
from otrta_wallet import MintNotKnown, MintUnreachable, OutcomeUnknown, UnitMismatch, Wallet
from otrta_wallet.incoming import inspect
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.wallet import Incoming

INSPECT_WITHIN_S = 10.0
"""How long a token may wait for its mint to name a keyset that is not at hand."""


class Acceptance:
    """Looks at tokens. It takes none."""

    def __init__(
        self,
        settings: GatewaySettings,
        wallet: Wallet,
        locks: LockDesk,
        away: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Make one.

        Args:
            settings: of the gateway.
            wallet: the gateway's.
            locks: looks at locks.
            away: says which mints are not asked now, since they do not answer.
        """
        self._settings = settings
        self._wallet = wallet
        self._locks = locks
        self._away = away

    def offered_mints(self, unit: Unit) -> dict[str, int]:
        """Return the mints that take this unit here, with their input fee in ppk."""
        needs_locks = self._settings.lock == "required"
        fees = {
            url: self.units_of(url).get(unit)
            for url in self._settings.mints
            if self._locks.takes_locks_of(url) or not needs_locks
        }
        return {url: fee_ppk for url, fee_ppk in fees.items() if fee_ppk is not None}

    def units_of(self, mint: str) -> dict[Unit, int]:
        """Return the units taken of a mint, with their input fee in ppk; none of one not yet reached."""
        mints, most = self._wallet.mints, self._settings.max_fee_ppk
        listed = mints.units(mint) if mint in mints.urls else {}
        return {unit: listed[unit] for unit in Unit if listed.get(unit, most + 1) <= most}

    def payment_request(self, terms: Terms) -> PaymentRequest:
        """Say what is to be paid (NUT-24).

        Raises:
            GateError: no mint has been reached yet, or all are away, so there is nothing to ask for.
        """
        unit = self._settings.unit
        mints = self.offered_mints(unit)
        if self._settings.lock != "required":  # locked tokens do not wait for their mint
            away = self._away()
            mints = {url: fee_ppk for url, fee_ppk in mints.items() if url not in away}
        if not mints:
            raise no_mint()
        # a call that may cost nothing needs a token all the same, and none is worth nothing
        amount = face_value(max(1, unit.at_least(terms.quote_msat)), max(mints.values()))
        lock = P2PK(self._locks.public_key).to_option() if self._settings.lock == "required" else None
        return PaymentRequest(amount=amount, unit=unit, mints=tuple(mints), nut10=lock)

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
        """Check mint, unit and keysets; nothing is taken yet, and nothing said of its locks.

        Raises:
            MintNotKnown, UnitMismatch, TokenError, TokenUneconomic: it cannot be accepted.
            GateError: its mint cannot be reached.
        """
        mints = self._wallet.mints
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
                incoming = await inspect(mints, token)
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
