"""Paying Lightning invoices: what it costs is known before, exact after, and never lost in between."""

import json
import logging
import os
from functools import partial
from pathlib import Path

import anyio
import pytest

from otrta_core import AmountError, InvoiceError
from otrta_wallet import (
    InvoicePaid,
    MintRefused,
    MintUnreachable,
    NotEnoughFunds,
    OutcomeUnknown,
    PaymentFailed,
    QuoteExpired,
    WalletError,
    journal,
    quotes,
)
from otrta_wallet.executor import LANDS_WITHIN_S
from tests.fault_proxy import Fault
from tests.otrta_wallet.lightning import LIGHTNING_FEE, RESERVE_MSAT, offer, strangers_invoice
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

LONG = os.environ.get("OTRTA_LONG") == "1"
VECTORS = Path(__file__).parents[1] / "otrta_core/data/bolt11.json"


def twisted(**changed):
    """A fault that changes fields of the mint's reply."""
    return Fault("lie", twist=lambda body: json.dumps(json.loads(body) | changed).encode())


async def given(wallet, operation_id):
    """What the inputs of a payment were worth."""
    return await wallet.transactions.run(lambda conn, _now: journal.input_amount(conn, operation_id))


async def balance(wallet, unit="msat"):
    return await available(wallet, unit), await pending(wallet, unit)


# --- a payment that goes well ----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["msat", "sat"])
async def test_an_invoice_is_paid_and_all_but_the_fee_comes_back(alice, mint, fee_mint, unit):
    await top_up(alice, mint.url, 10_000, unit)
    invoice = await strangers_invoice(fee_mint.url, 1_000, unit)
    quote = await alice.request_melt(mint.url, invoice, unit)
    assert (quote.amount, quote.state) == (1_000, "open")
    assert quote.fee_reserve > LIGHTNING_FEE
    melt = await alice.melt(quote.id)
    assert (melt.state, melt.amount, melt.fee, bool(melt.preimage)) == ("paid", 1_000, LIGHTNING_FEE, True)
    assert await balance(alice, unit) == (10_000 - 1_000 - LIGHTNING_FEE, 0)
    [line, _] = await alice.history()
    msat = 1 if unit == "msat" else 1000
    assert (line.kind, line.amount_msat, line.fee_msat) == ("pay", -1_001 * msat, LIGHTNING_FEE * msat)
    await assert_really_there(alice)


@pytest.mark.parametrize("amount", [1, 7, 1_000, 4_095, 60_000])
async def test_every_fee_is_counted_at_a_mint_that_takes_them(alice, mint, fee_mint, amount):
    await alice.mints.add(fee_mint.url)
    await top_up(alice, fee_mint.url, 100_000)
    melt = await alice.melt(await offer(alice, fee_mint.url, mint.url, amount))
    assert await balance(alice) == (100_000 - amount - melt.fee, 0)
    assert 1 < melt.fee < 10
    assert await accounted_for(alice) == 100_000
    assert sum(line.amount_msat for line in await alice.history()) == await available(alice)
    await assert_really_there(alice)


async def test_no_more_is_given_than_the_payment_may_take(alice, mint, fee_mint):
    await top_up(alice, mint.url, 2**17)
    await alice.send(mint.url, 2**17 - 2**14, "msat")  # leaves one large piece or a few
    melt = await alice.melt(await offer(alice, mint.url, fee_mint.url, 1_234))
    assert await given(alice, melt.operation_id) == 1_234 + RESERVE_MSAT


async def test_no_more_is_given_at_a_mint_that_takes_fees(alice, mint, fee_mint):
    await alice.mints.add(fee_mint.url)
    await top_up(alice, fee_mint.url, 100_000)
    melt = await alice.melt(await offer(alice, fee_mint.url, mint.url, 1_234))
    assert 0 < await given(alice, melt.operation_id) - 1_234 - RESERVE_MSAT <= 2


async def test_the_last_msat_pays_where_a_swap_would_cost_too_much(alice, mint, fee_mint):
    await alice.mints.add(fee_mint.url)
    await top_up(alice, fee_mint.url, 1_000 + RESERVE_MSAT + 3)
    melt = await alice.melt(await offer(alice, fee_mint.url, mint.url, 1_000))
    assert melt.state == "paid"
    assert await accounted_for(alice) == 1_000 + RESERVE_MSAT + 3


