from collections.abc import Iterator
from dataclasses import replace

import pytest
from coincurve import PrivateKey, PublicKey
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import (
    Dleq,
    DleqInvalid,
    Proof,
    blind,
    hash_to_curve,
    sign_blinded,
    unblind,
    verify_dleq,
    verify_proof_dleq,
)
from otrta_core.curve import ORDER, hash_e, point, require_dleq, y_of
from tests.otrta_core.vectors import load, prove, signed_proof

NUT00, NUT12 = load("00"), load("12")
ZERO = bytes(32)
scalars = st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32, "big"))


def flips(value: bytes) -> Iterator[bytes]:
    for bit in range(len(value) * 8):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def vector_proof() -> tuple[Proof, str]:
    fields = NUT12["proof"]["proof"]
    proof = Proof(fields["amount"], fields["id"], fields["secret"], fields["C"], Dleq(**fields["dleq"]))
    return proof, NUT12["proof"]["A"]


def vector_signature(name: str) -> tuple[PublicKey, PublicKey, bytes, bytes, PublicKey]:
    if name == "deterministic":
        v = NUT12["deterministic"]
        signature, dleq = v["C_"], v
    else:
        v = NUT12["blind_signature"]
        signature, dleq = v["signature"]["C_"], v["signature"]["dleq"]
    e, s = bytes.fromhex(dleq["e"]), bytes.fromhex(dleq["s"])
    return point(v["B_"]), point(signature), e, s, point(v["A"])


@pytest.mark.parametrize("vector", NUT00["hash_to_curve"])
def test_hash_to_curve_finds_the_published_points(vector: dict[str, str]) -> None:
    assert hash_to_curve(bytes.fromhex(vector["message"])).format().hex() == vector["point"]


@pytest.mark.parametrize("vector", NUT00["blinded_messages"])
def test_blind_makes_the_published_messages(vector: dict[str, str]) -> None:
    assert blind(bytes.fromhex(vector["x"]), bytes.fromhex(vector["r"])).format().hex() == vector["B_"]


@pytest.mark.parametrize("vector", NUT00["blind_signatures"])
def test_sign_makes_the_published_signatures(vector: dict[str, str]) -> None:
    assert sign_blinded(bytes.fromhex(vector["k"]), point(vector["B_"])).format().hex() == vector["C_"]


@given(k=scalars, r=scalars, secret=st.binary(max_size=64))
def test_an_unblinded_signature_is_the_key_times_the_secrets_point(k: bytes, r: bytes, secret: bytes) -> None:
    blinded = blind(secret, r)
    assert blinded != hash_to_curve(secret)
    signature = unblind(sign_blinded(k, blinded), r, PrivateKey(k).public_key)
    assert signature == hash_to_curve(secret).multiply(k)


@pytest.mark.parametrize("r", [ZERO, b"", b"\x01", b"\x01" * 31, b"\x01" * 33, ORDER.to_bytes(32, "big")])
def test_a_blinding_factor_that_is_not_a_scalar_is_refused(r: bytes) -> None:
    some_point = hash_to_curve(b"x")
    with pytest.raises(ValueError, match="scalar"):
        blind(b"x", r)
    with pytest.raises(ValueError, match="scalar"):
        unblind(some_point, r, some_point)
    with pytest.raises(ValueError, match="scalar"):
        sign_blinded(r, some_point)


def test_y_names_a_proof_by_the_point_of_its_secrets_text() -> None:
    proof, _ = vector_proof()
    assert proof.Y == y_of(proof.secret) == hash_to_curve(proof.secret.encode()).format().hex()


@pytest.mark.parametrize(
    "text", ["", "zz" * 33, "02" * 32, "05" + "11" * 32, "04" + "11" * 64, "02" + "ff" * 32]
)
def test_what_is_not_a_compressed_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        point(text)


def test_hash_e_hashes_the_published_points() -> None:
    v = NUT12["hash_e"]
    assert hash_e(*(point(v[name]) for name in ("R1", "R2", "K", "C_"))).hex() == v["e"]


@pytest.mark.parametrize("name", ["deterministic", "blind_signature"])
class TestBlindSignatureDleq:
    def test_the_published_proof_holds(self, name: str) -> None:
        assert verify_dleq(*vector_signature(name))

    def test_any_flipped_bit_of_e_or_s_fails(self, name: str) -> None:
        blinded, signature, e, s, key = vector_signature(name)
        assert not any(verify_dleq(blinded, signature, bad, s, key) for bad in flips(e))
        assert not any(verify_dleq(blinded, signature, e, bad, key) for bad in flips(s))

    def test_another_point_in_any_place_fails(self, name: str) -> None:
        blinded, signature, e, s, key = vector_signature(name)
        other = hash_to_curve(b"another point")
        assert not verify_dleq(other, signature, e, s, key)
        assert not verify_dleq(blinded, other, e, s, key)
        assert not verify_dleq(blinded, signature, e, s, other)

    def test_zero_and_out_of_range_scalars_fail(self, name: str) -> None:
        blinded, signature, e, s, key = vector_signature(name)
        for bad in (ZERO, ORDER.to_bytes(32, "big"), b"\xff" * 32):
            assert not verify_dleq(blinded, signature, bad, s, key)
            assert not verify_dleq(blinded, signature, e, bad, key)

    def test_scalars_of_another_size_fail_even_where_the_number_is_the_same(self, name: str) -> None:
        blinded, signature, e, s, key = vector_signature(name)
        for longer in (lambda x: b"\x00" + x, lambda x: x + b"\x00", lambda x: x[1:], lambda x: b""):
            assert not verify_dleq(blinded, signature, longer(e), s, key)
            assert not verify_dleq(blinded, signature, e, longer(s), key)


