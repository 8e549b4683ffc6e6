"""What a wallet does with a mint that works."""

from dataclasses import replace

import pytest

from otrta_core import AmountError, DleqInvalid, Token, TokenError
from otrta_wallet import (
    MintNotKnown,
    MintRefused,
    NotEnoughFunds,
    TokenPending,
    TokenSpent,
    TokenUneconomic,
    UnitMismatch,
    WalletError,
    journal,
)
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    fees_paid,
    pending,
    states_at_the_mint,
    top_up,
)

pytestmark = pytest.mark.anyio


async def kept(wallet, token):
    """Keep a token and return the operation."""
    incoming = await wallet.inspect(token)
    return await wallet.transactions.run(wallet.keep, incoming, None)


@pytest.mark.parametrize(("unit", "in_msat"), [("sat", 21_000), ("msat", 21)])
async def test_a_paid_invoice_becomes_ecash_once(alice, mint, unit, in_msat):
    quote = await alice.request_invoice(mint.url, 21, unit)
    assert quote.request.startswith("ln")
    assert await alice.claim_quote(quote.id) == 21
    assert await alice.claim_quote(quote.id) == 21
    [balance] = await alice.balances()
    assert (balance.mint, balance.unit, balance.available, balance.pending) == (mint.url, unit, 21, 0)
    [line] = await alice.history()
    assert (line.kind, line.amount_msat, line.fee_msat, line.state) == ("invoice", in_msat, 0, "done")


async def test_money_goes_from_wallet_to_wallet_to_the_msat(alice, bob, mint):
    await top_up(alice, mint.url, 10_000)
    transfer = await alice.send(mint.url, 1_234, "msat")
    assert Token.parse(transfer.token).amount == transfer.amount == 1_234
    assert (await available(alice), await pending(alice)) == (8_766, 1_234)
    operation = await bob.receive(Token.parse(transfer.token))
    assert (operation.kind, operation.state, operation.amount, operation.fee) == ("receive", "done", 1_234, 0)
    assert await available(bob) == 1_234
    await alice.recover()
    assert await alice.transfers() == []
    assert await accounted_for(alice, bob) == 10_000
    await assert_really_there(alice, bob)


async def test_what_is_at_hand_is_sent_without_asking_the_mint(alice, mint):
    await top_up(alice, mint.url, 64)
    await alice.send(mint.url, 17, "msat")
    assert await alice.open_operations() == []
    assert [line.kind for line in await alice.history()] == ["send", "invoice"]


async def test_what_is_not_at_hand_is_made_by_a_swap(alice, mint):
    await top_up(alice, mint.url, 64)
    await alice.send(mint.url, 63, "msat")  # leaves 1 msat
    await alice.reclaim((await alice.transfers())[0].id)
    first = await alice.send(mint.url, 32, "msat")
    second = await alice.send(mint.url, 32, "msat")
    assert [first.amount, second.amount] == [32, 32]
    assert await available(alice) == 0
    assert await accounted_for(alice) == 64


