"""Getting back what calls left behind: stored change, the gateway's change route, then the mint's word."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import httpx
from sqlalchemy import Connection

from otrta_core import OtrtaError
from otrta_wallet import TokenSpent, Transfer, Wallet
from otrta_wallet.schema import ProofStatus
from otrta_wallet.store import load_transfers, proofs_with
from proxy_trio import calls
from proxy_trio.asking_gateways import ask_for_reply
from proxy_trio.bookkeeper import Bookkeeper, has_unread_change
from proxy_trio.calls import PaidCall
from proxy_trio.errors import GatewayFailure
from proxy_trio.headers import values
from proxy_trio.judge import Judgement, least_change_msat, verdict
from proxy_trio.reckoning import json_or_none
from proxy_trio.schema import CallState

CHANGE_PATHS: Final = ("/v1/cashu/change", "/v1/wallet/refund")
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
LONGEST_PAUSE_OF_A_DISPUTE_S: Final = 6 * 3600.0
PATIENCE_S: Final = 60.0
"""How long a gateway that is busy is left alone with the token before it is taken back."""
SILENCE_S: Final = 3600.0
"""How long a gateway that has taken the token may go without a word on its change."""
UNREDEEMED_S: Final = 86_400.0
"""How long a gateway that gives no change may leave a token unredeemed before it is taken back."""
CLAIM_WINDOW_S: Final = 365 * 86_400.0

_RUNNING: Final = frozenset({202, 409, 425})
_NO_SUCH_ROUTE: Final = frozenset({400, 404, 405})
"""By which a gateway says that it has no such route: a Routstr node takes any for a call without a model."""
_SWEPT: Final = 410
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})


class _Token(Enum):
    """What became of an attempt to take a token back."""

    BACK = auto()
    SPENT = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class _Told:
    """What a gateway says of a token: HTTP status, its JSON, and the change."""

    status: int
    body: dict[str, Any]
    change: str | None


class CallRecovery:
    """Ends payments that are open. Safe to run at any time, also twice for the same payment."""

    def __init__(self, wallet: Wallet, bookkeeper: Bookkeeper, transport: httpx.AsyncBaseTransport) -> None:
        self._wallet = wallet
        self._books = bookkeeper
        self._transport = transport

    async def settle(self, call_id: str) -> PaidCall:
        """Bring one payment as far as it can be brought now. Never raises for what others do."""
        call = await self._books.load(call_id)
        if call.state in calls.CLOSED:
            return call
        if has_unread_change(call):
            call = (await self._books.keep_proofs(call)).call
        if (known := await self._by_known_change(call)) is not None:
            return known
        if call.refused and await self._take_back(call) is _Token.BACK:
            return await self._books.load(call_id)
        try:
            told = await self._ask_gateway(call)
        except GatewayFailure as error:
            return await self._without_gateway(call, error.message)
        if told is None:
            return await self._without_gateway(call, "the token is not at hand any more")
        return await self._by_gateway(call, told)

    async def verify(self, call: PaidCall) -> None:
        """Make sure of a payment that is done without change to swap: that its token was taken at all.

        A token that the gateway left alone is taken back; of one that it took the text is erased.
        """
        states = await self._states(call)
        if states is None or "PENDING" in states:
            return
        if "UNSPENT" in states and call.bound_msat >= call.paid_msat - call.fee_msat and self._is_fresh(call):
            # all of it was the price, and its owner may redeem it when it likes
            pause_s = min(LONGEST_PAUSE_S * 12, FIRST_PAUSE_S * 2 ** min(call.tries, 30))
            later = self._wallet.transactions.now() + pause_s
            await self._books.update(call, was=(CallState.DONE,), tries=call.tries + 1, next_try_at=later)
            return
        if states <= {"SPENT"} or await self._take_back(call) is _Token.SPENT:
            await self._books.give_up_token(call)

    async def _by_known_change(self, call: PaidCall) -> PaidCall | None:
        """Close a payment by the change that is here; None where that does not close it.

        Without the answer only the bound on its row can be held against a gateway.
        """
        change_msat = call.change_msat or 0
        if call.state is CallState.DISPUTED:
            if call.missing_msat:
                return None
            return await self._books.close(call, Judgement(CallState.DONE), change_msat=change_msat)
        if call.change_msat is None:
            return None
        return await self._books.close(call, verdict(change_msat, _least(call)), change_msat=change_msat)

    async def _by_gateway(self, call: PaidCall, told: _Told) -> PaidCall:
        """Go by what the gateway told of the token."""
        if told.change is not None:
            stored = await self._books.store_change(call.id, told.change)
            call = stored.call
            if (known := await self._by_known_change(call)) is not None:
                return known
            if stored.undecided:
                return await self._later(call, None)
            return await self._dispute(call, call.reason or "the gateway's change cannot be taken")
        if told.status == 200 and told.body.get("state") == "claimed":
            return await self._dispute(call, "the gateway says that its change was spent, and none came here")
        if told.status == 200 and told.body.get("change_msat") == 0:
            return await self._dispute(call, None)
        if told.status == _SWEPT:
            return await self._without_gateway(call, None, said="it has taken back its change")
        if told.status == 200 or told.status in _RUNNING or (told.status in _BUSY and self._is_young(call)):
            return await self._silent(call, _Token.UNKNOWN, None)
        never_taken = "it never took a token that was spent" if told.status == 404 else None
        return await self._without_gateway(call, None, said=never_taken)

    async def _without_gateway(
        self, call: PaidCall, reason: str | None, *, said: str | None = None
    ) -> PaidCall:
        """Take the token back where the gateway says nothing of it, or that it gives nothing (``said``)."""
        token = await self._take_back(call)
        if token is _Token.BACK:
            return await self._books.load(call.id)
        if token is _Token.SPENT and said is not None:
            return await self._dispute(call, f"the gateway says that {said}")
        return await self._silent(call, token, reason)

    async def _silent(self, call: PaidCall, token: _Token, reason: str | None) -> PaidCall:
        """Try again later; dispute a payment whose gateway has been silent about its change for long."""
        if self._wallet.transactions.now() - call.created_at > SILENCE_S:
            if token is _Token.UNKNOWN:
                token = await self._take_back(call)
            if token is _Token.BACK:
                return await self._books.load(call.id)
            if token is _Token.SPENT:
                return await self._dispute(call, "the gateway has taken the token and gives no change")
        return await self._later(call, reason)

    async def _dispute(self, call: PaidCall, reason: str | None) -> PaidCall:
        """Close a payment by what is here, since no more will come; a dispute is only put off."""
        if call.state is CallState.DISPUTED:
            return await self._later(call, reason)
        change_msat = call.change_msat or 0
        judgement = verdict(change_msat, _least(call), reason)
        return await self._books.close(call, judgement, change_msat=change_msat)

    async def _take_back(self, call: PaidCall) -> _Token:
        """Swap a token back to this wallet; its payment is then refunded, in the swap's own transaction."""
        transfer = await self._transfer(call)
        if transfer is None or transfer.state == "claimed":
            return _Token.SPENT
        if transfer.state == "reclaimed":
            return _Token.BACK
        if transfer.state == "reclaiming":
            return _Token.UNKNOWN
        try:
            await self._wallet.mints.refresh_if_old(call.mint)  # one that is away costs no counters then
            await self._wallet.reclaim(call.transfer_id)
        except TokenSpent:
            return _Token.SPENT
        except OtrtaError:
            return _Token.UNKNOWN
        return _Token.BACK

    async def _states(self, call: PaidCall) -> set[str] | None:
        """Return the states of a token's proofs at their mint; None where it cannot be asked."""

        def ys(conn: Connection, _now: float) -> list[str]:
            sent = proofs_with(conn, status=ProofStatus.SENT, holder=call.transfer_id)
            return [proof.Y for proof in sent]

        known = await self._wallet.transactions.run(ys)
        try:
            return set((await self._wallet.mints.client(call.mint).check_state(known)).values())
        except OtrtaError:
            return None

    async def _ask_gateway(self, call: PaidCall) -> _Told | None:
        """Ask the change routes with the original token; None where the token is not at hand any more."""
        transfer = await self._transfer(call)
        if transfer is None or transfer.token is None:
            return None
        told = _Told(404, {}, None)
        for path in CHANGE_PATHS:
            headers = [(b"X-Cashu", transfer.token.encode())]
            reply, data = await ask_for_reply(self._transport, "POST", call.gateway, path, headers)
            read = json_or_none(data)
            body = read if isinstance(read, dict) else {}
            found = (next(iter(values(reply.headers, b"x-cashu")), None), body.get("token"))
            change = next((token for token in map(_token_in, found) if token), None)
            told = _Told(reply.status, body, change)
            if reply.status not in _NO_SUCH_ROUTE:
                break
        return told

    async def _transfer(self, call: PaidCall) -> Transfer | None:
        found = await self._wallet.transactions.run(
            lambda conn, _now: load_transfers(conn, transfer_id=call.transfer_id)
        )
        return next(iter(found), None)

    async def _later(self, call: PaidCall, reason: str | None) -> PaidCall:
        """Note when to try again, or give a dispute up when its time is over."""
        now = self._wallet.transactions.now()
        disputed = call.state is CallState.DISPUTED
        if disputed and call.created_at < now - CLAIM_WINDOW_S:
            return await self._books.give_up_token(call, state=CallState.LOST)
        longest_s = LONGEST_PAUSE_OF_A_DISPUTE_S if disputed else LONGEST_PAUSE_S
        pause_s = min(longest_s, FIRST_PAUSE_S * 2 ** min(call.tries, 30))
        values_: dict[str, Any] = {"tries": call.tries + 1, "next_try_at": now + pause_s}
        if call.state is CallState.IN_FLIGHT:
            values_["state"] = CallState.AWAITING_CHANGE
        if reason is not None and not disputed:
            values_["reason"] = reason
        return await self._books.update(call, **values_)

    def _is_young(self, call: PaidCall) -> bool:
        return self._wallet.transactions.now() - call.created_at < PATIENCE_S

    def _is_fresh(self, call: PaidCall) -> bool:
        return self._wallet.transactions.now() - call.created_at < UNREDEEMED_S


def _least(call: PaidCall) -> int:
    return least_change_msat(paid_msat=call.paid_msat, fee_msat=call.fee_msat, bound_msat=call.bound_msat)


def _token_in(text: object) -> str | None:
    token = text.strip() if isinstance(text, str) else ""
    return token if token.startswith(("cashuA", "cashuB")) else None
