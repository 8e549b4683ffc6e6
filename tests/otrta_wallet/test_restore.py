"""Restoring from the seed: another machine, an old copy of the database, mints that do not play along."""

import json
import os
from functools import partial

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import func, select, update

from otrta_cli.processes import free_port
from otrta_core import Token
from otrta_wallet import (
    MintUnreachable,
    OutcomeUnknown,
    SeedInUse,
    TokenSpent,
    WalletError,
    renewal,
    scanning,
    scans,
    store,
)
from otrta_wallet.executor import LANDS_WITHIN_S
from otrta_wallet.reach import ASK_FIRST_AFTER
from otrta_wallet.restore import EMPTY_BATCHES, LEFT_BEHIND_S
from otrta_wallet.schema import keysets, proofs
from otrta_wallet.schema import scans as scans_table
from otrta_wallet.seed import new_words
from tests.fault_proxy import LOCKED, Fault
from tests.otrta_wallet.reckoning import assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

LONG = os.environ.get("OTRTA_LONG") == "1"
DROPPED = Fault("dropped", forwards=0, keeps=None)


@pytest.fixture(autouse=True)
def batches(monkeypatch):
    """A sampled run looks through counters in small steps: the mint takes its time for each output."""
    for module in () if LONG else (renewal, scanning, scans):
        monkeypatch.setattr(module, "BATCH", 20)


async def leave_unused(wallet, counters):
    """Skip counters, as operations do that came to nothing."""
    query = update(keysets).where(keysets.c.counter > 0).values(counter=keysets.c.counter + counters)
    await wallet.transactions.run(lambda conn, _now: conn.execute(query))


async def count(wallet, *conditions):
    query = select(func.count()).select_from(proofs).where(*conditions)
    return await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalar_one())


async def counters(wallet):
    query = select(keysets.c.id, keysets.c.counter)
    return dict(await wallet.transactions.run(lambda conn, _now: conn.execute(query).all()))


async def in_history(wallet, kind="restore"):
    return sum(line.amount_msat for line in await wallet.history() if line.kind == kind)


async def test_another_machine_gets_every_msat_back(alice, bob, open_wallet, mint):
    await top_up(alice, mint.url, 1_000)
    await top_up(alice, mint.url, 77, "sat")
    await bob.receive(Token.parse((await alice.send(mint.url, 123, "msat")).token))
    await alice.receive(Token.parse((await bob.send(mint.url, 23, "msat")).token))
    unclaimed = await alice.send(mint.url, 5, "sat")
    async with open_wallet("new", words=await alice.words()) as new:
        restored = await new.restore(mint.url, empty_batches=2)
        assert restored.complete
        assert await available(new) == restored.found("msat") == 900 == await available(alice)
        assert await available(new, "sat") == restored.found("sat") == 77
        assert await in_history(new) == 900 + 77_000
        await assert_really_there(new)
        # what was sent and not claimed can be spent by either; the first one has it
        await bob.receive(Token.parse(unclaimed.token))
        again = await new.restore(mint.url, empty_batches=2)
        assert again.gone == {"sat": 5}
        assert await available(new, "sat") == 72
        assert await in_history(new) == 900 + 72_000


async def test_a_restored_wallet_can_be_used_at_once(alice, bob, open_wallet, mint):
    await top_up(alice, mint.url, 1_000)
    async with open_wallet("new", words=await alice.words()) as new:
        await new.restore(mint.url, empty_batches=2)
        await top_up(new, mint.url, 64)
        await bob.receive(Token.parse((await new.send(mint.url, 333, "msat")).token))
        await new.receive(Token.parse((await bob.send(mint.url, 33, "msat")).token))
        assert await available(new) == 764
        await assert_really_there(new)
        assert {line.state for line in await new.history()} == {"done"}


