from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Keyset, KeysetError, derive_keyset_id_v1, derive_keyset_id_v2, resolve_keyset_id
from otrta_core.keyset import check_keys, is_keyset_id
from tests.otrta_core.vectors import POINT, keys_of, load

NUT01, NUT02 = load("01"), load("02")
FULL = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"
COUSIN = FULL[:16] + "00" * 25
OTHER = "01ab6aa4ff30390da34986d84be5274b48ad7a74265d791095bfc39f4098d9764f"
V1 = "00456a94ab4e1c46"


def keyset(vector: dict[str, Any]) -> Keyset:
    return Keyset(
        id=vector["id"],
        unit=vector.get("unit", "sat"),
        keys=keys_of(vector["keys"]),
        input_fee_ppk=vector.get("input_fee_ppk") or 0,
        final_expiry=vector.get("final_expiry"),
    )


@pytest.mark.parametrize("vector", NUT01["invalid"], ids=lambda v: v["why"])
def test_the_published_invalid_keys_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(KeysetError, match="not a compressed public key"):
        check_keys(keys_of(vector["keys"]))


@pytest.mark.parametrize("keys", NUT01["valid"], ids=len)
def test_the_published_valid_keys_are_accepted(keys: dict[str, str]) -> None:
    check_keys(keys_of(keys))


def test_an_amount_past_a_signed_64_bit_number_is_accepted() -> None:
    largest = max(NUT01["valid"], key=len)
    assert 2**63 in keyset({"id": V1, "keys": largest}).keys


@pytest.mark.parametrize("amount", [0, -1, 2**64, 1.0, "1"])
def test_keys_of_impossible_amounts_are_refused(amount: Any) -> None:
    with pytest.raises(KeysetError, match="amounts"):
        check_keys({amount: POINT})


@pytest.mark.parametrize("keys", [{}, dict.fromkeys(range(1, 258), POINT)])
def test_no_keys_and_too_many_keys_are_refused(keys: dict[int, str]) -> None:
    with pytest.raises(KeysetError, match="between 1 and 256"):
        check_keys(keys)


@pytest.mark.parametrize("vector", NUT02["v1"], ids=lambda v: v["id"])
def test_the_published_v1_ids_are_derived(vector: dict[str, Any]) -> None:
    assert derive_keyset_id_v1(keys_of(vector["keys"])) == vector["id"]


@pytest.mark.parametrize("vector", NUT02["v2"], ids=lambda v: v["id"][:16])
def test_the_published_v2_ids_are_derived(vector: dict[str, Any]) -> None:
    derived = derive_keyset_id_v2(
        keys_of(vector["keys"]), vector["unit"], vector["input_fee_ppk"], vector["final_expiry"]
    )
    assert derived == vector["id"]


@pytest.mark.parametrize("vector", NUT02["v1"] + NUT02["v2"], ids=lambda v: v["id"][:16])
def test_a_keyset_with_its_own_id_is_accepted(vector: dict[str, Any]) -> None:
    keyset(vector).verify_id()


@pytest.mark.parametrize("vector", NUT02["v1"] + NUT02["v2"], ids=lambda v: v["id"][:16])
def test_a_keyset_with_another_id_is_refused(vector: dict[str, Any]) -> None:
    last = "0" if vector["id"][-1] != "0" else "1"
    with pytest.raises(KeysetError, match="does not belong"):
        keyset({**vector, "id": vector["id"][:-1] + last}).verify_id()


@pytest.mark.parametrize(
    "change", [{"unit": "msat"}, {"input_fee_ppk": 101}, {"input_fee_ppk": 0}, {"final_expiry": None}]
)
def test_a_v2_id_binds_unit_fee_and_expiry(change: dict[str, Any]) -> None:
    vector = NUT02["v2"][0]
    with pytest.raises(KeysetError, match="does not belong"):
        keyset({**vector, **change}).verify_id()


def test_an_id_of_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(KeysetError, match="unknown version"):
        keyset({**NUT02["v1"][0], "id": "02" + V1[2:]}).verify_id()


def test_a_zero_fee_and_no_expiry_are_left_out_of_a_v2_id() -> None:
    keys = keys_of(NUT02["v1"][0]["keys"])
    assert derive_keyset_id_v2(keys, "sat", 0, 0) == derive_keyset_id_v2(keys, "sat", None, None)
    assert derive_keyset_id_v2(keys, "sat", 1) != derive_keyset_id_v2(keys, "sat")


@given(st.permutations(list(NUT02["v1"][0]["keys"].items())))
def test_the_order_of_the_keys_does_not_matter(items: list[tuple[str, str]]) -> None:
    keys = keys_of(dict(items))
    assert derive_keyset_id_v1(keys) == NUT02["v1"][0]["id"]
    assert derive_keyset_id_v2(keys, "sat", 100, 2059210353) == NUT02["v2"][0]["id"]


@pytest.mark.parametrize("fee", [-1, 0.5, "100", None])
def test_a_fee_that_is_not_a_count_is_refused(fee: Any) -> None:
    with pytest.raises(KeysetError, match="input_fee_ppk"):
        Keyset(id=V1, unit="sat", keys={1: POINT}, input_fee_ppk=fee)


def test_a_short_id_stands_for_the_full_one() -> None:
    assert resolve_keyset_id(FULL[:16], [OTHER, FULL, V1]) == FULL


@pytest.mark.parametrize("known", [V1, FULL])
def test_a_full_id_stands_for_itself(known: str) -> None:
    assert resolve_keyset_id(known, [FULL, V1, COUSIN]) == known


def test_a_short_id_that_fits_two_keysets_is_ambiguous() -> None:
    with pytest.raises(KeysetError, match="more than one"):
        resolve_keyset_id(FULL[:16], [FULL, COUSIN])


def test_a_keyset_listed_twice_is_not_ambiguous() -> None:
    assert resolve_keyset_id(FULL[:16], [FULL, FULL]) == FULL


@pytest.mark.parametrize("unknown", [OTHER, OTHER[:16], V1[:-1] + "0", FULL[:15], FULL[:18], FULL[:2], ""])
def test_an_id_that_the_mint_does_not_have_is_unknown(unknown: str) -> None:
    with pytest.raises(KeysetError, match="not one of this mint's"):
        resolve_keyset_id(unknown, [FULL, V1])


def test_a_v1_id_is_never_taken_for_a_short_one() -> None:
    with pytest.raises(KeysetError, match="not one of this mint's"):
        resolve_keyset_id(V1, [V1 + "00" * 25])


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(V1, True), (FULL, True), (FULL[:16], False), (V1.upper() + " ", False), ("02" + V1[2:], False)],
)
def test_only_full_ids_of_known_versions_are_ids(text: str, is_one: bool) -> None:
    assert is_keyset_id(text) is is_one
