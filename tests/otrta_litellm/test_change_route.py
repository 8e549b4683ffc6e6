"""What the change route says of a token in each state of its payment, and how spent change is found."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from otrta_core import Token
from otrta_litellm.asgi import Receive, Scope, Send
from otrta_litellm.gateway import Gateway
from otrta_litellm.schema import payments as payments_table
from otrta_wallet import store
from otrta_wallet.schema import ProofStatus
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ROUTES = ["/v1/cashu/change", "/v1/wallet/refund"]


async def ask(gateway: Gateway, path: str, token: Token | None, **options: Any) -> tuple[Caller, Any]:
    caller = await Caller(token, path, **options).call(answers(), gateway)
    return caller, json.loads(caller.content)


def change_in(caller: Caller) -> Token:
    return Token.parse(caller.told[b"x-cashu"].decode())


@pytest.mark.parametrize("path", ROUTES)
async def test_each_state_has_its_answer(gateway: Gateway, purse: Purse, path: str) -> None:
    token = purse.token(PAID)
    never_taken, _ = await ask(gateway, path, token)
    assert (never_taken.status, never_taken.code) == (404, "payment_not_found")
    assert purse.states(token) == {"UNSPENT"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        running, said = await ask(gateway, path, token)
        assert (running.status, said["state"], said["paid_msat"]) == (202, "redeemed", PAID)
        assert (said["cost_msat"], said["change_msat"]) == (None, None)
        assert b"retry-after" in running.told
        assert b"x-cashu" not in running.told
        await answers()(scope, receive, send)

    served = await Caller(token).call(app, gateway)
    settled, said = await ask(gateway, path, token)
    assert (settled.status, said["state"]) == (200, "settled")
    assert (said["paid_msat"], said["cost_msat"], said["fee_msat"]) == (PAID, 110, 0)
    assert said["change_msat"] == PAID - 110
    assert settled.told[b"x-cashu"] == served.told[b"x-cashu"]
    assert settled.told[b"cache-control"] == b"no-store"
    assert b"retry-after" not in settled.told

    purse.spend(change_in(served))
    claimed, said = await ask(gateway, path, token)
    assert (claimed.status, said["state"]) == (200, "claimed")
    assert (said["cost_msat"], said["change_msat"]) == (110, PAID - 110)
    assert b"x-cashu" not in claimed.told


@pytest.mark.parametrize("path", ROUTES)
async def test_change_that_is_owed_is_said_to_be(
    gateway: Gateway, purse: Purse, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_swap(*_: object) -> None:
        raise RuntimeError("away")

    token = purse.token(PAID)
    with monkeypatch.context() as broken:
        broken.setattr("otrta_litellm.change.at_hand.take", lambda *_, **__: None)
        broken.setattr(await gateway.wallet(), "hold_exact", no_swap)
        served = await Caller(token).call(answers(), gateway)
        assert served.sums == (PAID, 110, 0, PAID - 110)
        assert b"x-cashu" not in served.told
        owed, said = await ask(gateway, path, token)
        assert (owed.status, said["state"], said["change_msat"]) == (202, "owed", PAID - 110)
        assert b"retry-after" in owed.told
        assert b"x-cashu" not in owed.told
    await gateway._end_calls()
    settled, said = await ask(gateway, path, token)
    assert (settled.status, said["state"], change_in(settled).amount) == (200, "settled", PAID - 110)
    assert purse.states(change_in(settled)) == {"UNSPENT"}


@pytest.mark.parametrize("path", ROUTES)
async def test_no_token_and_garbage_are_malformed(gateway: Gateway, path: str) -> None:
    for headers in ({}, {"X-Cashu": "nonsense"}, {"X-Cashu": "cashuBnonsense"}):
        refused, _ = await ask(gateway, path, None, headers=headers)
        assert refused.status == 400
    refused, _ = await ask(gateway, path, None, method="GET")
    assert refused.status == 405


async def test_spent_change_of_many_is_found_by_one_question_and_erased(
    gateway: Gateway, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await gateway.wallet()
    served = [await Caller(purse.token(PAID + n)).call(answers(), gateway) for n in range(3)]
    spent, kept = served[:2], served[2]
    for each in spent:
        purse.spend(change_in(each))
    client = wallet.mints.client(purse.mint)
    ask_mint, asked = client.check_state, []

    async def counting(ys: Sequence[str]) -> Any:
        asked.append(len(ys))
        return await ask_mint(ys)

    monkeypatch.setattr(client, "check_state", counting)
    await gateway._watch_claims()
    assert asked == []

    def make_due(conn: Connection, _now: float) -> None:
        due = payments_table.c.claim_look_at.is_not(None)
        conn.execute(update(payments_table).where(due).values(claim_look_at=0.0))

    await wallet.transactions.run(make_due)
    await gateway._watch_claims()
    assert asked == [sum(len(change_in(each).proofs) for each in served)]

    def look(conn: Connection, now: float) -> tuple[set[tuple[str, bool]], int, int]:
        states = conn.execute(select(payments_table.c.state, payments_table.c.change_token.is_(None)))
        due = select(func.count()).where(payments_table.c.claim_look_at <= now)
        still_sent = store.proofs_with(conn, status=ProofStatus.SENT)
        found = {(row[0], bool(row[1])) for row in states}
        return found, conn.execute(due).scalar_one(), sum(proof.amount for proof in still_sent)

    states, due, sent = await wallet.transactions.run(look)
    assert states == {("claimed", True), ("settled", False)}
    assert (due, sent) == (0, change_in(kept).amount)