async def test_a_sent_token_can_be_taken_back(alice, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat", memo="for nobody")
    assert Token.parse(transfer.token).memo == "for nobody"
    operation = await alice.reclaim(transfer.id)
    assert (operation.state, operation.amount) == ("done", 60)
    assert (await available(alice), await pending(alice), await alice.transfers()) == (100, 0, [])
    with pytest.raises(TokenSpent):
        await alice.reclaim(transfer.id)
    assert [(h.kind, h.amount_msat) for h in await alice.history()] == [
        ("reclaim", 60),
        ("send", -60),
        ("invoice", 100),
    ]


async def test_a_claimed_token_cannot_be_taken_back(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    await bob.receive(Token.parse(transfer.token))
    with pytest.raises(TokenSpent):
        await alice.reclaim(transfer.id)
    assert (await available(alice), await pending(alice), await alice.transfers()) == (40, 0, [])
    await assert_really_there(alice, bob)


async def test_a_token_is_spent_once(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    await bob.receive(token)
    with pytest.raises(TokenSpent):
        await bob.receive(token)
    await alice.recover()
    with pytest.raises(TokenSpent):
        await alice.receive(token)
    assert (await available(alice), await available(bob)) == (40, 60)


async def test_our_own_token_comes_back_by_receiving_it(alice, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    await alice.receive(Token.parse(transfer.token))
    assert (await available(alice), await pending(alice)) == (100, 0)
    assert await alice.transfers() == []
    await assert_really_there(alice)


async def test_our_own_token_that_its_mint_refuses_can_still_be_taken_back(alice, mint):
    """Refused as a whole because of a stranger's bad proof in it."""
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    token = Token.parse(transfer.token)
    forged = replace(token.proofs[0], amount=1, secret="never signed", dleq=None)
    with pytest.raises(MintRefused):
        await alice.receive(replace(token, proofs=(*token.proofs, forged)))
    assert (await available(alice), await pending(alice)) == (40, 60)
    assert (await alice.reclaim(transfer.id)).amount == 60
    assert await available(alice) == 100


async def test_our_own_proof_under_a_changed_signature_is_refused(alice, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    first, *rest = Token.parse(transfer.token).proofs
    changed = replace(first, C=rest[0].C)
    with pytest.raises(TokenError, match="altered"):
        await alice.receive(Token(mint.url, "msat", (changed, *rest)))
    assert (await alice.reclaim(transfer.id)).amount == 60


async def test_a_part_of_our_own_token_leaves_the_rest_out(alice, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    first, *rest = Token.parse(transfer.token).proofs
    await alice.receive(Token(mint.url, "msat", (first,)))
    assert [t.id for t in await alice.transfers()] == [transfer.id]
    assert (await alice.reclaim(transfer.id)).amount == sum(p.amount for p in rest)
    assert await available(alice) == 100


async def test_a_kept_token_counts_as_available_and_is_swapped_later(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    operation = await kept(bob, token)
    assert (operation.kind, operation.state) == ("redeem", "stored")
    assert (await available(bob), await pending(bob)) == (60, 0)
    assert [op.id for op in await bob.kept()] == [operation.id]
    assert await states_at_the_mint(bob, ProofStatus.INCOMING) == {"UNSPENT"}
    assert (await bob.redeem(operation.id)).state == "done"
    assert (await bob.redeem(operation.id)).state == "done"
    assert (await available(bob), await bob.kept()) == (60, [])
    await assert_really_there(bob)


async def test_a_kept_token_is_not_spent_before_it_is_swapped(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    await kept(bob, Token.parse((await alice.send(mint.url, 60, "msat")).token))
    with pytest.raises(NotEnoughFunds):
        await bob.send(mint.url, 10, "msat")


async def test_a_token_in_the_wallet_is_not_taken_again(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    await kept(bob, token)
    with pytest.raises(TokenPending):
        await bob.receive(token)
    with pytest.raises(TokenPending):
        await kept(bob, token)
    assert await available(bob) == 60


async def test_of_a_kept_token_that_others_spent_in_part_the_rest_stays(alice, bob, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    operation = await kept(bob, token)
    largest = token.proofs[-1]
    async with open_wallet("carol") as carol:
        await carol.mints.add(mint.url)
        await carol.receive(replace(token, proofs=(largest,)))
    with pytest.raises(TokenSpent):
        await bob.redeem(operation.id)
    [rest] = await bob.kept()
    assert rest.amount == 60 - largest.amount == await available(bob)
    await bob.redeem(rest.id)
    assert await available(bob) == rest.amount
    await assert_really_there(bob)


async def test_a_kept_token_that_was_spent_is_gone(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    transfer = await alice.send(mint.url, 60, "msat")
    operation = await kept(bob, Token.parse(transfer.token))
    await alice.reclaim(transfer.id)
    with pytest.raises(TokenSpent):
        await bob.redeem(operation.id)
    assert (await bob.kept(), await available(bob)) == ([], 0)
    with pytest.raises(MintRefused, match="spent already"):
        await bob.redeem(operation.id)


async def test_too_little_is_said_with_both_sums(alice, mint):
    await top_up(alice, mint.url, 100)
    with pytest.raises(NotEnoughFunds, match=r"101 msat .* 100 msat"):
        await alice.send(mint.url, 101, "msat")
    with pytest.raises(NotEnoughFunds):
        await alice.send(mint.url, 1, "sat")
    with pytest.raises(NotEnoughFunds):
        await alice.send(mint.url, 2**63 - 1, "msat")
    assert await available(alice) == 100


@pytest.mark.parametrize("amount", [0, -1])
async def test_nothing_and_less_cannot_be_sent_or_asked_for(alice, mint, amount):
    await top_up(alice, mint.url, 100)
    with pytest.raises(AmountError):
        await alice.send(mint.url, amount, "msat")
    with pytest.raises(AmountError):
        await alice.request_invoice(mint.url, amount, "msat")


@pytest.mark.parametrize(("amount", "unit"), [(2**63, "msat"), (2**63 // 1000 + 1, "sat"), (1, "usd")])
async def test_an_invoice_that_cannot_be_counted_is_not_asked_for(alice, mint, amount, unit):
    with pytest.raises(AmountError):
        await alice.request_invoice(mint.url, amount, unit)


async def test_a_token_whose_word_for_its_unit_is_wrong_is_refused(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    for word in ("sat", "usd"):
        with pytest.raises(UnitMismatch):
            await bob.receive(replace(token, unit=word))


async def test_a_token_of_amounts_that_the_mint_does_not_sign_is_refused(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    odd = replace(token.proofs[0], amount=3)
    with pytest.raises(TokenError):
        await bob.receive(replace(token, proofs=(odd,)))


async def test_a_token_with_a_false_dleq_is_refused_untouched(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat", with_dleq=True)).token)
    first, *rest = token.proofs
    assert first.dleq is not None
    false = replace(first, dleq=replace(first.dleq, e=first.dleq.s))
    with pytest.raises(DleqInvalid):
        await bob.receive(replace(token, proofs=(false, *rest)))
    assert (await bob.receive(token)).amount == 60


async def test_tokens_go_out_without_dleq_unless_asked(alice, mint):
    await top_up(alice, mint.url, 100)
    assert all(p.dleq is None for p in Token.parse((await alice.send(mint.url, 9, "msat")).token).proofs)


async def test_fees_are_shown_and_add_up(open_wallet, fee_mint):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(fee_mint.url)
        await top_up(alice, fee_mint.url, 1_000)
        token = Token.parse((await alice.send(fee_mint.url, 300, "msat")).token)
        incoming = await bob.inspect(token)
        assert (incoming.fee, incoming.net) == (1, 299)
        operation = await bob.receive(token)
        assert (operation.amount, operation.fee) == (299, 1)
        assert [(h.amount_msat, h.fee_msat) for h in await bob.history()] == [(299, 1)]
        await alice.recover()
        await alice.send(fee_mint.url, 600, "msat")
        await alice.reclaim((await alice.transfers())[0].id)
        assert await fees_paid(alice) > 0
        assert await accounted_for(alice, bob) == 1_000
        history = await alice.history()
        assert sum(h.amount_msat for h in history) == await available(alice)
        await assert_really_there(alice, bob)


async def test_a_lone_proof_that_its_fee_would_eat_is_refused_untouched(open_wallet, fee_mint):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(fee_mint.url)
        await top_up(alice, fee_mint.url, 100)
        transfer = await alice.send(fee_mint.url, 1, "msat")
        with pytest.raises(TokenUneconomic):
            await bob.receive(Token.parse(transfer.token))
        with pytest.raises(TokenUneconomic):
            await alice.reclaim(transfer.id)
        assert await states_at_the_mint(alice, ProofStatus.SENT) == {"UNSPENT"}
        assert [t.id for t in await alice.transfers()] == [transfer.id]


async def test_a_mint_that_was_not_added_is_never_asked(alice, counting_http, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    http, calls = counting_http
    async with open_wallet("bob", http=http) as bob:
        for wanted in (bob.receive(token), bob.inspect(token), bob.request_invoice(mint.url, 1, "msat")):
            with pytest.raises(MintNotKnown):
                await wanted
        with pytest.raises(MintNotKnown):
            await bob.send(mint.url, 1, "msat")
        await bob.recover()
    assert calls == []


async def test_a_quote_of_nobody_is_not_claimed(alice):
    with pytest.raises(WalletError):
        await alice.claim_quote("no-such-quote")
    with pytest.raises(WalletError):
        await alice.reclaim("no-such-transfer")
    with pytest.raises(KeyError):
        await alice.redeem("no-such-operation")


async def test_at_least_an_amount_is_sent_without_asking_the_mint(alice, bob, mint):
    await top_up(alice, mint.url, 64)
    for _ in range(2):
        await alice.send(mint.url, 4, "msat")  # leaves no small pieces
    before = await available(alice)
    transfer = await alice.send(mint.url, 4, "msat", exact=False, memo="keep the rest")
    assert 4 < transfer.amount <= 8
    assert await available(alice) == before - transfer.amount
    assert [operation.kind for operation in await operations_of(alice)] == ["mint"]
    token = Token.parse(transfer.token)
    assert (token.memo, token.amount) == ("keep the rest", transfer.amount)
    assert (await bob.receive(token)).amount == transfer.amount
    assert (await alice.history())[0].amount_msat == -transfer.amount
    await alice.recover()
    assert await accounted_for(alice, bob) == 64
    with pytest.raises(NotEnoughFunds):
        await alice.send(mint.url, 65, "msat", exact=False)


async def operations_of(wallet):
    return await wallet.transactions.run(lambda conn, _now: journal.with_state(conn, "done"))
