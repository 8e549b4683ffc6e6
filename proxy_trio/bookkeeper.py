"""Keeping the change: what a gateway gave is stored before anything else, then judged.

A payment's row holds the texts of change that are not in the wallet, one on each line: not yet read, or not
to be taken. A text that is dealt with is left out, or stays behind one of two words: ``dust`` for change
that counts as given but is too small to be swapped by itself, ``void`` for change that its mint calls false.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from otrta_core import KeysetError, OtrtaError, Token, Unit
from otrta_wallet import (
    Operation,
    TokenPending,
    TokenSpent,
    TokenUneconomic,
    Wallet,
    journal,
    store,
)
from otrta_wallet.errors import MintError
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.schema import ProofStatus, operation_inputs, operations
from otrta_wallet.wallet import Incoming
from proxy_trio import calls
from proxy_trio.calls import PaidCall
from proxy_trio.gateways import distrust
from proxy_trio.judge import Judgement
from proxy_trio.locked_pool import put_back
from proxy_trio.schema import CallState

MAX_CHANGE_BYTES: Final = 65_536
MAX_TEXTS: Final = 4
"""How many different texts a gateway may hand over as the change of one payment."""

_DUST, _VOID = "dust ", "void "


@dataclass(frozen=True, slots=True)
class Stored:
    """A payment after its change was looked at.

    Attributes:
        call: as it is now.
        undecided: there is change of which only its mint can tell what it is, and the mint was silent.
    """

    call: PaidCall
    undecided: bool = False


class Bookkeeper:
    """Stores change and closes payments. Every method is a few transactions; none asks a gateway."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def store_change(self, call_id: str, text: str) -> Stored:
        """Store the change of a payment: its text first, then its proofs.

        Change that is not of the payment's mint and unit, or that cannot be read, stays as text with the
        payment; no mint that it names is asked. Calling it again with the same change changes nothing.
        """

        def keep_text(conn: Connection, now: float) -> PaidCall:
            known = calls.load(conn, call_id)
            texts = _lines(known)
            new = not any(line.removeprefix(_DUST).removeprefix(_VOID) == text for line in texts)
            if new and len(text) <= MAX_CHANGE_BYTES:
                calls.change(conn, now, call_id, change_token="\n".join([*_with_room(texts), text]))
            return calls.load(conn, call_id)

        return await self.keep_proofs(await self._wallet.transactions.run(keep_text))

    async def keep_proofs(self, call: PaidCall) -> Stored:
        """Take the proofs of stored change into the wallet, where they can be read."""
        undecided = False
        for text in _lines(call):
            if text.startswith((_DUST, _VOID)):
                continue
            try:
                token = await self._read(call, text)
                call = await self._take(call, text, token)
            except MintError as error:
                undecided = True
                call = await self.update(call, reason=f"the change waits for its mint: {error.message}")
            except OtrtaError as error:
                call = await self.update(
                    call, reason=f"the gateway's change cannot be taken: {error.message}"
                )
        return Stored(call, undecided)

    async def void_change(self, operation: Operation, reason: str) -> None:
        """Give up kept change that the mint says is false, and dispute the payment that it belongs to.

        The text stays with the payment.
        """

        def write(conn: Connection, now: float) -> None:
            if not journal.set_state(
                conn, operation.id, was="stored", now_is="failed", now=now, error=operation.error or reason
            ):
                return
            held = store.proofs_with(conn, status=ProofStatus.INCOMING, holder=operation.id)
            token = Token(operation.mint, operation.unit, tuple(held))
            store.forget_proofs(conn, [proof.Y for proof in held])
            take_off(conn, now, operation.reference, token.amount, reason, text=token.encode())

        await self._wallet.transactions.run(write)

    async def close(
        self, call: PaidCall, judgement: Judgement, *, change_msat: int, **values: Any
    ) -> PaidCall:
        """Close a payment by a judgement, or dispute it.

        A dispute closes the gateway too, until the user trusts it again. The token itself stays at hand:
        after a dispute it may still be needed, and else it is given up once its change has been swapped.
        """

        def write(conn: Connection, now: float) -> PaidCall:
            changed = calls.change(
                conn,
                now,
                call.id,
                state=judgement.state,
                missing_msat=judgement.missing_msat,
                reason=judgement.reason,
                change_msat=change_msat,
                cost_msat=max(0, call.paid_msat - call.fee_msat - change_msat),
                **values,
            )
            if changed and judgement.state is CallState.DISPUTED:
                distrust(conn, now, call.gateway, judgement.reason or "it kept too much")
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def undo(self, call: PaidCall, reason: str) -> PaidCall:
        """Put back a payment of which no byte has left."""

        def write(conn: Connection, now: float) -> PaidCall:
            if not put_back(conn, now, call.transfer_id, call.gateway):
                self._wallet.undo_transfer(conn, now, call.transfer_id)
            values: dict[str, Any] = {"cost_msat": 0, "fee_msat": 0, "change_msat": call.paid_msat}
            calls.change(conn, now, call.id, state=CallState.REFUNDED, reason=reason, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def give_up_token(self, call: PaidCall, **values: Any) -> PaidCall:
        """Erase the token of a payment: nobody needs it any more."""

        def write(conn: Connection, now: float) -> PaidCall:
            self._wallet.close_transfer(conn, now, call.transfer_id)
            if values:
                calls.change(conn, now, call.id, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def update(self, call: PaidCall, **values: Any) -> PaidCall:
        """Change a payment's row and return it."""

        def write(conn: Connection, now: float) -> PaidCall:
            calls.change(conn, now, call.id, **values)
            return calls.load(conn, call.id)

        return await self._wallet.transactions.run(write)

    async def load(self, call_id: str) -> PaidCall:
        """Return a payment as it is now."""
        return await self._wallet.transactions.run(lambda conn, _now: calls.load(conn, call_id))

    async def _read(self, call: PaidCall, text: str) -> Incoming | Token:
        """Return change as the wallet can take it; the bare token where a swap would eat it."""
        token = Token.parse(text, max_bytes=MAX_CHANGE_BYTES)
        if normalize_mint_url(token.mint) != call.mint or token.unit != call.unit:
            raise KeysetError("it is of another mint or unit than the payment")
        try:
            incoming = await self._wallet.inspect(token)
        except TokenUneconomic:
            return token
        except KeysetError:
            await self._wallet.mints.refresh_if_old(call.mint)  # a keyset may be seconds old
            incoming = await self._wallet.inspect(token)
        await self._wallet.check_dleq(incoming)
        return incoming

    async def _take(self, call: PaidCall, text: str, found: Incoming | Token) -> PaidCall:
        """Take change into the wallet, and its text out of the row, in one transaction."""
        token = found if isinstance(found, Token) else found.token

        def take(conn: Connection, now: float) -> PaidCall:
            current = calls.load(conn, call.id)
            texts = _lines(current)
            if text not in texts:
                return current
            if isinstance(found, Incoming):
                left = [line for line in texts if line != text]
                if not _was_taken(conn, call.id, token):
                    self._wallet.keep(conn, now, found, call.id)
                    calls.change(conn, now, call.id, **_more_change(current, token))
            else:
                left = [_DUST + line if line == text else line for line in texts]
                calls.change(conn, now, call.id, **_more_change(current, token))
            calls.change(conn, now, call.id, change_token="\n".join(left) or None)
            return calls.load(conn, call.id)

        try:
            return await self._wallet.transactions.run(take)
        except (TokenSpent, TokenPending) as error:
            return await self.update(call, reason=f"the gateway's change: {error.message}")


def take_off(
    conn: Connection, now: float, call_id: str | None, amount: int, reason: str, *, text: str | None = None
) -> None:
    """Take change off a payment that turned out not to be there, and dispute the payment.

    Args:
        conn: of the caller's transaction.
        now: unix seconds.
        call_id: of the payment; one that is not known is passed over.
        amount: what was not there, in the payment's unit.
        reason: for people.
        text: of the change, to be kept with the payment.
    """
    try:
        call = calls.load(conn, call_id or "")
    except KeyError:
        return
    lost_msat = Unit.parse(call.unit).to_msat(amount)
    texts = _lines(call) if text is None else [*_lines(call), _VOID + text]
    calls.change(
        conn,
        now,
        call.id,
        was=(*calls.OPEN, CallState.DISPUTED, CallState.DONE),
        state=CallState.DISPUTED,
        change_msat=max(0, (call.change_msat or 0) - lost_msat),
        missing_msat=(call.missing_msat or 0) + lost_msat,
        reason=reason,
        next_try_at=now,
        tries=0,
        change_token="\n".join(texts) or None,
    )
    distrust(conn, now, call.gateway, reason)


def has_unread_change(call: PaidCall) -> bool:
    """Tell whether a payment has change that was never looked at, or could not be taken."""
    return any(not line.startswith((_DUST, _VOID)) for line in _lines(call))


def _with_room(texts: list[str]) -> list[str]:
    """Return texts that leave room for one more: where it is short, the oldest that is no money goes."""
    worthless = [line for line in texts if not line.startswith(_DUST)]
    return [line for line in texts if len(texts) < MAX_TEXTS or line != worthless[0]] if worthless else texts


def _lines(call: PaidCall) -> list[str]:
    return (call.change_token or "").splitlines()


def _more_change(call: PaidCall, token: Token) -> dict[str, Any]:
    worth_msat = Unit.parse(token.unit).to_msat(token.amount)
    missing_msat = call.missing_msat and max(0, call.missing_msat - worth_msat)
    return {"change_msat": (call.change_msat or 0) + worth_msat, "missing_msat": missing_msat}


def _was_taken(conn: Connection, call_id: str, token: Token) -> bool:
    """Tell whether a payment's change was these very proofs before: it came twice."""
    ys = {proof.Y for proof in token.proofs}
    query = (
        select(operation_inputs.c.y)
        .join(operations, operations.c.id == operation_inputs.c.operation_id)
        .where(operations.c.reference == call_id, operation_inputs.c.y.in_(ys))
    )
    return set(conn.execute(query).scalars()) == ys
