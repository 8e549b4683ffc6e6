"""Keysets that end: no money is put on them, and what stands on them is moved in time."""

import time

import pytest
from sqlalchemy import func, select

from otrta_core import Keyset, Proof
from otrta_wallet import WalletError
from otrta_wallet.mint_book import ENDS_SOON_S
from otrta_wallet.schema import ProofStatus, operations, proofs
from otrta_wallet.upkeep import REFERENCE, keysets_to_leave, worth_moving
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, top_up
from tests.otrta_wallet.rows import POINT

NOW = 1_000_000_000.0
DAY_S = 86_400


def keyset(number, **options):
    return Keyset(f"00{number:014x}", "msat", {1: POINT}, **options)


def pieces(*amounts, keyset_id="a"):
    return [Proof(amount, keyset_id, f"{at}", POINT) for at, amount in enumerate(amounts)]


def test_keysets_that_end_soon_are_left_and_inactive_ones_where_that_is_free():
    lasting = keyset(1, final_expiry=int(NOW + ENDS_SOON_S + 1))
    leaving = [
        keyset(2, final_expiry=int(NOW + ENDS_SOON_S - 1)),
        keyset(3, final_expiry=int(NOW - 1), active=False, input_fee_ppk=100),
        keyset(4, active=False),
    ]
    staying = [lasting, keyset(5), keyset(6, active=False, input_fee_ppk=1)]
    assert keysets_to_leave([*leaving, *staying], NOW) == {k.id for k in leaving}


@pytest.mark.parametrize(
    ("amounts", "fee_ppk", "moved"),
    [
        ((1, 2, 4), 0, {1, 2, 4}),
        ((1,), 100, None),  # the fee would be all of it
        ((1, 1), 100, {1}),
        ((1,), 1_000, None),
        ((8, 1), 600, {8, 1}),
        ((8, 1), 1_500, {8}),  # two fees would be three
        ((), 0, None),
    ],
)
def test_what_the_fee_would_eat_is_not_moved(amounts, fee_ppk, moved):
    chosen = worth_moving(pieces(*amounts), {"a": fee_ppk})
    assert moved == (None if chosen is None else {proof.amount for proof in chosen})


def test_dust_goes_along_where_the_rounding_of_the_fee_has_room_for_it():
    dust = Proof(1, "dear", "dust", POINT)
    fees = {"a": 100, "dear": 900}
    assert worth_moving([dust], {"a": 100, "dear": 1_000}) is None
    assert dust in (worth_moving([*pieces(8), dust], fees) or [])


async def keysets_with_money(wallet):
    query = select(proofs.c.keyset_id).where(proofs.c.status == ProofStatus.AVAILABLE).distinct()
    return set(await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalars().all()))


async def swaps(wallet):
    query = select(func.count()).where(operations.c.reference == REFERENCE)
    return await wallet.transactions.run(lambda conn, _now: conn.execute(query).scalar_one())


@pytest.mark.anyio
async def test_money_on_a_retired_keyset_is_moved_to_the_active_one(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    async with open_wallet("alice") as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 1_000)
        before = await keysets_with_money(alice)
        rotate()
    async with open_wallet("alice") as alice:  # which asks for the keysets anew
        await alice.recover()
        active = (await alice.mints.active_keyset(mint.url, "msat")).id
        assert await keysets_with_money(alice) == {active}
        assert active not in before
        assert await available(alice) == 1_000
        await assert_really_there(alice)
        done = await swaps(alice)
        await alice.recover()
        assert await swaps(alice) == done


@pytest.mark.anyio
async def test_money_is_moved_before_its_keyset_ends(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    ahead_s = 0.0
    end = int(time.time()) + 100 * DAY_S
    async with open_wallet("alice", clock=lambda: time.time() + ahead_s) as alice:
        rotate(final_expiry=end)
        await alice.mints.add(mint.url)
        ending = await alice.mints.active_keyset(mint.url, "msat")
        assert ending.final_expiry == end
        await top_up(alice, mint.url, 500)
        await alice.recover()
        assert await keysets_with_money(alice) == {ending.id}
        ahead_s = 80 * DAY_S  # the mint has no other keyset yet: what there is stays
        await alice.recover()
        assert (await alice.mints.active_keyset(mint.url, "msat")).id == ending.id
        assert await keysets_with_money(alice) == {ending.id}
        rotate()
        await alice.mints.refresh(mint.url)
        await alice.recover()
        assert ending.id not in await keysets_with_money(alice)
        assert await accounted_for(alice) == await available(alice) == 500
        await assert_really_there(alice)


@pytest.mark.anyio
async def test_no_money_is_put_on_a_keyset_that_ends_while_there_is_another(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    ahead_s = 0.0
    async with open_wallet("alice", clock=lambda: time.time() + ahead_s) as alice:
        rotate("sat", final_expiry=int(time.time()) + 10 * DAY_S)
        await alice.mints.add(mint.url)
        ending = await alice.mints.active_keyset(mint.url, "sat")
        await top_up(alice, mint.url, 5, "sat")  # the mint has no other
        ahead_s = 11 * DAY_S
        with pytest.raises(WalletError, match="makes no new e-cash in sat"):
            await alice.mints.active_keyset(mint.url, "sat")
        rotate("sat")
        assert (await alice.mints.active_keyset(mint.url, "sat")).id != ending.id