async def test_a_fee_that_takes_all_of_the_reserve_leaves_nothing_to_come_back(far_alice, network, fee_mint):
    """The mint's list of change is empty, which is its right: the reserve bounds what it may take."""
    await top_up(far_alice, network.url, 10_000)
    quote_id = await offer(far_alice, network.url, fee_mint.url)
    network.spoil("^/v1/melt/bolt11$", twisted(change=[]))
    assert (await far_alice.melt(quote_id)).fee == RESERVE_MSAT
    assert await balance(far_alice) == (9_000 - RESERVE_MSAT, 0)


async def test_whoever_asks_for_a_payment_is_told_with_it(alice, mint, fee_mint):
    await top_up(alice, mint.url, 10_000)
    heard = []
    quote_id = await offer(alice, mint.url, fee_mint.url)
    melt = await alice.melt(
        quote_id, reference="me", also=lambda _conn, _now, op: heard.append((op.id, op.reference))
    )
    assert heard == [(melt.operation_id, "me")]


async def test_many_payments_at_once(alice, mint, fee_mint):
    await top_up(alice, mint.url, 50_000)
    offers = [await offer(alice, mint.url, fee_mint.url, 1_000 + n) for n in range(3)]
    async with anyio.create_task_group() as tasks:
        for quote_id in offers:
            tasks.start_soon(alice.melt, quote_id)
    assert await balance(alice) == (50_000 - sum(1_000 + n + LIGHTNING_FEE for n in range(3)), 0)
    await assert_really_there(alice)


# --- what is not paid ------------------------------------------------------------------------------------


async def test_an_offer_is_paid_once_however_often_it_is_asked_for(alice, mint, fee_mint):
    await top_up(alice, mint.url, 10_000)
    quote_id = await offer(alice, mint.url, fee_mint.url)
    told = []

    async def pay():
        told.append(await alice.melt(quote_id))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(pay)
    assert {melt.operation_id for melt in [*told, await alice.melt(quote_id)]} == {told[0].operation_id}
    assert await available(alice) == 10_000 - 1_000 - LIGHTNING_FEE
    assert (await alice.melt_status(quote_id)) == told[0]


async def test_an_invoice_is_not_paid_twice_unless_that_is_asked_for(alice, mint, fee_mint):
    await alice.mints.add(fee_mint.url)
    for url in (mint.url, fee_mint.url):
        await top_up(alice, url, 10_000)
    invoice = await strangers_invoice(fee_mint.url, 1_000)
    first, second = [await alice.request_melt(mint.url, invoice, "msat") for _ in range(2)]
    await alice.melt(first.id)
    for url in (mint.url, fee_mint.url):
        with pytest.raises(InvoicePaid):
            await alice.request_melt(url, invoice.upper(), "msat")
    with pytest.raises(InvoicePaid):
        await alice.melt(second.id)
    with pytest.raises(MintRefused, match="already paid"):
        await alice.request_melt(mint.url, invoice, "msat", again=True)
    with pytest.raises(PaymentFailed):
        await alice.melt(second.id, again=True)
    assert await balance(alice) == (20_000 - 1_000 - LIGHTNING_FEE, 0)
    await assert_really_there(alice)


async def test_an_offer_that_has_run_out_is_not_taken_up(far_alice, network, clock, fee_mint):
    await top_up(far_alice, network.url, 10_000)
    quote_id = await offer(far_alice, network.url, fee_mint.url)
    clock.ahead_s += 100_000
    for _ in range(2):
        with pytest.raises(QuoteExpired):
            await far_alice.melt(quote_id)
        await far_alice.recover()
    assert await balance(far_alice) == (10_000, 0)
    assert await far_alice.melt_status(quote_id) is None