async def test_restoring_twice_changes_nothing(alice, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    async with open_wallet("new", words=await alice.words()) as new:
        await new.restore(mint.url, empty_batches=2)
        had, counted = await count(new), await counters(new)
        again = await new.restore(mint.url, empty_batches=2)
        assert (again.found("msat"), again.gone, await available(new)) == (0, {}, 100)
        assert (await count(new), await counters(new), await in_history(new)) == (had, counted, 100)


async def test_a_wallet_that_has_everything_finds_nothing_and_keeps_its_counters(alice, mint):
    await top_up(alice, mint.url, 100)
    counted = await counters(alice)
    assert (await alice.restore(mint.url, empty_batches=2)).found("msat") == 0
    assert (await available(alice), await counters(alice), await in_history(alice)) == (100, counted, 0)


async def test_restores_at_the_same_time_are_one(alice, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    async with open_wallet("new", words=await alice.words()) as new:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(partial(new.restore, mint.url, empty_batches=2))
        assert await available(new) == 100
        assert await in_history(new) == 100


async def test_money_behind_a_gap_is_found_and_how_far_it_looked_is_told(alice, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    batch = scanning.BATCH
    await leave_unused(alice, (EMPTY_BATCHES - 1) * batch)
    await top_up(alice, mint.url, 10)
    async with open_wallet("new", words=await alice.words()) as new:
        near = await new.restore(mint.url, empty_batches=3)
        assert near.found("msat") == 100
        far = await new.restore(mint.url)  # as wide as it looks unless told otherwise
        assert far.found("msat") == 10
        assert await available(new) == 110
        looked_to = {k.unit: k.looked_to for k in far.keysets}
        assert looked_to["sat"] == EMPTY_BATCHES * batch
        assert looked_to["msat"] >= 2 * EMPTY_BATCHES * batch


async def test_money_is_found_after_failures(far_alice, open_wallet, network, clock):
    alice = far_alice
    await top_up(alice, network.url, 500)
    for fault in (LOCKED, (500, b"")):
        network.spoil("/v1/swap", *[Fault("refused", forwards=0, answer=fault)] * 5)
        with pytest.raises(WalletError):
            await alice.hold_exact(network.url, 33, "msat", "somebody")
        network.reset()
        clock.ahead_s += LANDS_WITHIN_S + 1
        await alice.recover()
    async with open_wallet("new", words=await alice.words()) as new:
        await new.restore(network.url, empty_batches=2)
        assert await available(new) == 500
        await assert_really_there(new)


async def test_both_mints_give_back_theirs(alice, open_wallet, mint, fee_mint):
    await alice.mints.add(fee_mint.url)
    await top_up(alice, mint.url, 100)
    await top_up(alice, fee_mint.url, 200)
    async with open_wallet("new", words=await alice.words()) as new:
        assert (await new.restore(mint.url, empty_batches=2)).found("msat") == 100
        assert (await new.restore(fee_mint.url, empty_batches=2)).found("msat") == 200
        assert await new.balances() == await alice.balances()


async def test_all_keysets_of_a_mint_are_looked_through(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    async with open_wallet("alice") as alice:
        for amount in (100, 30):
            await alice.mints.add(mint.url)
            await top_up(alice, mint.url, amount)
            await top_up(alice, mint.url, amount, "sat")
            rotate("msat")
            rotate("sat")
        async with open_wallet("new", words=await alice.words()) as new:
            restored = await new.restore(mint.url, empty_batches=2)
            assert len([k for k in restored.keysets if k.found]) == 4
            assert (await available(new), await available(new, "sat")) == (130, 130)
            await assert_really_there(new)


# --- an old copy of the database ------------------------------------------------------------------------


async def test_an_old_copy_of_the_database_becomes_true_again(open_wallet, empty_store, tmp_path, mint):
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(mint.url)
        await top_up(alice, mint.url, 500)
    await to_thread.run_sync(empty_store.copy, tmp_path, "alice", "copy")
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        await bob.receive(Token.parse((await alice.send(mint.url, 123, "msat")).token))
        await top_up(alice, mint.url, 1_000)
        await bob.receive(Token.parse((await alice.send(mint.url, 77, "msat")).token))
        had = await available(alice)
    async with open_wallet("copy") as copy:
        assert await available(copy) == 500
        restored = await copy.restore(mint.url, empty_batches=2)
        assert await available(copy) == had == 1_300
        assert restored.found("msat") - restored.gone["msat"] == 800 == await in_history(copy)
        await assert_really_there(copy)
        await top_up(copy, mint.url, 10)
        assert await available(copy) == 1_310


# --- proofs that the mint calls pending -----------------------------------------------------------------


def saying(state):
    """A fault that gives every proof this state."""

    def twist(body):
        told = json.loads(body)
        return json.dumps({"states": [entry | {"state": state} for entry in told["states"]]}).encode()

    return Fault("lie", twist=twist)


async def test_what_is_pending_is_kept_and_asked_for_again(far_alice, open_wallet, network):
    await top_up(far_alice, network.url, 100)
    async with open_wallet("new", words=await far_alice.words()) as new:
        network.spoil("/v1/checkstate", saying("PENDING"))
        restored = await new.restore(network.url, empty_batches=2)
        assert (restored.found("msat"), restored.pending("msat")) == (0, 100)
        assert (await available(new), await pending(new), await in_history(new)) == (0, 100, 100)
        network.spoil("/v1/checkstate", saying("PENDING"))
        await new.recover()
        assert (await available(new), await pending(new)) == (0, 100)
        await new.recover()
        assert (await available(new), await pending(new), await in_history(new)) == (100, 0, 100)


async def test_what_a_pending_swap_of_the_lost_machine_made_is_found(far_alice, open_wallet, network):
    alice = far_alice
    await top_up(alice, network.url, 100)
    async with open_wallet("new", words=await alice.words()) as new:
        network.spoil("/v1/checkstate", saying("PENDING"))
        await new.restore(network.url, empty_batches=2)
        for transfer in [await alice.send(network.url, 60, "msat")]:
            await alice.reclaim(transfer.id)
        await new.recover()
        assert await available(new) == await available(alice) == 100
        assert (await pending(new), await in_history(new)) == (0, 100)
        await assert_really_there(new)


async def test_what_the_wallet_had_is_pending_where_its_mint_says_so(far_alice, network):
    await top_up(far_alice, network.url, 100)
    network.spoil("/v1/checkstate", saying("SPENT"), saying("PENDING"))
    await far_alice.restore(network.url, empty_batches=2)
    assert (await available(far_alice), await pending(far_alice)) == (0, 100)
    await far_alice.recover()
    assert await available(far_alice) == 100


# --- stopped on the way ---------------------------------------------------------------------------------


async def test_a_restore_can_be_done_in_slices(alice, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    async with open_wallet("new", words=await alice.words()) as new:
        slices = [await new.restore(mint.url, empty_batches=2, budget_s=0.02)]
        while not slices[-1].complete:
            slices.append(await new.restore(mint.url, empty_batches=2, budget_s=0.02))
        assert len(slices) > 1
        looked = [sum(k.looked_to for k in each.keysets) for each in slices]
        assert looked == sorted(looked)
        assert slices[-1].found("msat") == 100 == await available(new)


async def test_a_mint_that_goes_away_is_gone_on_with(far_alice, open_wallet, network, clock):
    await top_up(far_alice, network.url, 100)
    async with open_wallet("new", words=await far_alice.words(), clock=clock) as new:
        network.spoil("/v1/restore", Fault("none"), Fault("none"), *[DROPPED] * 3)
        with pytest.raises(OutcomeUnknown):
            await new.restore(network.url, empty_batches=2)
        asked = [seen.body for seen in network.seen if seen.path == "/v1/restore"]
        network.seen.clear()
        assert (await new.recover()).finished == 0  # left to whoever began it
        clock.ahead_s += LEFT_BEHIND_S + 1
        assert (await new.recover()).finished == 1
        again = [seen.body for seen in network.seen if seen.path == "/v1/restore"]
        assert not {*asked[:2]} & {*again}
        assert await available(new) == 100
        rows = select(func.count()).select_from(scans_table)
        assert await new.transactions.run(lambda conn, _now: conn.execute(rows).scalar_one()) == 0


async def test_what_an_open_operation_will_bring_is_left_to_it(far_alice, network, clock):
    await top_up(far_alice, network.url, 100)
    network.spoil("/v1/swap", Fault("lost", keeps=None))
    network.spoil("/v1/(restore|checkstate)", *[DROPPED] * 6)
    with pytest.raises(OutcomeUnknown):
        await far_alice.hold_exact(network.url, 60, "msat", "debt:somebody")
    assert (await far_alice.restore(network.url, empty_batches=2)).found("msat") == 0
    assert len(await far_alice.open_operations()) == 1
    network.reset()
    assert (await far_alice.recover()).finished == 1
    assert (await available(far_alice), await pending(far_alice)) == (40, 60)
    await assert_really_there(far_alice)


# --- mints that lie, or cannot --------------------------------------------------------------------------


async def test_a_mint_that_cannot_restore_is_named(far_alice, network):
    network.spoil("/v1/restore", Fault("no such path", forwards=0, answer=(404, b"")))
    with pytest.raises(WalletError, match="cannot restore e-cash from a seed"):
        await far_alice.restore(network.url, empty_batches=2)


def signing(change):
    """A fault that changes the first signature that comes back."""

    def twist(body):
        told = json.loads(body)
        if told["signatures"]:
            change(told["signatures"][0])
        return json.dumps(told).encode()

    return Fault("lie", twist=twist)


@pytest.mark.parametrize(
    "change",
    [
        lambda signature: signature.update(amount=2**62),
        lambda signature: signature.update(amount=3),
        lambda signature: signature.update(id="00" + "ab" * 7),
        lambda signature: signature.update(C_="02" + "00" * 32),
        lambda signature: signature["dleq"].update(e="00" * 32),
    ],
    ids=["another amount", "no such amount", "another keyset", "no point", "another dleq"],
)
async def test_a_signature_that_does_not_hold_spoils_no_other(far_alice, open_wallet, network, change):
    await top_up(far_alice, network.url, 127)
    async with open_wallet("new", words=await far_alice.words()) as new:
        network.spoil("/v1/restore", *[signing(change)] * 30)
        restored = await new.restore(network.url, empty_batches=2)
        assert sum(k.refused for k in restored.keysets) == 1
        assert await available(new) == 126
        await assert_really_there(new)
        network.reset()
        await new.restore(network.url, empty_batches=2)
        assert await available(new) == 127


async def test_sums_beyond_what_can_be_counted_are_refused(far_alice, open_wallet, network):
    def inflate(signature):
        signature.update(amount=2**63)
        del signature["dleq"]

    def inflate_all(body):
        told = json.loads(body)
        for signature in told["signatures"]:
            signature["amount"] = 2**62
            signature["dleq"] = None
        return json.dumps(told).encode()

    await top_up(far_alice, network.url, 127)
    async with open_wallet("new", words=await far_alice.words()) as new:
        network.spoil("/v1/restore", *[Fault("lie", twist=inflate_all)] * 30)
        restored = await new.restore(network.url, empty_batches=2)
        assert restored.found("msat") == 2**62
        assert sum(k.refused for k in restored.keysets) == 6


# --- the words ------------------------------------------------------------------------------------------


async def test_a_used_wallet_refuses_another_seed(open_wallet, mint):
    async with open_wallet("alice") as alice:
        words = await alice.words()
        await alice.mints.add(mint.url)
        await alice.request_invoice(mint.url, 10, "msat")
    with pytest.raises(SeedInUse, match="another seed"):
        async with open_wallet("alice", words=new_words()):
            pass
    async with open_wallet("alice", words=f"  {words.upper()}\n") as alice:
        assert await alice.words() == words


async def test_an_unused_wallet_takes_another_seed_and_keeps_its_own_words(open_wallet, mint):
    given = new_words()
    async with open_wallet("alice") as alice:
        own = await alice.words()
        await alice.mints.add(mint.url)
        shared = alice.worker.shared
    if shared:  # another worker could be using its own words right now
        with pytest.raises(SeedInUse):
            async with open_wallet("alice", words=given):
                pass
        return
    async with open_wallet("alice", words=given) as alice:
        assert await alice.words() == given
        assert await alice.has_words(given.upper())
        assert not await alice.has_words(own)
        kept = await alice.transactions.run(lambda conn, _now: store.get_setting(conn, "former_seed_words"))
        assert kept == own


async def test_words_that_are_none_are_refused_before_anything_is_made(open_wallet):
    with pytest.raises(WalletError, match="spelling"):
        async with open_wallet("alice", words="abandon " * 12):
            pass


# --- gaps -----------------------------------------------------------------------------------------------


async def test_what_never_left_takes_no_counters(open_wallet, mint):
    async with open_wallet("alice") as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 100)
        taken = await counters(alice)
        url, alice.mints.client(mint.url).url = mint.url, f"http://127.0.0.1:{free_port()}"
        for _ in range(3):
            with pytest.raises(MintUnreachable):
                await alice.hold_exact(mint.url, 33, "msat", "somebody")
        assert await counters(alice) == taken
        alice.mints.client(mint.url).url = url
        assert (await alice.send(mint.url, 33, "msat")).amount == 33
        await assert_really_there(alice)


async def test_tokens_that_come_to_nothing_soon_take_no_more_counters(alice, bob, open_wallet, mint):
    await top_up(alice, mint.url, 1_000)
    spent = Token.parse((await alice.send(mint.url, 999, "msat")).token)
    await bob.receive(spent)
    async with open_wallet("carol") as carol:
        await carol.mints.add(mint.url)
        for _ in range(3 * ASK_FIRST_AFTER // len(spent.proofs)):
            with pytest.raises(TokenSpent):
                await carol.receive(spent)
        assert max((await counters(carol)).values()) < 2 * ASK_FIRST_AFTER
        await carol.receive(Token.parse((await bob.send(mint.url, 7, "msat")).token))
        async with open_wallet("new", words=await carol.words()) as new:
            await new.restore(mint.url, empty_batches=2 * ASK_FIRST_AFTER // scanning.BATCH)
            assert await available(new) == 7
