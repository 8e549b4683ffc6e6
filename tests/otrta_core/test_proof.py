import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Dleq, Proof, input_fee
from otrta_core.proof import fee_of_ppk
from tests.otrta_core.vectors import KEYSET, plain_proof, plain_proofs

OTHER = "009a1f293253e41e"


@pytest.mark.parametrize(
    ("proofs", "ppk", "fee"), [(0, 100, 0), (1, 0, 0), (1, 1, 1), (10, 100, 1), (11, 100, 2), (3, 1000, 3)]
)
def test_the_fee_is_the_sum_of_ppk_rounded_up_once(proofs: int, ppk: int, fee: int) -> None:
    assert input_fee(plain_proofs([1] * proofs), {KEYSET: ppk}) == fee


def test_inputs_of_several_keysets_are_summed_before_rounding() -> None:
    proofs = [plain_proof(1, "a"), plain_proof(1, "b", OTHER)]
    assert input_fee(proofs, {KEYSET: 400, OTHER: 600}) == 1
    assert input_fee(proofs, {KEYSET: 401, OTHER: 600}) == 2


def test_a_keyset_without_a_known_fee_is_an_error_and_not_free() -> None:
    with pytest.raises(KeyError):
        input_fee([plain_proof(1)], {OTHER: 0})


@given(st.integers(0, 10**12))
def test_rounding_up_never_loses_and_never_adds_a_whole_unit(total_ppk: int) -> None:
    assert 0 <= fee_of_ppk(total_ppk) * 1000 - total_ppk < 1000


def test_the_repr_of_a_proof_shows_nothing_that_spends_it() -> None:
    proof = Proof(8, KEYSET, "the secret", "the C", Dleq("the e", "the s", "the r"), "the witness", "the E")
    shown = repr(proof) + repr(proof.dleq)
    assert "8" in shown
    assert KEYSET in shown
    assert "the " not in shown


def test_reading_y_changes_neither_equality_nor_repr() -> None:
    asked, fresh = plain_proof(1), plain_proof(1)
    assert asked.Y.startswith(("02", "03"))
    assert asked == fresh
    assert repr(asked) == repr(fresh)
