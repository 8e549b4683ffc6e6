"""Paying out: costs are known before, nothing is paid twice, and callers come first."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, update

from otrta_cli.processes import Running
from otrta_core import OtrtaError, Token, Unit
from otrta_litellm import payments, payout_rows
from otrta_litellm import payout as payout_module
from otrta_litellm.desk import Desk
from otrta_litellm.gateway import Gateway
from otrta_litellm.payout import PayoutRefused
from otrta_litellm.payout_rows import Payout, PayoutState
from otrta_litellm.schema import payouts as payouts_table
from otrta_wallet import Wallet
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import PAID, Caller, answers, opened
from tests.otrta_litellm.samples import offer
from tests.payee import Payee, invoice, payee

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

KEEP = 100_000
EARNED = 1_000_000
RESERVE = 2_000
"""What Nutshell sets aside for the Lightning fee of a payment up to 200 sat; above, one per cent."""


@pytest.fixture(scope="module")
def service() -> Iterator[Payee]:
    with payee() as found:
        yield found


@pytest.fixture
def me(service: Payee) -> Payee:
    """Somebody with a Lightning address."""
    service.good()
    return service


@pytest.fixture(scope="module")
def network(mint: Running) -> Iterator[FaultProxy]:
    with fault_proxy(mint.port) as proxy:
        yield proxy


async def earn(gateway: Gateway, purse: Purse, amount_msat: int = EARNED) -> Wallet:
    """Put so much into the gateway's wallet."""
    wallet = await gateway.wallet()
    await wallet.receive(purse.token(amount_msat))
    return wallet


async def there(wallet: Wallet) -> int:
    """What is in the wallet, in msat, be it pending."""
    return sum(Unit.parse(b.unit).to_msat(b.available + b.pending) for b in await wallet.balances())


@asynccontextmanager
async def paying_by_itself(directory: Path, mint: str, to: str, **values: Any) -> AsyncIterator[Gateway]:
    """A gateway that pays out by itself, when a test says so."""
    setting = {"to": to, "above_msat": 500_000, "keep_msat": KEEP, "every_s": 10, **values}
    async with opened(str(directory), mint, payout=setting) as gateway:
        yield gateway


async def test_an_invoice_is_paid_and_what_it_cost_is_known(gateway: Gateway, purse: Purse) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    offered = await payouts.offer(invoice(300_000))
    assert (offered.state, offered.kind, offered.amount_msat) == (PayoutState.OFFERED, "bolt11", 300_000)
    assert offered.fee_msat == 3_000
    assert await there(wallet) == EARNED
    paid, token = await payouts.pay(offered.id)
    assert (paid.state, token) == (PayoutState.PAID, None)
    assert await there(wallet) == EARNED - 300_000 - paid.fee_msat
    assert paid.fee_msat <= offered.fee_msat
    again, _ = await payouts.pay(offered.id)
    assert again == paid
    assert await there(wallet) == EARNED - 300_000 - paid.fee_msat
    assert await payouts.newest(10) == [paid]


async def test_a_lightning_address_gets_all_that_is_free(gateway: Gateway, purse: Purse, me: Payee) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    offered = await payouts.offer(me.address)
    assert offered.amount_msat % 1000 == 0
    assert EARNED - KEEP - 2_000 < offered.amount_msat + offered.fee_msat <= EARNED - KEEP
    assert me.asked[-1] == offered.amount_msat
    paid, _ = await payouts.pay(offered.id)
    assert await there(wallet) == EARNED - paid.amount_msat - paid.fee_msat >= KEEP


async def test_a_part_of_it_is_paid_to_the_msat(gateway: Gateway, purse: Purse, me: Payee) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    paid, _ = await payouts.pay((await payouts.offer(me.address, 123_456)).id)
    assert paid.amount_msat == 123_456
    assert await there(wallet) == EARNED - 123_456 - paid.fee_msat


async def test_a_token_is_made_and_shown_again_until_it_is_claimed(gateway: Gateway, purse: Purse) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    offered = await payouts.offer("token", 250_001)
    paid, token = await payouts.pay(offered.id)
    assert paid.state is PayoutState.PAID
    assert token is not None
    made = Token.parse(token)
    assert (made.amount, made.unit) == (250_001, "msat")
    assert (await payouts.pay(offered.id))[1] == token
    purse.spend(made)
    await wallet.recover()
    assert (await payouts.pay(offered.id))[1] is None
    assert await there(wallet) == EARNED - 250_001


