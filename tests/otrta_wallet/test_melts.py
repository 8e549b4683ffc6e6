"""Paying Lightning invoices: what it costs is known before, exact after, and never lost in between."""

import pytest

from otrta_wallet import InvoicePaid, NotEnoughFunds, QuoteExpired, WalletError
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio


async def invoice_of(wallet, mint, amount, unit="msat"):
    """An invoice that another wallet would be topped up by."""
    await wallet.mints.add(mint)
    return (await wallet.request_invoice(mint, amount, unit)).request


@pytest.mark.parametrize("unit", ["msat", "sat"])
async def test_an_invoice_is_paid_and_all_but_the_fee_comes_back(alice, bob, mint, fee_mint, unit):
    await top_up(alice, mint.url, 10_000, unit)
    invoice = await invoice_of(bob, fee_mint.url, 1_000, unit)
    quote = await alice.request_melt(mint.url, invoice, unit)
    assert (quote.amount, quote.state) == (1_000, "open")
    melt = await alice.melt(quote.id)
    assert (melt.state, melt.amount, melt.fee) == ("paid", 1_000, 1)
    assert await available(alice, unit) == 10_000 - 1_000 - 1
    assert await pending(alice, unit) == 0
    assert melt.preimage
    await assert_really_there(alice)
