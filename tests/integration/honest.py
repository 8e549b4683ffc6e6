"""Scripts of a gateway that keeps its word, and its books: what it took, and what it gave."""

import json
from typing import Any

import trio

from otrta_core import Token, read_lock
from tests.integration.scripted_gateway import (
    ANSWER,
    COST_MSAT,
    JSON,
    SSE,
    Script,
    ScriptedGateway,
    Seen,
    send,
)

SPENT = b'{"error": {"code": "token_already_spent", "message": "spent"}}'
EVENT = f"data: {ANSWER.decode()}\n\n"


def fee_of(token: Token, ppk: int) -> int:
    """What the mint keeps when a token is redeemed (NUT-02)."""
    return (len(token.proofs) * ppk + 999) // 1000


def trade(
    cost: int | None = COST_MSAT, *, status: int = 200, stream: bool = False, ppk: int = 0, says: bool = True
) -> Script:
    """Take the token, note what is due back, and answer.

    Args:
        cost: what the call costs; None for all that was paid, without an account of it.
        status: of the answer.
        stream: whether the answer is a stream, with the change in its comments.
        ppk: the mint's input fee.
        says: whether anything is answered at all, rather than the connection closed.
    """

    async def script(gateway: ScriptedGateway, connection: trio.SocketStream, seen: Seen) -> None:
        fee = fee_of(seen.token, ppk)
        try:
            paid = await gateway.take(seen, fee)
        except AssertionError:  # it came twice, or its sender took it back
            again = gateway.given.get(seen.token.proofs[0].Y)
            await send(connection, 400, JSON | ({"X-Cashu": again} if again else {}), SPENT)
            return
        answer = b"{}" if cost is None else ANSWER if status < 400 else b'{"error": {}}'
        rest = 0 if cost is None else paid.amount - fee - cost
        change = (await gateway.money(rest, paid.unit)).encode() if rest else ""
        gateway.given[paid.proofs[0].Y] = change
        if not says:
            await connection.aclose()
        elif stream:
            comments = f": x-cashu {change}\n" if change else ""
            text = f"{EVENT}: otrta change={rest}\n{comments}\ndata: [DONE]\n\n"
            await send(connection, status, SSE, text.encode())
        else:
            headers = {**JSON, "X-Otrta-Change-Msat": str(rest)} | ({"X-Cashu": change} if change else {})
            await send(connection, status, headers, answer)

    return script


async def remember(gateway: ScriptedGateway, connection: trio.SocketStream, seen: Seen) -> None:
    """The change route: the change of a token that was taken, the same each time; 404 for any other."""
    key = seen.token.proofs[0].Y
    if key not in gateway.given and read_lock(seen.token.proofs[0].secret) is not None:
        # one that is locked to it, nobody else can give back
        fee = fee_of(seen.token, gateway.ppk)
        paid = await gateway.take(seen, fee)
        gateway.given[key] = (await gateway.money(paid.amount - fee)).encode()
    if key not in gateway.given:
        taken = key in {token.proofs[0].Y for token in gateway.taken}
        await send(connection, 202 if taken else 404, JSON, b"{}")
        return
    change = gateway.given[key]
    amount = Token.parse(change).amount if change else 0
    body: dict[str, Any] = {"state": "settled", "paid_msat": seen.token.amount, "change_msat": amount}
    await send(connection, 200, JSON | ({"X-Cashu": change} if change else {}), json.dumps(body).encode())


def kept(gateway: ScriptedGateway) -> int:
    """What the gateway, and its mint's fees, have kept of all that it took."""
    given = sum(Token.parse(change).amount for change in gateway.given.values() if change)
    return sum(token.amount for token in gateway.taken) - given
