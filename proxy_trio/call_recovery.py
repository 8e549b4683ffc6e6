"""Getting back what calls left behind: stored change, the gateway's change route, then the mint's word."""

from dataclasses import dataclass
from typing import Any, Final

import httpx

from otrta_core import OtrtaError, wire
from otrta_wallet import TokenSpent, TokenUneconomic, Wallet
from otrta_wallet.errors import MintError
from otrta_wallet.schema import ProofStatus
from otrta_wallet.store import load_transfers, proofs_with
from proxy_trio import calls
from proxy_trio.bookkeeper import Bookkeeper
from proxy_trio.calls import PaidCall
from proxy_trio.errors import GatewayFailure
from proxy_trio.gateway_info import ask_for_reply
from proxy_trio.headers import values
from proxy_trio.judge import Judgement, verdict
from proxy_trio.schema import CallState

CHANGE_PATHS: Final = ("/v1/cashu/change", "/v1/wallet/refund")
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
CLAIM_WINDOW_S: Final = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Told:
    """What a gateway says of a token: HTTP status, its JSON, and the change in the header."""

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
        call = await self._load(call_id)
        if call.state in calls.CLOSED:
            return call
        if call.change_token is not None:
            call = await self._books.keep_proofs(call)
        if call.change_msat is not None:
            return await self._judge(call)
        refused = (call.reason or "").startswith("refused")
        if refused and (taken_back := await self._take_back(call)) is not None:
            return taken_back
        try:
            told = await self._ask_gateway(call)
        except GatewayFailure as error:
            told = None
            call = await self._later(call, error.message)
        if told is not None and (settled := await self._by_gateway(call, told)) is not None:
            return settled
        if told is None or told.status in (400, 404, 405):
            taken_back = await self._take_back(call)
            if taken_back is not None:
                return taken_back
            if told is not None and told.status == 404 and await self._spent(call):
                return await self._dispute(call, "the gateway says that it never took a token that was spent")
        return await self._later(await self._load(call_id), None)

    async def _by_gateway(self, call: PaidCall, told: _Told) -> PaidCall | None:
        """Go by what the gateway told; None where that settles nothing."""
        if told.change is not None:
            call = await self._books.store_change(call.id, told.change)
            if call.change_msat is not None:
                return await self._judge(call)
            return await self._dispute(call, call.reason or "the gateway's change cannot be taken")
        if told.status != 200:
            return None
        if told.body.get("state") == "settled" and told.body.get("change_msat") == 0:
            return await self._judge(await self._books.update(call, change_msat=0))
        if told.body.get("state") == "claimed":
            return await self._dispute(call, "the gateway says that its change was spent, and none came here")
        return None

    async def _judge(self, call: PaidCall) -> PaidCall:
        """Close a payment whose change is known; without its answer only the bound can be held against it."""
        least = max(0, call.paid_msat - call.fee_msat - call.bound_msat)
        cost = max(0, call.paid_msat - call.fee_msat - (call.change_msat or 0))
        return await self._books.close(call, verdict(call.change_msat or 0, least), cost_msat=cost)

    async def _dispute(self, call: PaidCall, reason: str) -> PaidCall:
        missing = max(0, call.paid_msat - call.fee_msat - call.bound_msat)
        return await self._books.close(call, Judgement(CallState.DISPUTED, missing, reason))

    async def _take_back(self, call: PaidCall) -> PaidCall | None:
        """Swap the token back to this wallet; None where that was not possible."""
        try:
            return await self._books.reclaim(call, "the token was taken back")
        except (TokenSpent, TokenUneconomic, MintError):
            return None

    async def _spent(self, call: PaidCall) -> bool:
        """Tell whether the mint says that the token's proofs are all spent."""

        def ys(conn: Any, _now: float) -> list[str]:
            statuses = (ProofStatus.SENT, ProofStatus.SPENT)
            found = [proofs_with(conn, status=s, holder=call.transfer_id) for s in statuses]
            return [proof.Y for proofs in found for proof in proofs]

        known = await self._wallet.transactions.run(ys)
        try:
            states = await self._wallet.mints.client(call.mint).check_state(known)
        except OtrtaError:
            return False
        return not states or set(states.values()) == {"SPENT"}

    async def _ask_gateway(self, call: PaidCall) -> _Told | None:
        """Ask the change routes with the original token; None where the token is not at hand any more."""
        transfers = await self._wallet.transactions.run(
            lambda conn, _now: load_transfers(conn, transfer_id=call.transfer_id)
        )
        token = transfers[0].token if transfers else None
        if token is None:
            return None
        told = _Told(404, {}, None)
        for path in CHANGE_PATHS:
            headers = [(b"X-Cashu", token.encode())]
            reply, data = await ask_for_reply(self._transport, "POST", call.gateway, path, headers)
            change = next(iter(values(reply.headers, b"x-cashu")), None)
            told = _Told(reply.status, _object(data), change if (change or "").startswith("cashu") else None)
            if reply.status not in (404, 405):
                break
        return told

    async def _later(self, call: PaidCall, reason: str | None) -> PaidCall:
        """Note when to try again, or give a dispute up when its time is over."""
        now = self._wallet.transactions.now()
        if call.state is CallState.DISPUTED and call.created_at < now - CLAIM_WINDOW_S:
            return await self._books.update(call, state=CallState.LOST)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(call.tries, 12))
        values_: dict[str, Any] = {"tries": call.tries + 1, "next_try_at": now + pause_s}
        if call.state is CallState.IN_FLIGHT:
            values_["state"] = CallState.AWAITING_CHANGE
        if reason is not None:
            values_["reason"] = reason
        return await self._books.update(call, **values_)

    async def _load(self, call_id: str) -> PaidCall:
        return await self._wallet.transactions.run(lambda conn, _now: calls.load(conn, call_id))


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = wire.from_json(data)
    except (ValueError, UnicodeError):
        return {}
    return body if isinstance(body, dict) else {}