async def test_too_little_is_said_before_anything_is_set_aside(alice, mint, fee_mint):
    await top_up(alice, mint.url, 1_000 + RESERVE_MSAT - 1)
    quote_id = await offer(alice, mint.url, fee_mint.url)
    with pytest.raises(NotEnoughFunds):
        await alice.melt(quote_id)
    assert await balance(alice) == (1_000 + RESERVE_MSAT - 1, 0)
    await top_up(alice, mint.url, 1)
    assert (await alice.melt(quote_id)).state == "paid"


async def test_an_unknown_offer_is_refused(alice):
    for call in (alice.melt, alice.melt_status):
        with pytest.raises(WalletError, match="no mint"):
            await call("no-such-quote")


async def test_an_invoice_without_an_amount_reaches_no_mint(far_alice, network):
    network.seen.clear()
    [without, *_] = [v["request"] for v in json.loads(VECTORS.read_text()) if v["amount_msat"] is None]
    for bolt11, word in ((without, "leaves the amount"), (without[:-1], "checksum"), ("cashuB", "Lightning")):
        with pytest.raises(InvoiceError, match=word):
            await far_alice.request_melt(network.url, bolt11, "msat")
    assert network.seen == []


@pytest.mark.parametrize(
    "lie",
    [
        {"amount": 1_001},
        {"amount": 999},
        {"amount": 0},
        {"amount": 1 << 62},
        {"unit": "sat"},
        {"request": "lnbc1"},
        {"fee_reserve": 2**63 - 1},
        {"fee_reserve": -1},
        {"state": "PAID"},
        {"state": "PENDING"},
        {"quote": "../../swap"},
    ],
    ids=str,
)
async def test_an_offer_for_another_payment_is_not_kept(far_alice, network, fee_mint, lie):
    invoice = await strangers_invoice(fee_mint.url, 1_000)
    network.spoil("^/v1/melt/quote/bolt11$", twisted(**lie))
    with pytest.raises((WalletError, AmountError), match=r"offer|paid|specs"):
        await far_alice.request_melt(network.url, invoice, "msat")


async def test_an_offer_given_twice_is_not_kept_twice(far_alice, network, fee_mint):
    first = await offer(far_alice, network.url, fee_mint.url)
    network.spoil("^/v1/melt/quote/bolt11$", twisted(quote=first))
    with pytest.raises(WalletError, match="given before"):
        await offer(far_alice, network.url, fee_mint.url)


async def test_sat_pay_what_msat_are_asked_for_rounded_up(alice, mint, fee_mint):
    await top_up(alice, mint.url, 100, "sat")
    invoice = await strangers_invoice(fee_mint.url, 1_001)
    quote = await alice.request_melt(mint.url, invoice, "sat")
    assert quote.amount == 2
    assert (await alice.melt(quote.id)).fee == LIGHTNING_FEE
    assert await available(alice, "sat") == 100 - 2 - LIGHTNING_FEE


async def test_a_mint_that_cannot_be_reached_has_taken_nothing(far_alice, network, fee_mint, monkeypatch):
    await top_up(far_alice, network.url, 10_000)
    quote_id = await offer(far_alice, network.url, fee_mint.url)
    client = far_alice.mints.client(network.url)
    monkeypatch.setattr(client, "melt", partial(_unreachable))
    with pytest.raises(MintUnreachable):
        await far_alice.melt(quote_id)
    monkeypatch.undo()
    assert await balance(far_alice) == (10_000, 0)
    assert (await far_alice.melt(quote_id)).state == "paid"


async def _unreachable(*_arguments):
    raise MintUnreachable("no")