async def test_a_token_that_nobody_claimed_is_taken_back_once(gateway: Gateway, purse: Purse) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    made, token = await payouts.pay((await payouts.offer("token", 250_001)).id)
    assert token is not None
    assert made.transfer_state == "open"
    assert (await Desk(gateway).balance())["paid_out_msat"] == 250_001
    ended: list[Payout | OtrtaError] = []

    async def cancel() -> None:
        try:
            ended.append(await payouts.cancel(made.id))
        except OtrtaError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(cancel)
    cancelled = await payouts.cancel(made.id)
    assert (cancelled.state, cancelled.transfer_state) == (PayoutState.CANCELLED, "reclaimed")
    assert cancelled in ended
    assert purse.states(Token.parse(token)) == {"SPENT"}
    assert await there(wallet) == EARNED
    assert (await Desk(gateway).balance())["paid_out_msat"] == 0
    assert await payouts.pay(made.id) == (cancelled, None)
    assert await payouts.newest(9) == [cancelled]


async def test_what_its_receiver_has_or_never_was_a_token_is_not_taken_back(
    gateway: Gateway, purse: Purse
) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    made, token = await payouts.pay((await payouts.offer("token", 250_001)).id)
    purse.spend(Token.parse(token or ""))
    for _ in range(2):
        with pytest.raises(PayoutRefused, match="has claimed the token"):
            await payouts.cancel(made.id)
    paid, _ = await payouts.pay((await payouts.offer(invoice(100_000))).id)
    with pytest.raises(PayoutRefused, match="only a token can"):
        await payouts.cancel(paid.id)
    assert (await payouts.cancel((await payouts.offer("token", 1_000)).id)).state is PayoutState.FAILED
    with pytest.raises(PayoutRefused, match="no such payout"):
        await payouts.cancel("nothing")
    assert await there(wallet) == EARNED - 250_001 - 100_000 - paid.fee_msat


async def test_a_token_whose_way_back_is_unknown_is_ours_after_recovery(
    tmp_path: Path, network: FaultProxy, mint: Running
) -> None:
    network.reset()
    with Purse(mint.url, network.url) as purse:
        async with opened(str(tmp_path), network.url) as gateway:
            wallet = await earn(gateway, purse)
            payouts = await gateway.payouts()
            made, _ = await payouts.pay((await payouts.offer("token", 65_536)).id)
            network.spoil("swap", Fault("reply-dropped", keeps=None))
            network.spoil("checkstate", *[Fault("502", forwards=0, answer=(502, b"no"))] * 8)
            waiting = await payouts.cancel(made.id)
            assert (waiting.state, waiting.transfer_state) == (PayoutState.PAID, "reclaiming")
            assert (await payouts.cancel(made.id)).state is PayoutState.PAID
            network.reset()
            await gateway.recover()
            [cancelled] = await payouts.newest(9)
            assert (cancelled.state, cancelled.transfer_state) == (PayoutState.CANCELLED, "reclaimed")
            assert await there(wallet) == EARNED


async def test_a_tokens_swaps_are_booked_once(tmp_path: Path, fee_mint: Running) -> None:
    with Purse(fee_mint.url) as purse:
        async with opened(str(tmp_path), fee_mint.url) as gateway:
            wallet = await earn(gateway, purse)
            held = await there(wallet)
            payouts = await gateway.payouts()
            made, _ = await payouts.pay((await payouts.offer("token", 250_001)).id)
            assert (await Desk(gateway).balance())["payout_fees_msat"] == 0
            await payouts.cancel(made.id)
            balance = await Desk(gateway).balance()
            assert balance["swap_fees_msat"] > 0
            assert await there(wallet) == held - balance["swap_fees_msat"]


async def test_what_callers_are_owed_is_not_paid_out(gateway: Gateway, purse: Purse) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    early = await payouts.offer("token", 800_000)

    def run_a_call(conn: Connection, now: float) -> None:
        # somebody's call of 850,000 msat, all of which may have to go back
        payments.receive(conn, now, offer(purse.note(Token(purse.mint, "msat", TOKEN)), 850_000))

    await wallet.transactions.run(run_a_call)
    with pytest.raises(PayoutRefused, match="at most 50000 msat are free"):
        await payouts.offer("token", 60_000)
    with pytest.raises(OtrtaError, match="callers are owed more by now"):
        await payouts.pay(early.id)
    assert await there(wallet) == EARNED
    paid, token = await payouts.pay((await payouts.offer("token", 50_000)).id)
    assert (paid.amount_msat, token is None) == (50_000, False)


