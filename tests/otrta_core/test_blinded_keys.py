from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import (
    P2PK,
    LockError,
    SigFlag,
    Spend,
    blind_lock,
    check_unlocked,
    read_lock,
    sign_inputs,
    slot_keys,
    unblind_lock,
    unlock,
)
from otrta_core.blinded_keys import blinding_scalar, shared_x
from otrta_core.curve import ORDER
from tests.otrta_core.locks import (
    KEYS,
    NOW,
    PUBLIC,
    locked,
    negated,
    ordinary,
    other_parity,
    proof_of,
    public,
)
from tests.otrta_core.test_p2pk import locks
from tests.otrta_core.vectors import load

V = load("28")
e, p = bytes.fromhex(V["e"]), bytes.fromhex(V["p"])
SLOTS = range(11)
EPHEMERAL = b"\x11" * 32


def blinded_vector() -> P2PK:
    return P2PK(V["blinded"][0], tuple(V["blinded"][1:]))


class TestPublished:
    def test_the_keys_belong_together(self) -> None:
        assert public(e) == V["E"]
        assert public(p) == V["pG"] == other_parity(V["P"])

    def test_both_sides_share_the_secret(self) -> None:
        assert shared_x(V["P"], e).hex() == shared_x(V["E"], p).hex() == V["Zx"]

    @pytest.mark.parametrize("slot", SLOTS)
    def test_scalars_follow_from_it(self, slot: int) -> None:
        assert blinding_scalar(bytes.fromhex(V["Zx"]), slot).hex() == V["r"][slot]

    @pytest.mark.parametrize("slot", SLOTS)
    def test_the_key_is_blinded_in_each_slot(self, slot: int) -> None:
        others = tuple(key for key in PUBLIC if key != V["P"])[:slot]
        lock = P2PK(*([others[0], (*others[1:], V["P"])] if others else [V["P"]]))
        blinded, ephemeral = blind_lock(lock, e)
        assert blinded.slots[slot] == V["blinded"][slot]
        assert ephemeral == V["E"]

    def test_the_owner_finds_its_private_keys_by_negation(self) -> None:
        found = slot_keys(blinded_vector(), V["E"], p)
        assert [found[slot].hex() for slot in SLOTS] == V["negated"]

    def test_the_owner_of_the_other_parity_finds_them_without(self) -> None:
        blinded, _ = blind_lock(P2PK(V["pG"]), e)
        assert slot_keys(blinded, V["E"], p)[0].hex() == V["standard"][0]

    @pytest.mark.parametrize("slot", SLOTS)
    def test_the_standard_keys_are_those_of_the_natural_key(self, slot: int) -> None:
        natural = (int.from_bytes(p, "big") + int(V["r"][slot], 16)) % ORDER
        assert natural.to_bytes(32, "big").hex() == V["standard"][slot]
        lock = P2PK(*([PUBLIC[0], (*PUBLIC[1:slot], V["pG"])] if slot else [V["pG"]]))
        blinded, ephemeral = blind_lock(lock, e)
        assert slot_keys(blinded, ephemeral, p) == {slot: bytes.fromhex(V["standard"][slot])}

    def test_the_proof_is_unlocked(self) -> None:
        proof = proof_of(V["proof"])
        lock = read_lock(proof.secret)
        assert lock == P2PK(V["blinded"][0])
        keys = slot_keys(lock, V["proof"]["p2pk_e"], p)
        check_unlocked(unlock([proof], keys.values(), NOW, Spend()), NOW, Spend())
        assert unblind_lock(lock, V["E"], [p]) == P2PK(V["P"])
        with pytest.raises(LockError):
            unlock([proof], [p], NOW, Spend())
        (plain,) = unlock([replace(proof, p2pk_e=V["proof"]["p2pk_e"])], [p], NOW, Spend())
        check_unlocked([plain], NOW, Spend())
        assert plain.p2pk_e is None


@given(
    locks(),
    st.binary(min_size=32, max_size=32).filter(lambda b: 0 < int.from_bytes(b, "big") < ORDER),
    st.sets(st.sampled_from(range(len(KEYS)))),
)
def test_the_owners_of_a_lock_are_the_owners_of_the_blinded_lock(
    lock: P2PK, ephemeral_key: bytes, own: set[int]
) -> None:
    blinded, ephemeral = blind_lock(lock, ephemeral_key)
    assert not set(blinded.slots) & set(lock.slots)
    assert replace(blinded, data=lock.data, pubkeys=lock.pubkeys, refund=lock.refund) == lock
    keys = [KEYS[number] for number in own]
    derived = [key for one in keys for key in slot_keys(blinded, ephemeral, one).values()]
    for at in (NOW, 2**53):
        before = lock.pathway([PUBLIC[number] for number in own], at)
        assert blinded.pathway([public(key) for key in derived], at) == before
    known = unblind_lock(blinded, ephemeral, keys)
    for slot, key in enumerate(lock.slots):
        mine = key[2:] in {PUBLIC[number][2:] for number in own}
        assert known.slots[slot] == (key if mine else blinded.slots[slot])


