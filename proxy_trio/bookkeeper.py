"""Keeping the change: what a gateway gave is stored before anything else, then judged."""

from typing import Any

from sqlalchemy import Connection

from otrta_core import KeysetError, OtrtaError, Token, Unit
from otrta_wallet import TokenPending, TokenSpent, Wallet
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.wallet import Incoming
from proxy_trio import calls
from proxy_trio.calls import PaidCall
from proxy_trio.gateways import distrust
from proxy_trio.judge import Judgement
from proxy_trio.schema import CallState

MAX_CHANGE_BYTES = 65_536


class Bookkeeper:
    """Stores change and closes payments. Every method is one or two transactions; none asks a gateway."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def store_change(self, call_id: str, text: str) -> PaidCall:
        """Store the change of a payment: its text first, then its proofs.

        Change that is not of the payment's mint and unit, or that cannot be read, stays as text with the
        payment; no mint that it names is asked. Calling it again with the same change changes nothing.
        """
        run = self._wallet.transactions.run

        def keep_text(conn: Connection, now: float) -> PaidCall:
            known = calls.load(conn, call_id)
            if known.change_token is None and known.change_msat is None:
                calls.change(conn, now, call_id, change_token=text[:MAX_CHANGE_BYTES])
            return calls.load(conn, call_id)

        call = await run(keep_text)
        return call if call.change_msat is not None else await self.keep_proofs(call)

    async def keep_proofs(self, call: PaidCall) -> PaidCall:
        """Take the proofs of stored change into the wallet, where they can be read."""
        incoming = await self._read(call)
        if isinstance(incoming, str):
            return await self._note(call, incoming)

        def keep(conn: Connection, now: float) -> PaidCall:
            current = calls.load(conn, call.id)
            if current.change_msat is None:
                self._wallet.keep(conn, now, incoming, call.id)
                worth = Unit.parse(incoming.token.unit).to_msat(incoming.token.amount)
                calls.change(conn, now, call.id, change_msat=worth, change_token=None)
            return calls.load(conn, call.id)

        try:
            return await self._wallet.transactions.run(keep)
        except (TokenSpent, TokenPending) as error:
            return await self._note(call, f"the gateway's change: {error.message}")

    async def close(self, call: PaidCall, judgement: Judgement, **values: Any) -> PaidCall:
        """Close a payment whose token the gateway has taken.

        A dispute closes the gateway too, until the user trusts it again.
        """

        def write(conn: Connection, now: float) -> PaidCall:
            calls.change(
                conn,
                now,
                call.id,
                state=judgement.state,
                missing_msat=judgement.missing_msat,
                reason=judgement.reason,
                **values,
            )
            self._wallet.close_transfer(conn, now, call.transfer_id)
            if judgement.state is CallState.DISPUTED:
                distrust(conn, now, call.gateway, judgement.reason or "it kept too much")
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def undo(self, call: PaidCall, reason: str) -> PaidCall:
        """Put back a payment of which no byte has left."""

        def write(conn: Connection, now: float) -> PaidCall:
            self._wallet.undo_transfer(conn, now, call.transfer_id)
            values: dict[str, Any] = {"cost_msat": 0, "fee_msat": 0, "change_msat": call.paid_msat}
            calls.change(conn, now, call.id, state=CallState.REFUNDED, reason=reason, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def reclaim(self, call: PaidCall, reason: str) -> PaidCall:
        """Take a payment's token back by a swap to fresh secrets.

        Raises:
            TokenSpent: the gateway has taken it.
            OtrtaError: the mint could not do it now, or the fee would eat it.
        """
        operation = await self._wallet.reclaim(call.transfer_id)
        unit = Unit.parse(call.unit)

        def write(conn: Connection, now: float) -> PaidCall:
            values: dict[str, Any] = {
                "cost_msat": 0,
                "fee_msat": unit.to_msat(operation.fee),
                "change_msat": unit.to_msat(operation.amount),
            }
            calls.change(conn, now, call.id, state=CallState.REFUNDED, reason=reason, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def update(self, call: PaidCall, **values: Any) -> PaidCall:
        """Change a payment's row and return it."""

        def write(conn: Connection, now: float) -> PaidCall:
            calls.change(conn, now, call.id, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def _read(self, call: PaidCall) -> Incoming | str:
        """Return the change as the wallet can take it, or why it cannot."""
        try:
            token = Token.parse(call.change_token or "", max_bytes=MAX_CHANGE_BYTES)
            if normalize_mint_url(token.mint) != call.mint or token.unit != call.unit:
                return "the gateway's change is of another mint or unit than the payment"
            incoming = await self._wallet.inspect(token)
            await self._wallet.check_dleq(incoming)
        except KeysetError:
            return "the gateway's change is of a keyset that the mint does not show"
        except OtrtaError as error:
            return f"the gateway's change cannot be taken: {error.message}"
        return incoming

    async def _note(self, call: PaidCall, reason: str) -> PaidCall:
        return await self.update(call, reason=reason)