def test_the_published_deterministic_signature_is_its_keys() -> None:
    v = NUT12["deterministic"]
    assert PrivateKey(bytes.fromhex(v["a"])).public_key == point(v["A"])
    assert sign_blinded(bytes.fromhex(v["a"]), point(v["B_"])) == point(v["C_"])


def test_the_published_proof_with_dleq_holds() -> None:
    proof, key = vector_proof()
    assert proof.dleq_holds(key)


@pytest.mark.parametrize("part", ["e", "s", "r"])
def test_any_flipped_bit_in_a_proofs_dleq_fails(part: str) -> None:
    proof, key = vector_proof()
    assert proof.dleq is not None
    for bad in flips(bytes.fromhex(getattr(proof.dleq, part))):
        assert not replace(proof, dleq=replace(proof.dleq, **{part: bad.hex()})).dleq_holds(key)


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e8"},
        {"secret": "\ud800"},
        {"C": "034369d2d22a80ecf78f3937da9d5f30c1b9f74f0c32684d583cca0fa6a61cdcfc"},
        {"C": "02" + "ff" * 32},
        {"C": ""},
        {"dleq": None},
        {"dleq": Dleq("not hex", "00", "00")},
        {"dleq": Dleq("", "", "")},
    ],
)
def test_a_proof_changed_in_any_part_proves_nothing(change: dict[str, object]) -> None:
    proof, key = vector_proof()
    assert not replace(proof, **change).dleq_holds(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "zz", "02" + "ff" * 32, "02" + "11" * 32])
def test_a_proof_does_not_hold_under_another_or_a_broken_key(key: str) -> None:
    assert not vector_proof()[0].dleq_holds(key)


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64, 4096])
def test_scalars_of_any_wrong_size_never_raise(size: int) -> None:
    proof, key = vector_proof()
    assert proof.dleq is not None
    good = {name: bytes.fromhex(getattr(proof.dleq, name)) for name in ("e", "s", "r")}
    for name, value in good.items():
        one = b"\x01".rjust(size, b"\x00")[:size]
        for bad in (bytes(size), one, b"\x01" * size, (value * 128)[:size]):
            assert not verify_proof_dleq(proof.secret, point(proof.C), A=point(key), **{**good, name: bad})


def test_a_scalar_written_without_its_leading_zeros_fails() -> None:
    k, r = bytes(31) + b"\x07", bytes(31) + b"\x05"
    key = PrivateKey(k).public_key
    proved = ((f"secret {n}", *prove(k, blind(f"secret {n}".encode(), r))) for n in range(10_000))
    secret, e, s = next(found for found in proved if found[2][0] == 0)
    signature = hash_to_curve(secret.encode()).multiply(k)
    assert verify_proof_dleq(secret, signature, e, s, r, key)
    assert not verify_proof_dleq(secret, signature, e, s[1:], r, key)
    assert not verify_proof_dleq(secret, signature, e, s, r[-1:], key)


@given(k=scalars, r=scalars, secret=st.text(max_size=64))
def test_a_proof_holds_under_the_key_that_signed_it_and_no_other(k: bytes, r: bytes, secret: str) -> None:
    proof = signed_proof(k, secret, r)
    key = PrivateKey(k).public_key
    assert proof.dleq_holds(key.format().hex())
    assert not proof.dleq_holds(hash_to_curve(key.format()).format().hex())


@given(e=st.binary(max_size=40), s=st.binary(max_size=40), r=st.binary(max_size=40))
def test_arbitrary_scalars_prove_nothing(e: bytes, s: bytes, r: bytes) -> None:
    proof, key = vector_proof()
    assert not verify_proof_dleq(proof.secret, point(proof.C), e, s, r, point(key))


def test_a_dleq_of_one_signature_does_not_prove_another() -> None:
    k = bytes(31) + b"\x07"
    one, two = hash_to_curve(b"one"), hash_to_curve(b"two")
    e, s = prove(k, one)
    key = PrivateKey(k).public_key
    assert verify_dleq(one, one.multiply(k), e, s, key)
    assert not verify_dleq(two, two.multiply(k), e, s, key)


def test_require_dleq_raises_only_where_it_does_not_hold() -> None:
    require_dleq(True)
    with pytest.raises(DleqInvalid):
        require_dleq(False)