def test_one_key_in_both_pathways_is_blinded_differently() -> None:
    lock = P2PK(PUBLIC[0], locktime=NOW, refund=(other_parity(PUBLIC[0]),))
    blinded, ephemeral = blind_lock(lock, EPHEMERAL)
    assert blinded.data[2:] != blinded.refund[0][2:]
    found = slot_keys(blinded, ephemeral, KEYS[0])
    assert [public(found[slot])[2:] for slot in (0, 1)] == [key[2:] for key in blinded.slots]
    assert unblind_lock(blinded, ephemeral, [KEYS[0]]) == lock


def test_either_of_the_keys_with_one_x_finds_keys_that_sign() -> None:
    blinded, ephemeral = blind_lock(P2PK(PUBLIC[0], sigflag=SigFlag.SIG_ALL), EPHEMERAL)
    for owner in (KEYS[0], negated(KEYS[0])):
        (key,) = slot_keys(blinded, ephemeral, owner).values()
        signed = unlock([locked(blinded)], [key], NOW, Spend())
        check_unlocked(signed, NOW, Spend())


@pytest.mark.parametrize("sigflag", SigFlag)
def test_the_owner_unlocks_blinded_proofs_beside_plain_ones(
    sigflag: SigFlag,
) -> None:
    blinded, ephemeral = blind_lock(P2PK(PUBLIC[0], (PUBLIC[1],), 2, sigflag=sigflag), EPHEMERAL)
    inputs = [replace(locked(blinded, nonce * 16), p2pk_e=ephemeral) for nonce in ("aa", "bb")]
    if sigflag is SigFlag.SIG_INPUTS:
        inputs += [locked(P2PK(PUBLIC[2])), ordinary()]
    signed = unlock(inputs, KEYS[:3], NOW, Spend())
    check_unlocked(signed, NOW, Spend())
    assert [proof.p2pk_e for proof in signed] == [None] * len(inputs)
    with pytest.raises(LockError):
        unlock(inputs, KEYS[1:4], NOW, Spend())
    with pytest.raises(LockError):
        unlock([replace(proof, p2pk_e=None) for proof in inputs], KEYS[:3], NOW, Spend())


@pytest.mark.parametrize("sigflag", SigFlag)
def test_the_owners_of_a_blinded_lock_sign_in_turn(sigflag: SigFlag) -> None:
    blinded, ephemeral = blind_lock(P2PK(PUBLIC[0], (PUBLIC[1],), 2, sigflag=sigflag), EPHEMERAL)
    inputs = [replace(locked(blinded, nonce * 16), p2pk_e=ephemeral) for nonce in ("aa", "bb")]
    first = sign_inputs(inputs, [KEYS[1]], NOW, Spend())
    assert [proof.p2pk_e for proof in first] == [ephemeral, ephemeral]
    check_unlocked(unlock(first, [KEYS[0]], NOW, Spend()), NOW, Spend())


def test_another_ephemeral_key_gives_another_lock_and_finds_nothing() -> None:
    first, ephemeral = blind_lock(P2PK(PUBLIC[0]), EPHEMERAL)
    second, other = blind_lock(P2PK(PUBLIC[0]), b"\x12" * 32)
    assert first != second
    assert slot_keys(first, other, KEYS[0]) == slot_keys(second, ephemeral, KEYS[0]) == {}


def test_a_stranger_finds_nothing() -> None:
    blinded, ephemeral = blind_lock(P2PK(PUBLIC[0]), EPHEMERAL)
    assert slot_keys(blinded, ephemeral, KEYS[1]) == {}
    assert unblind_lock(blinded, ephemeral, [KEYS[1]]) == blinded


@pytest.mark.parametrize("ephemeral", ["", "zz", PUBLIC[0][2:], "02" + "ff" * 32, "04" + "11" * 64])
def test_an_ephemeral_key_that_is_no_point_is_refused(ephemeral: str) -> None:
    with pytest.raises(LockError, match="ephemeral key"):
        slot_keys(P2PK(PUBLIC[0]), ephemeral, KEYS[0])
    with pytest.raises(LockError, match="ephemeral key"):
        unblind_lock(P2PK(PUBLIC[0]), ephemeral, [KEYS[0]])


@pytest.mark.parametrize("key", [b"", bytes(32), b"\x01" * 31, ORDER.to_bytes(32, "big")])
def test_a_private_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        blind_lock(P2PK(PUBLIC[0]), key)
    with pytest.raises(ValueError, match="32 bytes"):
        slot_keys(P2PK(PUBLIC[0]), PUBLIC[1], key)


def test_a_blinded_key_that_unblinds_to_nothing_is_nobodys() -> None:
    scalar = blinding_scalar(shared_x(PUBLIC[1], KEYS[0]), 0)
    assert slot_keys(P2PK(public(scalar)), PUBLIC[1], KEYS[0]) == {}


def test_a_hash_out_of_range_is_taken_again_once_with_a_byte_more() -> None:
    class Hash:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def digest(self) -> bytes:
            return b"\x05" * 32 if self.data.endswith(b"\x03\xff") else b"\xff" * 32

    with patch("otrta_core.blinded_keys.hashlib.sha256", Hash):
        assert blinding_scalar(b"", 3) == b"\x05" * 32
        with pytest.raises(LockError, match="another ephemeral key"):
            blinding_scalar(b"", 4)
