"""Choosing among very many proofs: no more are counted than could be of use, and the choice is the same."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from otrta_core import Keyset, input_fee, pick_exact, select_proofs
from otrta_wallet import at_hand, store
from otrta_wallet.at_hand import SPARE, Kind, of_use
from otrta_wallet.schema import ProofStatus
from tests.otrta_wallet.rows import KEYSET, MINT, NOW, POINT, proof, put, transaction

FEES = (0, 100, 600)
KEYSETS = [
    Keyset(f"{number:02}{'ab' * 7}", "msat", {1 << bit: POINT for bit in range(12)}, fee_ppk)
    for number, fee_ppk in enumerate(FEES)
]


def some_proofs(rng):
    """Proofs of a few kinds, of some of which there are many."""
    kinds = rng.sample([(k.id, a) for k in KEYSETS for a in k.keys], rng.randrange(1, 12))
    numbers = {kind: rng.choice([1, 2, 3, 40]) for kind in kinds}
    return [
        replace(proof(amount), id=keyset_id)
        for (keyset_id, amount), number in numbers.items()
        for _ in range(number)
    ]


def exact(want):
    return lambda pieces, _fees: pick_exact(pieces, want, max_proofs=64)


def at_least(want):
    return lambda pieces, fees: select_proofs(pieces, want, fee=lambda ps: input_fee(ps, fees), max_proofs=64)


@pytest.fixture(params=range(8))
def filled(request, tmp_path, empty_store):
    """A transaction on a store with proofs of random kinds, and what they are worth."""
    rng = random.Random(request.param)
    with transaction(empty_store.url_in(tmp_path, "alice")) as conn:
        store.add_mint(conn, MINT, None, NOW)
        store.save_keysets(conn, MINT, [KEYSET, *KEYSETS])
        found = some_proofs(rng)
        put(conn, found, ProofStatus.AVAILABLE)
        put(conn, some_proofs(rng), ProofStatus.SENT)
        yield conn, rng, found


def test_what_is_chosen_of_what_can_be_of_use_is_what_would_be_chosen_of_all(filled):
    conn, rng, found = filled
    worth = sum(p.amount for p in found)
    for _ in range(12):
        want = rng.choice([1, rng.randrange(1, worth + 2), worth, worth - 1 or 1])
        for choose in (exact(want), at_least(want)):
            of_few = at_hand.take(conn, MINT, "msat", choose, want=want, most=64)
            of_all = at_hand.take(conn, MINT, "msat", choose, most=64)
            assert of_few == of_all
            if of_few is not None:
                assert {p.Y for p in of_few.proofs} <= {p.Y for p in found}
                fee_ppk = {keyset.id: keyset.input_fee_ppk for keyset in KEYSETS}
                assert of_few.fee == input_fee(of_few.proofs, fee_ppk)


def test_the_database_counts_as_few_as_the_rule_says(filled):
    conn, rng, found = filled
    avoided = {p.Y for p in rng.sample(found, len(found) // 3)}
    only = {k.id for k in rng.sample(KEYSETS, 2)}
    offered = []

    def note(pieces, _fees):
        offered.append(Counter((p.id, p.amount) for p in pieces))
        return pieces[:1]

    want = rng.randrange(1, sum(p.amount for p in found) + 1)
    at_hand.take(conn, MINT, "msat", note, want=want, avoid=frozenset(avoided), only_keysets=frozenset(only))
    there = Counter((p.id, p.amount) for p in found if p.Y not in avoided and p.id in only)
    kinds = [Kind(*kind, there[kind], 0) for kind in sorted(there, key=lambda kind: kind[::-1], reverse=True)]
    assert offered[:1] == ([Counter({(k.keyset_id, k.amount): k.number for k in of_use(kinds, want)})])


def test_of_small_proofs_that_larger_ones_make_needless_only_a_few_are_of_use():
    many = [Kind("a", 1 << bit, 1_000, 0) for bit in range(10, -1, -1)]
    assert [kind.number for kind in of_use(many, 5_000)] == [4 + SPARE, *[1 + SPARE] * 10]
    scarce = [Kind("a", 1024, 1, 0), Kind("a", 1, 100_000, 0)]
    assert [kind.number for kind in of_use(scarce, 5_000)] == [1, 5_000 - 1024 + SPARE]
