"""Paying out what a gateway has earned: to an invoice, a Lightning address or LNURL, or as a token.

First an offer: what is paid and what that may cost. Then, in one transaction, the wallet journals the payment
and the payout says that it is under way; only then does the mint hear of it. An outcome that is not known is
asked for until it is, and no automatic payout from that mint begins meanwhile.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httpx
import structlog
from sqlalchemy import Connection

from otrta_core import OtrtaError, Unit, invoice_amount_msat, normalize_invoice
from otrta_litellm import payout_rows
from otrta_litellm.lnurl import ask_invoice, ask_service
from otrta_litellm.payout_rows import Payout, PayoutKind, PayoutState
from otrta_litellm.settings import GatewaySettings
from otrta_wallet import NotEnoughFunds, OutcomeUnknown, PaymentFailed, TokenSpent, Wallet
from otrta_wallet.mint_client import new_http_client
from otrta_wallet.records import Operation, Transfer

OFFER_S: Final = 600.0
"""How long an offer can be taken up."""

CLAIMED: Final = "its receiver has claimed the token: nothing can be taken back"

_SAT_MSAT: Final = 1000
_TRIES: Final = 4
_MOST_PROOFS: Final = 64

_log = structlog.get_logger(__name__)


class PayoutRefused(OtrtaError):
    """A payout was not begun; nothing was paid."""

    code = "payout_refused"
    http_status = 409


class Payouts:
    """The payouts of one gateway; any worker of it may look after them."""

    def __init__(
        self,
        settings: GatewaySettings,
        wallet: Wallet,
        http: Callable[[], httpx.AsyncClient] = new_http_client,
    ) -> None:
        self._settings = settings
        self._wallet = wallet
        self._run = wallet.transactions.run
        self._new_http = http

    async def offer(
        self,
        destination: str,
        amount_msat: int | None = None,
        *,
        mint: str | None = None,
        unit: str | None = None,
    ) -> Payout:
        """Say what a payout would pay and what it may cost at most; nothing is spent.

        Args:
            destination: an invoice, a Lightning address, an LNURL, or "token".
            amount_msat: of an address, LNURL or token; None for all that is free. An invoice names its own.
            mint: from which; None for the one where most is free, or that has enough.
            unit: of its e-cash, likewise.

        Raises:
            PayoutRefused: too little is free, or the amount does not fit.
            the errors of ``lnurl``, ``normalize_invoice`` and ``Wallet.request_melt``.
        """
        kind = _kind_of(destination)
        if kind == "bolt11":
            destination = normalize_invoice(destination)
            named = invoice_amount_msat(destination)
            if amount_msat not in (None, named):
                raise PayoutRefused("the invoice names its own amount: leave yours out")
            amount_msat = named
        place_mint, place_unit, free = await self._place(amount_msat, mint, unit)
        payout = await self._run(payout_rows.offer, kind, destination, place_mint, place_unit)
        assert payout is not None  # noqa: S101 (it takes no slot)
        return await self._with_terms(payout, amount_msat, free)

    async def pay(self, payout_id: str) -> tuple[Payout, str | None]:
        """Pay an offer, once; asked again it says how that stands. A token is returned until it is claimed.

        Raises:
            PayoutRefused: there is no such offer, or no longer enough beyond what callers are owed.
            the errors of ``Wallet.melt`` and ``Wallet.send``; after ``OutcomeUnknown`` it is under way.
        """
        payout = await self._load(payout_id)
        if payout.state is PayoutState.OFFERED:
            if payout.created_at < self._wallet.transactions.now() - OFFER_S:
                await self._fail(payout, PayoutState.OFFERED, "nobody took up the offer in time")
                raise PayoutRefused("the offer has run out: ask for another one")
            payout = await (self._make_token(payout) if payout.kind == "token" else self._melt(payout))
        elif payout.state is PayoutState.PAYING:
            payout = await self._look(payout)
        token = None
        if payout.kind == "token" and payout.quote_id is not None:
            transfer = await self._wallet.transfer(payout.quote_id)
            token = transfer.token if transfer is not None else None
        return payout, token

    async def cancel(self, payout_id: str) -> Payout:
        """Take a token back that its receiver has not claimed, or give up an offer.

        Returns the payout as it then is; still paid where the mint cannot be asked: recovery goes on with it.

        Raises:
            PayoutRefused: there is no such payout, or nothing of it can be taken back.
            the errors of ``Wallet.reclaim``.
        """
        payout = await self._load(payout_id)
        if payout.state is PayoutState.OFFERED:
            await self._fail(payout, PayoutState.OFFERED, "it was cancelled")
        elif payout.kind != "token":
            raise PayoutRefused("what was sent over Lightning cannot be taken back: only a token can")
        elif payout.state is PayoutState.PAID and payout.transfer_state == "open":
            with suppress(OutcomeUnknown):
                await self._take_back(payout)
        elif payout.state is PayoutState.PAID and payout.transfer_state != "reclaiming":
            raise PayoutRefused(CLAIMED)
        return await self._load(payout_id)

    async def _take_back(self, payout: Payout) -> None:
        try:
            await self._wallet.reclaim(payout.quote_id or "")
        except TokenSpent:
            raise PayoutRefused(CLAIMED) from None

    async def newest(self, limit: int) -> list[Payout]:
        """Return the payouts that were begun, newest first."""
        return await self._run(payout_rows.newest, limit)

    async def keep(self) -> None:
        """End what is open as far as its mint knows, and begin what is due; never raises for one."""
        await self.end_what_is_open()
        if self._settings.payout.to is not None:
            for mint, unit, free in await self._run(self._due):
                await self._pay_by_itself(mint, unit, free)

    async def end_what_is_open(self) -> None:
        """Ask the mints how payments ended, and give up offers that nobody took; never raises for one."""
        for payout in await self._run(payout_rows.in_state, PayoutState.PAYING):
            with suppress(OtrtaError):
                await self._look(payout)
        now = self._wallet.transactions.now()
        for payout in await self._run(payout_rows.in_state, PayoutState.OFFERED):
            if payout.created_at < now - OFFER_S:
                await self._fail(payout, PayoutState.OFFERED, "nobody took up the offer in time")

    def _due(self, conn: Connection, now: float) -> list[tuple[str, str, int]]:
        """Return where so much is free that it is to be paid out, and not just now was."""
        setting = self._settings.payout
        found = []
        for mint, unit, free in payout_rows.places(conn, self._settings.mints):
            last = payout_rows.last_automatic(conn, now, mint, unit)
            if free > setting.above_msat and (last is None or not now - setting.every_s < last <= now):
                found.append((mint, unit, free))
        return found

    async def _pay_by_itself(self, mint: str, unit: str, free: int) -> None:
        to = self._settings.payout.to or ""
        payout = await self._run(payout_rows.offer, "lnurl", to, mint, unit, automatic=True)
        if payout is None:  # another worker is at it, or one whose end is not known
            return
        try:
            payout = await self._with_terms(payout, None, free - self._settings.payout.keep_msat)
            if not self._settings.payout.allows_fee(payout.fee_msat, payout.amount_msat):
                raise PayoutRefused(
                    f"it might cost {payout.fee_msat} msat for {payout.amount_msat}, more than max_fee allows"
                )
            payout = await self._melt(payout)
            _log.info("paid_out", mint=mint, amount_msat=payout.amount_msat, fee_msat=payout.fee_msat)
        except OtrtaError as error:
            # does nothing to one that is under way
            await self._fail(payout, PayoutState.OFFERED, error.message)
            _log.warning("payout_failed", mint=mint, code=error.code)

    async def _with_terms(self, payout: Payout, amount_msat: int | None, free: int) -> Payout:
        """Ask the receiver and the mint for their terms, and write them down."""
        try:
            if payout.kind == "token":
                return await self._token_terms(payout, amount_msat, free)
            if payout.kind == "bolt11":
                return await self._quoted(payout, payout.destination)
            return await self._lnurl_terms(payout, amount_msat, free)
        except OtrtaError as error:
            await self._fail(payout, PayoutState.OFFERED, error.message)
            raise

    async def _token_terms(self, payout: Payout, amount_msat: int | None, free: int) -> Payout:
        unit, fee = Unit.parse(payout.unit), self._swap_fee_msat(payout)
        amount = unit.at_most(free - fee if amount_msat is None else amount_msat)
        if amount <= 0 or (amount_msat is not None and unit.to_msat(amount) != amount_msat):
            raise PayoutRefused(f"a token of this mint is of whole {unit.value}, and of at least one")
        return await self._run(payout_rows.put_terms, payout.id, unit.to_msat(amount), fee, None)

    async def _lnurl_terms(self, payout: Payout, amount_msat: int | None, free: int) -> Payout:
        """Ask for an invoice of the amount, or of as much as leaves room for its fee."""
        most = free - self._swap_fee_msat(payout)
        async with self._new_http() as http:
            service = await ask_service(http, payout.destination)
            wanted = min(most, service.most_msat) if amount_msat is None else amount_msat
            for _ in range(_TRIES):
                wanted = wanted // _SAT_MSAT * _SAT_MSAT if amount_msat is None else wanted
                if wanted <= 0:
                    break
                offered = await self._quoted(payout, await ask_invoice(http, service, wanted))
                over = offered.amount_msat + offered.fee_msat - most
                if over <= 0 or amount_msat is not None:
                    return offered
                wanted -= over
        raise PayoutRefused("too little is free to pay anything out, its fee included")

    async def _quoted(self, payout: Payout, invoice: str) -> Payout:
        quote = await self._wallet.request_melt(payout.mint, invoice, payout.unit)
        unit = Unit.parse(payout.unit)
        fee = unit.to_msat(quote.fee_reserve) + self._swap_fee_msat(payout)
        return await self._run(payout_rows.put_terms, payout.id, unit.to_msat(quote.amount), fee, quote.id)

    async def _melt(self, payout: Payout) -> Payout:
        def also(conn: Connection, now: float, _operation: Operation) -> None:
            if not payout_rows.begin(conn, now, payout.id):
                raise PayoutRefused("somebody else has begun or ended this payout")
            self._leave_enough(conn, payout)

        try:
            await self._wallet.melt(payout.quote_id or "", reference=f"payout:{payout.id}", also=also)
        except OtrtaError as error:
            await self._fail(payout, PayoutState.OFFERED, error.message)
            if isinstance(error, PaymentFailed):
                await self._fail(payout, PayoutState.PAYING, error.message)
            raise
        return await self._look(payout)

    async def _make_token(self, payout: Payout) -> Payout:
        def also(conn: Connection, now: float, transfer: Transfer) -> None:
            if not payout_rows.hand_over(conn, now, payout.id, transfer.id):
                raise PayoutRefused("somebody else has begun or ended this payout")
            self._leave_enough(conn, payout)

        amount = Unit.parse(payout.unit).at_most(payout.amount_msat)
        await self._wallet.send(payout.mint, amount, payout.unit, record="payout", also=also)
        return await self._load(payout.id)

    async def _look(self, payout: Payout) -> Payout:
        """Ask how a payment stands, and write it down where it has ended."""
        paid = await self._wallet.melt_status(payout.quote_id or "")
        if paid is not None and paid.state == "paid":
            await self._run(payout_rows.pay, payout.id, Unit.parse(paid.unit).to_msat(paid.fee))
        elif paid is not None and paid.state == "failed":
            await self._fail(payout, PayoutState.PAYING, paid.error or "the mint did not pay the invoice")
        return await self._load(payout.id)

    async def _place(
        self, amount_msat: int | None, mint: str | None, unit: str | None
    ) -> tuple[str, str, int]:
        """Choose where a payout is taken from, and how much is free there beyond the float."""
        keep = self._settings.payout.keep_msat
        mints = self._settings.mints if mint is None else (mint.rstrip("/"),)
        found = await self._run(lambda conn, _now: payout_rows.places(conn, mints))
        for at_mint, of_unit, free in found:
            enough = free > keep and (amount_msat is None or amount_msat <= free - keep)
            if enough and unit in (None, of_unit):
                return at_mint, of_unit, free - keep
        most = max((free for _, of_unit, free in found if unit in (None, of_unit)), default=0)
        raise PayoutRefused(
            f"at most {max(0, most - keep)} msat are free at one mint, beyond what callers are owed and the "
            f"{keep} msat that stay for change (payout.keep_msat)"
        )

    def _leave_enough(self, conn: Connection, payout: Payout) -> None:
        if payout_rows.free_msat(conn, payout.mint, payout.unit) < 0:
            raise NotEnoughFunds("callers are owed more by now than this would leave: nothing was paid")

    def _swap_fee_msat(self, payout: Payout) -> int:
        """What the input fees of a payment and of a swap before it may be."""
        keysets = self._wallet.mints.keysets(payout.mint).values()
        dearest = max((k.input_fee_ppk for k in keysets if k.unit == payout.unit), default=0)
        return Unit.parse(payout.unit).to_msat(2 * ((_MOST_PROOFS * dearest + 999) // 1000))

    async def _load(self, payout_id: str) -> Payout:
        try:
            return await self._run(lambda conn, _now: payout_rows.load(conn, payout_id))
        except KeyError:
            raise PayoutRefused("there is no such payout") from None

    async def _fail(self, payout: Payout, was: PayoutState, error: str) -> None:
        await self._run(payout_rows.fail, payout.id, was, error)


def _kind_of(destination: str) -> PayoutKind:
    text = destination.strip().lower().removeprefix("lightning:")
    if text == "token":
        return "token"
    return "lnurl" if "@" in text or text.startswith(("lnurl1", "lnurlp://")) else "bolt11"
