"""Making change from a real wallet at a real mint: at hand, by a swap, owed, and never twice."""

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
from sqlalchemy import Connection, text

from otrta_cli.processes import Running
from otrta_core import Proof, Settlement, Token
from otrta_litellm import change, payments
from otrta_litellm.gateway import VERSION_TABLE
from otrta_litellm.payments import LeaseLost, Offer, Payment, PaymentParticipant
from otrta_litellm.schema import PaymentState
from otrta_wallet import NotEnoughFunds, Wallet, store
from otrta_wallet.custody import DEBT
from otrta_wallet.schema import ProofStatus
from tests.integration.purse import Purse
from tests.otrta_litellm.samples import CALL, PRICE

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PAID = 10_000
SETTLED = Settlement(paid=PAID, fee=0, charged=110, change=PAID - 110)


@pytest.fixture
async def wallet(place: str, mint: Running) -> AsyncIterator[Wallet]:
    participant = PaymentParticipant(lambda: 5.0)
    migrations = [("otrta_litellm", VERSION_TABLE)]
    async with Wallet.open(place, participants=[participant], migrations=migrations) as wallet:
        await wallet.mints.add(mint.url)
        yield wallet


async def redeemed(wallet: Wallet, token: Token) -> Payment:
    """A payment that this token made."""
    run = wallet.transactions.run
    offer = Offer(token, token.amount, 0, "/v1/chat/completions", CALL, PRICE)
    payment = await run(payments.receive, offer)
    incoming = await wallet.inspect(token)
    operation = await wallet.prepare_receive(
        incoming,
        reference=payment.id,
        also=lambda conn, now, _: payments.begin_redeeming(conn, now, payment.id),
    )
    await wallet.carry_out(operation)
    return await run(lambda conn, _now: payments.load(conn, payment.id))


async def proofs(wallet: Wallet, status: ProofStatus) -> list[Proof]:
    return await wallet.transactions.run(lambda conn, _now: store.proofs_with(conn, status=status))


async def set_aside(wallet: Wallet, holder: str) -> None:
    """Hold the whole float for somebody."""

    def move(conn: Connection, now: float) -> None:
        ys = [p.Y for p in store.proofs_with(conn, status=ProofStatus.AVAILABLE)]
        store.move_proofs(
            conn, ys, was=ProofStatus.AVAILABLE, now_is=ProofStatus.HELD, holder=holder, now=now
        )

    await wallet.transactions.run(move)


async def give_back(wallet: Wallet) -> None:
    def move(conn: Connection, now: float) -> None:
        ys = [p.Y for p in store.proofs_with(conn, status=ProofStatus.HELD)]
        store.move_proofs(conn, ys, was=ProofStatus.HELD, now_is=ProofStatus.AVAILABLE, holder=None, now=now)

    await wallet.transactions.run(move)


def change_of(payment: Payment) -> Token:
    assert payment.change_token is not None
    return Token.parse(payment.change_token)


