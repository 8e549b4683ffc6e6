"""Tokens locked to keys: made by a swap, taken with the key, taken back when their lock falls to us."""

import secrets
import time
from dataclasses import replace

import anyio
import pytest
from sqlalchemy import select

from otrta_core import P2PK, LockError, SigFlag, Spend, Token, read_lock, schnorr, sign_inputs
from otrta_wallet import NotEnoughFunds, TokenSpent
from otrta_wallet.outputs import GivenSecret, make_proofs, outputs_with
from otrta_wallet.schema import ProofStatus, outputs
from tests.otrta_wallet.reckoning import (
    accounted_for,
    assert_really_there,
    available,
    pending,
    states_at_the_mint,
    top_up,
)

pytestmark = pytest.mark.anyio

SOMEBODY = bytes(31) + b"\x07"
A_DAY_S = 86_400


def to(wallet, **options):
    return P2PK(wallet.lock_keys.public, **options)


def proofs_of(transfer):
    return Token.parse(transfer.token).proofs


async def test_the_seed_gives_the_key(open_wallet):
    async with open_wallet() as wallet:
        public = wallet.lock_keys.public
    async with open_wallet() as wallet:
        assert wallet.lock_keys.public == public
        assert repr(wallet.lock_keys) == f"LockKeys(public={public!r})"


@pytest.mark.parametrize("flag", SigFlag)
async def test_a_locked_token_is_for_its_receiver_only(alice, bob, open_wallet, mint, flag):
    await top_up(alice, mint.url, 1_000)
    sent = await alice.send_locked(mint.url, 333, "msat", to(bob, sigflag=flag), memo="yours")
    token = Token.parse(sent.token)
    assert (token.amount, token.memo, sent.amount, sent.state) == (333, "yours", 333, "open")
    assert len({proof.secret for proof in token.proofs}) == len(token.proofs) > 1
    assert {read_lock(proof.secret) for proof in token.proofs} == {to(bob, sigflag=flag)}
    assert (await available(alice), await pending(alice)) == (667, 333)
    with pytest.raises(LockError):
        await alice.receive(token)
    assert await alice.open_operations() == []

    assert (await bob.receive(token)).amount == 333
    await alice.recover()
    assert (await available(alice), await pending(alice), await available(bob)) == (667, 0, 333)
    assert [(e.kind, e.amount_msat) for e in await alice.history()][:1] == [("send", -333)]
    assert await alice.transfers() == []
    await assert_really_there(alice, bob)


async def test_a_stranger_to_the_lock_asks_nobody(open_wallet, alice, mint, counting_http):
    http, calls = counting_http
    await top_up(alice, mint.url, 100)
    sent = await alice.send_locked(mint.url, 50, "msat", P2PK(schnorr.public_key(SOMEBODY)))
    async with open_wallet("carol", http=http) as carol:
        with pytest.raises(LockError) as refused:
            await carol.receive(Token.parse(sent.token))
        assert (refused.value.code, calls) == ("lock_not_accepted", [])
        assert await carol.open_operations() == []
    assert await states_at_the_mint(alice, ProofStatus.SENT) == {"UNSPENT"}


async def test_a_key_that_is_handed_in_opens_its_locks_for_ever(open_wallet, alice, mint):
    await top_up(alice, mint.url, 100)
    sent = await alice.send_locked(mint.url, 50, "msat", P2PK(schnorr.public_key(SOMEBODY)))
    async with open_wallet("carol") as carol:
        await carol.mints.add(mint.url)
        with pytest.raises(LockError):
            await carol.receive(Token.parse(sent.token))
        for _ in range(2):
            assert await carol.lock_keys.add(SOMEBODY) == schnorr.public_key(SOMEBODY)
        for wrong in (b"", bytes(32), b"\xff" * 32):
            with pytest.raises(LockError):
                await carol.lock_keys.add(wrong)
    async with open_wallet("carol") as carol:
        assert (await carol.receive(Token.parse(sent.token))).amount == 50


