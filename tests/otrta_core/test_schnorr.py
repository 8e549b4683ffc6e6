import pytest

from otrta_core.curve import ORDER
from otrta_core.schnorr import private_key, public_key, sign, verifies, x_only
from tests.otrta_core.locks import KEYS, PUBLIC


def test_without_randomness_the_same_is_signed_the_same_way() -> None:
    assert sign("message", KEYS[0]) == sign("message", KEYS[0])
    assert sign("message", KEYS[0]) != sign("message", KEYS[0], b"\x01" * 32)
    assert sign("message", KEYS[0], b"\x01" * 32) == sign("message", KEYS[0], b"\x01" * 32)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_randomness_and_keys_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        sign("message", KEYS[0], b"\x01" * size)
    with pytest.raises(ValueError, match="32 bytes"):
        sign("message", b"\x01" * size)
    with pytest.raises(ValueError, match="32 bytes"):
        public_key(b"\x01" * size)


@pytest.mark.parametrize("number", [0, ORDER, 2**256 - 1])
def test_keys_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="between 1 and n - 1"):
        private_key(number.to_bytes(32, "big"))


@pytest.mark.parametrize("signature", ["", "ab", "zz" * 64, "ab" * 63, "ab" * 65, "00" * 64, "\u0661" * 128])
def test_a_misshapen_signature_verifies_nothing(signature: str) -> None:
    assert not verifies("message", signature, PUBLIC[0])


@pytest.mark.parametrize("key", ["", "zz", "02" + "ff" * 32, "04" + "11" * 64, PUBLIC[0][2:], "\u0661" * 66])
def test_under_a_misshapen_key_nothing_verifies(key: str) -> None:
    assert not verifies("message", sign("message", KEYS[0]), key)


def test_keys_are_compared_without_parity_and_case() -> None:
    assert x_only("02AB") == x_only("03ab") == "ab"