async def test_quote_ids_invoices_and_preimages_are_in_no_repr_and_no_log(alice, mint, fee_mint, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")
    await top_up(alice, mint.url, 10_000)
    invoice = await strangers_invoice(fee_mint.url, 1_000)
    quote = await alice.request_melt(mint.url, invoice, "msat")
    melt = await alice.melt(quote.id)
    reply = await alice.mints.client(mint.url).melt_quote(quote.id)
    paid = await alice.transactions.run(lambda conn, _now: journal.of_quote(conn, quote.id, "melt"))
    for value in (quote, melt, reply, paid):
        for secret in (quote.id, invoice, melt.preimage):
            assert secret not in repr(value)
            assert secret not in caplog.text
    assert "/v1/melt/quote/bolt11/" in caplog.text


# --- payments that fail, or take their time --------------------------------------------------------------


@pytest.fixture
async def carol(open_wallet, moody_mint, mint, clock):
    """A wallet with 20,000 msat at the moody mint, in whatever mood that is."""
    moody_mint.turn(*(moody_mint.mood or ("FAILED", "FAILED")))
    async with open_wallet("carol", clock=clock) as carol:
        await carol.mints.add(moody_mint.url)
        await top_up(carol, moody_mint.url, 20_000)
        yield carol


async def test_an_invoice_of_the_same_mint_is_paid_without_lightning(carol, open_wallet, moody_mint):
    async with open_wallet("dave") as dave:
        await dave.mints.add(moody_mint.url)
        invoice = await dave.request_invoice(moody_mint.url, 1_000, "msat")
        quote = await carol.request_melt(moody_mint.url, invoice.request, "msat")
        assert quote.fee_reserve == 0
        melt = await carol.melt(quote.id)
        assert melt.fee == 20_000 - 1_000 - await available(carol)
        assert melt.fee <= 3
        assert await dave.claim_quote(invoice.id) == 1_000
        await assert_really_there(carol, dave)


async def assert_all_there(wallet):
    assert await accounted_for(wallet) == 20_000
    await assert_really_there(wallet)


async def test_a_failed_payment_frees_what_it_was_to_be_made_of(carol, moody_mint, mint):
    moody_mint.turn("FAILED", "FAILED")
    quote_id = await offer(carol, moody_mint.url, mint.url)
    for _ in range(2):
        with pytest.raises(PaymentFailed, match="did not pay the invoice"):
            await carol.melt(quote_id)
        status = await carol.melt_status(quote_id)
        assert (status.state, status.preimage) == ("failed", None)
        assert await pending(carol) == 0
    await assert_all_there(carol)


@pytest.mark.parametrize(
    ("anyio_backend", "ends"), [("asyncio", "SETTLED"), ("trio", "FAILED"), *LONG * [("asyncio", "UNKNOWN")]]
)
async def test_a_payment_on_its_way_is_waited_for_however_long_it_takes(carol, moody_mint, mint, clock, ends):
    moody_mint.turn("PENDING", "PENDING")
    quote_id = await offer(carol, moody_mint.url, mint.url)
    with pytest.raises(OutcomeUnknown, match="on its way"):
        await carol.melt(quote_id)
    locked = await pending(carol)
    assert 1_000 + RESERVE_MSAT <= locked < 1_000 + RESERVE_MSAT + 3
    for _ in range(3):
        clock.ahead_s += 10 * LANDS_WITHIN_S
        assert (await carol.recover()).open == 1
        assert (await carol.melt_status(quote_id)).state == "pending"
        with pytest.raises(InvoicePaid):
            await carol.request_melt(moody_mint.url, await requested(carol, quote_id), "msat")
    assert await pending(carol) == locked
    moody_mint.turn("PENDING", ends)
    recovery = await carol.recover()
    status = await carol.melt_status(quote_id)
    match ends:
        case "SETTLED":  # asked for its state, the make-believe Lightning knows of no fee
            assert (recovery.finished, status.state) == (1, "paid")
            assert status.fee <= 3
        case "FAILED":
            assert (recovery.failed, status.state) == (1, "failed")
        case "UNKNOWN":
            assert (recovery.open, status.state) == (1, "pending")
    assert await pending(carol) == (locked if ends == "UNKNOWN" else 0)
    if ends != "UNKNOWN":
        await assert_all_there(carol)


async def requested(wallet, quote_id):
    return (await wallet.transactions.run(lambda conn, _now: quotes.load_melt_quote(conn, quote_id))).request


@pytest.mark.parametrize("anyio_backend", LONG * ["asyncio"] + ["trio"])
async def test_a_payment_that_failed_at_first_sight_only_is_found_paid(carol, moody_mint, mint):
    moody_mint.turn("FAILED", "SETTLED")
    quote_id = await offer(carol, moody_mint.url, mint.url)
    assert (await carol.melt(quote_id)).state == "paid"
    await assert_all_there(carol)