TOKEN = offer().token.proofs


@pytest.mark.parametrize(
    ("to", "amount", "said"),
    [
        ("token", EARNED, "at most 900000 msat are free"),
        ("token", 900_001, "at most 900000 msat are free"),
        (invoice(950_000), None, "at most 900000 msat are free"),
        (invoice(5_000), 6_000, "names its own amount"),
        ("lnbc1", None, "no Lightning invoice"),
        ("me@127.0.0.1:1", None, "cannot be asked"),
    ],
    ids=["all", "too-much", "invoice", "amount", "torn", "nobody"],
)
async def test_what_cannot_be_paid_is_refused_before(
    gateway: Gateway, purse: Purse, to: str, amount: int | None, said: str
) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    with pytest.raises(OtrtaError, match=said):
        await payouts.offer(to, amount)
    assert {payout.state for payout in await payouts.newest(1)} <= {PayoutState.FAILED}
    assert await there(wallet) == EARNED


async def test_an_offer_that_has_run_out_is_not_paid(
    gateway: Gateway, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    offered = await payouts.offer("token", 1_000)
    left = await payouts.offer("token", 1_000)
    monkeypatch.setattr(payout_module, "OFFER_S", -1.0)
    with pytest.raises(PayoutRefused, match="run out"):
        await payouts.pay(offered.id)
    await payouts.keep()
    assert {p.id: p.state for p in await payouts.newest(2)} == dict.fromkeys(
        [offered.id, left.id], PayoutState.FAILED
    )
    with pytest.raises(PayoutRefused, match="no such payout"):
        await payouts.pay("nothing")
    assert await there(wallet) == EARNED


async def test_above_a_threshold_it_is_paid_by_itself_once(
    tmp_path: Path, mint: Running, purse: Purse, me: Payee
) -> None:
    async with paying_by_itself(tmp_path, mint.url, me.address) as gateway:
        payouts = await gateway.payouts()
        wallet = await earn(gateway, purse, 500_000)
        await payouts.keep()
        assert await payouts.newest(1) == []
        await wallet.receive(purse.token(100_000))
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(payouts.keep)
        [paid] = await payouts.newest(10)
        assert (paid.state, paid.automatic, paid.destination) == (PayoutState.PAID, True, me.address)
        assert await there(wallet) == 600_000 - paid.amount_msat - paid.fee_msat
        assert KEEP <= await there(wallet) < KEEP + 2 * RESERVE + 5_000
        await wallet.receive(purse.token(600_000))
        await payouts.keep()
        assert await payouts.newest(10) == [paid]  # not again before every_s
        balance = await Desk(gateway).balance()
        assert (balance["paid_out_msat"], balance["payout_fees_msat"]) == (paid.amount_msat, paid.fee_msat)


async def test_a_fee_above_the_limit_is_not_paid_by_itself(
    tmp_path: Path, mint: Running, purse: Purse, me: Payee
) -> None:
    async with paying_by_itself(tmp_path, mint.url, me.address, max_fee="0.001") as gateway:
        wallet = await earn(gateway, purse)
        await (payouts := await gateway.payouts()).keep()
        [failed] = await payouts.newest(1)
        assert failed.state is PayoutState.FAILED
        assert "max_fee" in (failed.error or "")
        assert await there(wallet) == EARNED


async def test_an_unknown_outcome_blocks_what_pays_by_itself_until_it_is_known(
    tmp_path: Path, network: FaultProxy, mint: Running, me: Payee
) -> None:
    network.reset()
    with Purse(mint.url, network.url) as purse:
        async with paying_by_itself(tmp_path, network.url, me.address) as gateway:
            wallet = await earn(gateway, purse)
            payouts = await gateway.payouts()
            lost = Fault("reply-dropped", keeps=None)
            silent = Fault("502", forwards=0, answer=(502, b"no"))
            network.spoil("melt/bolt11$", lost, silent, silent, silent, silent, silent, silent)
            network.spoil("melt/quote/bolt11/", *[silent] * 8)
            network.spoil("checkstate", *[silent] * 8)
            await payouts.keep()
            [open_one] = await payouts.newest(1)
            assert open_one.state is PayoutState.PAYING
            await wallet.transactions.run(grow_old)
            await wallet.receive(purse.token(2_000_000))
            assert await taken(wallet, open_one.mint)
            network.reset()
        async with paying_by_itself(tmp_path, network.url, me.address, every_s=604_800) as gateway:
            payouts = await gateway.payouts()
            with anyio.fail_after(30):
                while (await payouts.newest(1))[0].state is PayoutState.PAYING:
                    await payouts.keep()
                    await anyio.sleep(0.1)
            [known] = [p for p in await payouts.newest(10) if p.id == open_one.id]
            wallet = await gateway.wallet()
            assert known.state is PayoutState.PAID
            assert not await taken(wallet, known.mint)
            later = [p for p in await payouts.newest(10) if p.state is PayoutState.PAID]
            spent = sum(p.amount_msat + p.fee_msat for p in later)
            assert await there(wallet) == EARNED + 2_000_000 - spent


def grow_old(conn: Connection, _now: float) -> None:
    """Make all payouts old enough for another one to be due."""
    conn.execute(update(payouts_table).values(created_at=1.0))


async def taken(wallet: Wallet, mint: str) -> bool:
    """Whether an automatic payout of a mint is open: no other one gets in."""

    class Undo(Exception):
        pass

    def try_it(conn: Connection, now: float) -> None:
        if payout_rows.offer(conn, now, "lnurl", "x@y.example", mint, "msat", automatic=True) is not None:
            raise Undo

    try:
        await wallet.transactions.run(try_it)
    except Undo:
        return False
    return True


async def test_what_a_dead_worker_had_offered_is_paid_by_nobody(
    tmp_path: Path, mint: Running, purse: Purse, me: Payee
) -> None:
    async with paying_by_itself(tmp_path, mint.url, me.address) as gateway:
        wallet = await earn(gateway, purse)
        dead = await wallet.transactions.run(
            payout_rows.offer, "lnurl", me.address, mint.url, "msat", automatic=True
        )
        assert dead is not None
        payouts = await gateway.payouts()
        await payouts.keep()
        assert await payouts.newest(10) == []
        await wallet.transactions.run(grow_old)
        await payouts.keep()
        states = {p.id: p.state for p in await payouts.newest(10)}
        assert states.pop(dead.id) is PayoutState.FAILED
        assert list(states.values()) == [PayoutState.PAID]


async def test_a_payout_that_two_begin_is_paid_once(gateway: Gateway, purse: Purse) -> None:
    wallet = await earn(gateway, purse)
    payouts = await gateway.payouts()
    offered = await payouts.offer(invoice(200_000))
    ended: list[Payout | OtrtaError] = []

    async def pay() -> None:
        try:
            ended.append((await payouts.pay(offered.id))[0])
        except OtrtaError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(pay)
    paid, _ = await payouts.pay(offered.id)
    assert paid.state is PayoutState.PAID
    assert await there(wallet) == EARNED - 200_000 - paid.fee_msat


async def test_a_paid_call_and_its_change_are_in_the_balance(gateway: Gateway, purse: Purse) -> None:
    await earn(gateway, purse)
    served = await Caller(purse.token(PAID)).call(answers(), gateway)
    assert served.sums == (PAID, 110, 0, PAID - 110)
    balance = await Desk(gateway).balance()
    [at_mint] = balance["mints"]
    assert (balance["earned_msat"], balance["change_out_msat"]) == (110, PAID - 110)
    assert balance["float_msat"] == EARNED + 110
    assert sum(int(amount) * number for amount, number in at_mint["float"].items()) == EARNED + 110
    assert (balance["owed_msat"], balance["running_msat"], balance["pending_msat"]) == (0, 0, 0)
    [payment] = (await Desk(gateway).do("payments", {"model": "demo-chat", "state": "settled"}))["payments"]
    assert (payment["cost_msat"], payment["change_msat"]) == (110, PAID - 110)
    assert not {"change_token", "memo_hash"} & payment.keys()
    assert (await Desk(gateway).do("payments", {"state": "claimed"}))["payments"] == []


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 5000}, {"state": "x"}, {"x": 1}])
async def test_a_question_that_cannot_be_answered_is_refused(gateway: Gateway, asked: dict[str, Any]) -> None:
    with pytest.raises(OtrtaError, match="missing, unknown or out of range"):
        await Desk(gateway).do("payments", asked)