async def test_change_comes_from_proofs_at_hand_without_the_mint(
    wallet: Wallet, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    monkeypatch.setattr(wallet, "hold_exact", None)
    settled = await change.settle(wallet, payment, SETTLED, "served")
    made = change_of(settled)
    assert (settled.state, settled.change_due, made.amount) == (PaymentState.SETTLED, False, PAID - 110)
    assert len(made.proofs) <= made.amount.bit_length()
    assert len(settled.change_token or "") <= 4000
    assert made.memo is None
    assert purse.states(made) == {"UNSPENT"}
    assert {p.Y for p in await proofs(wallet, ProofStatus.SENT)} == {p.Y for p in made.proofs}


async def test_change_that_does_not_fit_is_made_by_a_swap(wallet: Wallet, purse: Purse) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    small = Settlement(paid=PAID, fee=0, charged=PAID - 3, change=3)

    def keep_large(conn: Connection, now: float) -> None:
        ys = [p.Y for p in store.proofs_with(conn, status=ProofStatus.AVAILABLE) if p.amount < 8]
        store.move_proofs(
            conn, ys, was=ProofStatus.AVAILABLE, now_is=ProofStatus.HELD, holder="other", now=now
        )

    await wallet.transactions.run(keep_large)
    settled = await change.settle(wallet, payment, small, "served")
    assert change_of(settled).amount == 3
    assert purse.states(change_of(settled)) == {"UNSPENT"}


async def test_change_that_cannot_be_made_is_owed_and_made_later_once(wallet: Wallet, purse: Purse) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    owed = await change.settle(wallet, payment, SETTLED, "served")
    assert (owed.change_due, owed.change_token, owed.change_msat) == (True, None, PAID - 110)
    await give_back(wallet)
    paid = await change.make_due_change(wallet, owed)
    assert change_of(paid).amount == PAID - 110
    again = await change.make_due_change(wallet, owed)
    assert again.change_token == paid.change_token
    assert await change.settle(wallet, payment, SETTLED, "recovered") == paid


async def test_what_was_settled_otherwise_before_is_not_taken_for_paid(wallet: Wallet, purse: Purse) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    free = Settlement(paid=PAID, fee=0, charged=0, change=PAID)
    first = await change.settle(wallet, payment, free, "recovered")
    with pytest.raises(LeaseLost):
        await change.settle(wallet, payment, SETTLED, "served")
    assert await change.settle(wallet, payment, free, "recovered") == first
    assert change_of(first).amount == PAID


async def test_what_is_held_for_a_debt_pays_it_and_the_rest_is_free(wallet: Wallet, purse: Purse) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    owed = await change.settle(wallet, payment, SETTLED, "served")
    await give_back(wallet)
    await redeemed(wallet, purse.token(PAID + 1))
    await set_aside(wallet, DEBT + payment.id)
    paid = await change.make_due_change(wallet, owed)
    assert change_of(paid).amount == PAID - 110
    held = sum(p.amount for p in await proofs(wallet, ProofStatus.HELD))
    assert held == PAID + 1 + 110
    await wallet.transactions.run(change.free_what_nobody_is_owed)
    assert await proofs(wallet, ProofStatus.HELD) == []


async def test_what_is_held_for_a_debt_that_is_open_stays_held(wallet: Wallet, purse: Purse) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    await change.settle(wallet, payment, SETTLED, "served")
    await give_back(wallet)
    await set_aside(wallet, DEBT + payment.id)
    await wallet.transactions.run(change.free_what_nobody_is_owed)
    assert len(await proofs(wallet, ProofStatus.HELD)) > 0
    await give_back(wallet)
    await set_aside(wallet, "somebody else")
    await wallet.transactions.run(change.free_what_nobody_is_owed)
    assert len(await proofs(wallet, ProofStatus.HELD)) > 0


async def test_a_mint_that_does_not_answer_leaves_the_change_owed_within_seconds(
    wallet: Wallet, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        await anyio.sleep_forever()

    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    monkeypatch.setattr(change, "CHANGE_WITHIN_S", 0.1)
    monkeypatch.setattr(wallet, "hold_exact", silent)
    with anyio.fail_after(3):
        assert (await change.settle(wallet, payment, SETTLED, "served")).change_due


async def test_a_store_that_fails_after_the_settlement_leaves_the_change_owed(
    wallet: Wallet, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("disk full")

    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    monkeypatch.setattr(wallet, "hold_exact", broken)
    assert (await change.settle(wallet, payment, SETTLED, "served")).change_due


async def test_a_swap_for_a_debt_is_not_begun_twice(
    wallet: Wallet, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    async def refused(*args: object) -> None:
        begun.append(args)
        raise NotEnoughFunds("x")

    payment = await redeemed(wallet, purse.token(PAID))
    await set_aside(wallet, "other")
    owed = await change.settle(wallet, payment, SETTLED, "served")
    monkeypatch.setattr(wallet, "hold_exact", refused)

    def under_way(conn: Connection, now: float) -> None:
        query = "update operations set state = 'prepared', reference = :debt where kind = 'receive'"
        conn.execute(text(query), {"debt": DEBT + payment.id})

    await change.make_due_change(wallet, owed)
    assert len(begun) == 1
    await wallet.transactions.run(under_way)
    assert (await change.make_due_change(wallet, owed)).change_due
    assert len(begun) == 1


async def test_change_is_never_of_a_keyset_that_the_mint_has_retired(
    wallet: Wallet, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await redeemed(wallet, purse.token(PAID))
    retired = {k: replace(v, active=False) for k, v in wallet.mints.keysets(payment.mint).items()}
    monkeypatch.setattr(wallet.mints, "keysets", lambda _url: retired)
    assert (await change.settle(wallet, payment, SETTLED, "served")).change_due


async def test_change_of_sats_is_counted_in_sats(wallet: Wallet, purse: Purse) -> None:
    token = purse.token(6, "sat")
    run = wallet.transactions.run
    offer = Offer(token, 6000, 0, "/v1/chat/completions", CALL, PRICE)
    payment = await run(payments.receive, offer)
    incoming = await wallet.inspect(token)
    operation = await wallet.prepare_receive(
        incoming,
        reference=payment.id,
        also=lambda conn, now, _: payments.begin_redeeming(conn, now, payment.id),
    )
    await wallet.carry_out(operation)
    settled = await change.settle(wallet, payment, Settlement(6000, 0, 1000, 5000), "served")
    assert (change_of(settled).amount, change_of(settled).unit) == (5, "sat")