async def test_all_the_keys_that_a_lock_asks_for_must_be_at_hand(alice, bob, mint):
    other = schnorr.public_key(SOMEBODY)
    await top_up(alice, mint.url, 300)
    both = to(bob, pubkeys=(other,), n_sigs=2)
    needs_both = await alice.send_locked(mint.url, 70, "msat", both)
    needs_one = await alice.send_locked(mint.url, 70, "msat", to(bob, pubkeys=(other,)))
    all_both = await alice.send_locked(mint.url, 70, "msat", replace(both, sigflag=SigFlag.SIG_ALL))
    assert (await bob.receive(Token.parse(needs_one.token))).amount == 70
    for transfer in (needs_both, all_both):
        with pytest.raises(LockError):
            await bob.receive(Token.parse(transfer.token))
    await bob.lock_keys.add(SOMEBODY)
    for transfer in (needs_both, all_both):
        await bob.receive(Token.parse(transfer.token))
    assert (await available(alice), await available(bob)) == (90, 210)


async def test_a_signature_that_comes_with_the_token_counts(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    lock = to(bob, pubkeys=(schnorr.public_key(SOMEBODY),), n_sigs=2)
    token = Token.parse((await alice.send_locked(mint.url, 70, "msat", lock)).token)
    signed = replace(token, proofs=sign_inputs(token.proofs, [SOMEBODY], int(time.time()), Spend()))
    assert (await bob.receive(Token.parse(signed.encode()))).amount == 70


async def test_what_is_locked_comes_back_when_its_time_is_over_and_not_before(alice, bob, mint):
    """To its refund keys; without any, to whoever is first."""
    await top_up(alice, mint.url, 500)
    until = int(time.time()) + 5  # four tokens must be made before it is over
    ours = alice.lock_keys.public
    lock = P2PK(schnorr.public_key(SOMEBODY), locktime=until, refund=(ours,))
    back = await alice.send_locked(mint.url, 100, "msat", lock)
    back_all = await alice.send_locked(mint.url, 100, "msat", replace(lock, sigflag=SigFlag.SIG_ALL))
    late = await alice.send_locked(mint.url, 100, "msat", to(bob, locktime=until, refund=(ours,)))
    free = await alice.send_locked(mint.url, 100, "msat", replace(lock, refund=()))
    for transfer in (back, back_all, free):
        with pytest.raises(LockError):
            await alice.reclaim(transfer.id)
        with pytest.raises(LockError):
            await bob.receive(Token.parse(transfer.token))
    assert len(await alice.transfers()) == 4
    assert (await available(alice), await pending(alice)) == (100, 400)

    await anyio.sleep(until + 1.1 - time.time())  # the mint's clock is the machine's
    assert (await alice.reclaim(back.id)).amount == 100
    assert (await alice.reclaim(back_all.id)).amount == 100
    assert (await bob.receive(Token.parse(late.token))).amount == 100  # its own key goes on holding
    assert (await bob.receive(Token.parse(free.token))).amount == 100
    with pytest.raises(TokenSpent):
        await alice.reclaim(late.id)
    await alice.recover()
    assert (await available(alice), await pending(alice), await available(bob)) == (300, 0, 200)
    assert await accounted_for(alice, bob) == 500
    await assert_really_there(alice, bob)


async def test_a_clock_ahead_of_the_mints_loses_nothing(far_alice, network, clock):
    """The refund is signed too early: the mint refuses it, and the token stays out."""
    await top_up(far_alice, network.url, 200)
    until = int(time.time()) + A_DAY_S
    lock = P2PK(schnorr.public_key(SOMEBODY), locktime=until, refund=(far_alice.lock_keys.public,))
    sent = await far_alice.send_locked(network.url, 100, "msat", lock)
    clock.ahead_s = 2 * A_DAY_S
    with pytest.raises(Exception, match="refused"):
        await far_alice.reclaim(sent.id)
    assert [t.id for t in await far_alice.transfers()] == [sent.id]
    assert (await available(far_alice), await pending(far_alice)) == (100, 100)


async def test_a_lock_that_holds_nothing_is_not_made(alice, mint, monkeypatch):
    await top_up(alice, mint.url, 100)
    over = P2PK(schnorr.public_key(SOMEBODY), locktime=int(time.time()) - 1)
    with pytest.raises(LockError, match="over"):
        await alice.send_locked(mint.url, 50, "msat", over)
    with pytest.raises(NotEnoughFunds):
        await alice.send_locked(mint.url, 101, "msat", replace(over, locktime=None))
    client = alice.mints.client(mint.url)
    info = await client.info()

    async def without_locks():
        return info.model_copy(update={"nuts": {**info.nuts, "11": {"supported": False}}})

    monkeypatch.setattr(client, "info", without_locks)
    with pytest.raises(LockError, match="does not keep locks"):
        await alice.send_locked(mint.url, 50, "msat", replace(over, locktime=None))
    assert (await available(alice), await pending(alice), await alice.transfers()) == (100, 0, [])


async def test_locked_outputs_take_no_counters(alice, bob, mint):
    """A restore gives up after a run of counters that the mint knows nothing of."""
    await top_up(alice, mint.url, 1_024)
    keyset = await alice.mints.active_keyset(mint.url, "msat")

    async def counter():
        return (await alice.transactions.run(lambda conn, _now: taken(conn, keyset.id)))[-1]

    def taken(conn, keyset_id):
        query = select(outputs.c.counter).where(outputs.c.keyset_id == keyset_id)
        return sorted(row.counter for row in conn.execute(query) if row.counter is not None)

    before = await counter()
    sent = await alice.send_locked(mint.url, 1_023, "msat", to(bob))
    assert len(proofs_of(sent)) == 10
    assert await counter() == before  # its inputs fitted, so that there was no change either


# --- locks that look as if they held ----------------------------------------------------------------

KEY = schnorr.public_key(SOMEBODY)
LATER = "9999999999"
TRAPS = {
    "no nonce": f'["P2PK",{{"data":"{KEY}"}}]',
    "an integer in a tag": f'["P2PK",{{"nonce":"{{nonce}}","data":"{KEY}","tags":[["locktime",{LATER}]]}}]',
    "three elements": f'["P2PK",{{"nonce":"{{nonce}}","data":"{KEY}"}},"{{nonce}}"]',
    "two locktimes, the first of which is over": (
        f'["P2PK",{{"nonce":"{{nonce}}","data":"{KEY}","tags":[["locktime","1000000000"],["locktime","{LATER}"]]}}]'
    ),
    "a negative locktime": f'["P2PK",{{"nonce":"{{nonce}}","data":"{KEY}","tags":[["locktime","-1"]]}}]',
    "a locktime with an underscore": (
        f'["P2PK",{{"nonce":"{{nonce}}","data":"{KEY}","tags":[["locktime","1_000"]]}}]'
    ),
}


async def token_with(wallet, mint_url, text):
    """Make a token of one msat whose secret is this text, as an attacker would."""
    keyset = await wallet.mints.active_keyset(mint_url, "msat")
    (given,) = Token.parse((await wallet.send(mint_url, 1, "msat")).token).proofs
    # an attacker can add anything that keeps the text of this form, so that it is new each time
    secret = text.replace("{nonce}", secrets.token_hex(16))
    secret = secret if secret != text else text.replace("]", " " * secrets.randbelow(600) + "]")
    r = f"{1 + secrets.randbelow(2**250):064x}"
    planned = outputs_with(keyset.id, [GivenSecret(1, None, secret, r)])
    signed = await wallet.mints.client(mint_url).swap([given], [o.message() for o in planned])
    return Token(mint_url, "msat", tuple(make_proofs(b"", {keyset.id: keyset}, planned, signed)))


@pytest.mark.parametrize("trap", TRAPS)
async def test_a_lock_that_this_mint_does_not_keep_is_never_taken_for_one(alice, bob, mint, trap):
    await top_up(alice, mint.url, 10)
    token = await token_with(alice, mint.url, TRAPS[trap])
    await bob.lock_keys.add(SOMEBODY)  # not even by the owner of the key that it names
    with pytest.raises(LockError):
        await bob.receive(Token.parse(token.encode()))
    (proof,) = token.proofs
    assert await bob.mints.client(mint.url).check_state([proof.Y]) == {proof.Y: "UNSPENT"}

    keyset = await bob.mints.active_keyset(mint.url, "msat")  # anybody can spend it, without a signature
    anybody = outputs_with(keyset.id, [GivenSecret(1, None, secrets.token_hex(32), f"{5:064x}")])
    await bob.mints.client(mint.url).swap([proof], [o.message() for o in anybody])
    assert await bob.mints.client(mint.url).check_state([proof.Y]) == {proof.Y: "SPENT"}
