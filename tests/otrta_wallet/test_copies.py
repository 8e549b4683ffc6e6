"""A wallet whose database is a copy or a backup: it finds out what its other life did, and takes nothing."""

import pytest
from anyio import to_thread
from sqlalchemy import select

from otrta_core import P2PK, Token
from otrta_wallet import MintError, store
from otrta_wallet.schema import ProofStatus, keysets
from tests.fault_proxy import Fault
from tests.otrta_wallet.reckoning import assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio


async def counters(wallet):
    def read(conn, _now):
        rows = conn.execute(select(keysets.c.id, keysets.c.counter).where(keysets.c.counter > 0))
        return {row.id: row.counter for row in rows}

    return await wallet.transactions.run(read)


async def test_what_another_life_spent_is_gone_and_its_counters_are_skipped(
    open_wallet, empty_store, tmp_path, mint
):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(mint.url)
        await top_up(alice, mint.url, 500)
    await to_thread.run_sync(empty_store.copy, tmp_path, "alice", "copy")
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        before = await available(alice)
        await bob.receive(Token.parse((await alice.send(mint.url, 123, "msat")).token))
        await top_up(alice, mint.url, 1_000)
        await bob.receive(Token.parse((await alice.send(mint.url, 77, "msat")).token))
        used = await counters(alice)
    async with open_wallet("copy") as copy:
        gone = await copy.catch_up_with_copies(mint.url, empty_batches=2)
        assert gone["msat"] == before - await available(copy) > 0
        await assert_really_there(copy)
        skipped = await counters(copy)
        assert all(skipped[keyset] >= counter for keyset, counter in used.items())
        assert await copy.catch_up_with_copies(mint.url, empty_batches=2) == {}
        assert await counters(copy) == skipped
        await top_up(copy, mint.url, 100)
        await copy.hold_exact(mint.url, 50, "msat", "somebody")
        await assert_really_there(copy)


async def test_what_another_life_may_have_handed_out_is_set_aside_until_it_is_taken_back(
    open_wallet, empty_store, tmp_path, mint
):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(mint.url)
        await top_up(alice, mint.url, 500)
    await to_thread.run_sync(empty_store.copy, tmp_path, "alice", "copy")
    async with open_wallet("alice") as alice:
        out = Token.parse((await alice.send(mint.url, 100, "msat")).token)
        late = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    handed_out = {proof.Y for token in (out, late) for proof in token.proofs}
    async with open_wallet("copy") as copy, open_wallet("bob") as bob:
        gone = (await copy.catch_up_with_copies(mint.url, empty_batches=2)).get("msat", 0)
        assert await copy.set_aside(mint.url) > 0
        assert (await available(copy), await pending(copy)) == (0, 500 - gone)
        await copy.recover()  # which lets go of what was held and forgotten
        assert await available(copy) == 0
        await top_up(copy, mint.url, 300)
        given = Token.parse((await copy.send(mint.url, 200, "msat")).token)
        assert not {proof.Y for proof in given.proofs} & handed_out
        await bob.receive(out)  # whoever has it can spend it
        assert await copy.take_back(mint.url, older_than_s=3600.0) == 0
        assert await copy.take_back(mint.url) == 1
        assert await pending(copy) == given.amount
        assert await states(copy, late) == {"SPENT"}
        await assert_really_there(copy)
        assert await copy.take_back(mint.url) == 0


async def states(wallet, token):
    return set((await wallet.mints.client(token.mint).check_state([p.Y for p in token.proofs])).values())


async def test_a_wallet_without_another_life_stays_as_it_is(alice, mint):
    await top_up(alice, mint.url, 500)
    before = await counters(alice)
    assert await alice.catch_up_with_copies(mint.url, empty_batches=1) == {}
    assert (await counters(alice), await available(alice)) == (before, 500)


async def test_what_is_held_is_asked_for_too_and_what_is_pending_waits(far_alice, network):
    await top_up(far_alice, network.url, 500)
    await far_alice.hold_exact(network.url, 40, "msat", "debt:somebody")

    def claimed(conn, now):
        return [proof.Y for proof in store.proofs_with(conn, status=ProofStatus.HELD)]

    held = await far_alice.transactions.run(claimed)
    assert held
    network.spoil(r"^/v1/checkstate$", Fault("lie", twist=lambda body: body.replace(b"UNSPENT", b"PENDING")))
    assert await far_alice.catch_up_with_copies(network.url, empty_batches=1) == {}
    assert (await available(far_alice), await pending(far_alice)) == (0, 500)
    await far_alice.recover()
    assert await available(far_alice) == 500


async def test_a_mint_that_is_away_is_asked_again_later(far_alice, network):
    await top_up(far_alice, network.url, 500)
    network.spoil(r"^/v1/(keys|keysets|restore|checkstate)", *[Fault("away", forwards=0, keeps=None)] * 40)
    with pytest.raises(MintError):
        await far_alice.catch_up_with_copies(network.url, empty_batches=1)
    network.reset()
    assert await far_alice.catch_up_with_copies(network.url, empty_batches=1) == {}


async def test_a_new_lock_key_stands_before_the_others_which_still_open(open_wallet, mint):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(mint.url)
        await top_up(bob, mint.url, 100)
        first = alice.lock_keys.public
        assert await alice.lock_keys.all_public() == [first]
        sent = await bob.send_locked(mint.url, 40, "msat", P2PK(first))
        second = await alice.transactions.run(alice.lock_keys.renew)
        assert alice.lock_keys.public == first
        await alice.lock_keys.load()
        assert alice.lock_keys.public == second != first
        assert await alice.lock_keys.all_public() == [second, first]
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        assert alice.lock_keys.public == second
        assert (await alice.receive(Token.parse(sent.token))).amount == 40
        sent = await bob.send_locked(mint.url, 20, "msat", P2PK(second))
        assert (await alice.receive(Token.parse(sent.token))).amount == 20
        third = await alice.transactions.run(alice.lock_keys.renew)
        await alice.lock_keys.load()
        assert (await alice.lock_keys.all_public())[0] == third
        assert set(await alice.lock_keys.all_public()) == {first, second, third}
        assert second not in repr(alice.lock_keys)
