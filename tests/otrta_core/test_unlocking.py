import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import (
    P2PK,
    LockError,
    Proof,
    SigFlag,
    Spend,
    check_unlocked,
    sig_all_message,
    sign_inputs,
    split_transactions,
    unlock,
)
from otrta_core.conditions import read_condition
from otrta_core.schnorr import sign, verifies
from otrta_core.unlocking import read_signatures
from tests.otrta_core.locks import (
    KEYS,
    NOW,
    PUBLIC,
    locked,
    negated,
    ordinary,
    other_parity,
    proof_of,
    transaction,
    written,
)
from tests.otrta_core.test_p2pk import locks
from tests.otrta_core.vectors import load

NUT11 = load("11")
OUTPUTS = ((1, PUBLIC[8]), (2, PUBLIC[9]))
SWAP = Spend(OUTPUTS)
LATER = NOW + 1
ONE = P2PK(PUBLIC[0])
ALL = replace(ONE, sigflag=SigFlag.SIG_ALL)
TWO_OF_THREE = P2PK(PUBLIC[0], (PUBLIC[1], PUBLIC[2]), 2)


def spendable(inputs: list[Proof] | tuple[Proof, ...], at: int = NOW, spend: Spend = SWAP) -> bool:
    try:
        check_unlocked(inputs, at, spend)
    except LockError:
        return False
    return True


def signatures(proof: Proof) -> list[str]:
    assert proof.witness is not None
    return list(json.loads(proof.witness)["signatures"])


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


class TestPublished:
    @named(NUT11["proofs"])
    def test_a_proof_is_spendable_or_not_as_published(self, case: dict[str, Any]) -> None:
        assert spendable([proof_of(case["request"])]) is case["valid"]

    @named(NUT11["swaps"] + NUT11["melts"])
    def test_a_transaction_is_valid_or_not_as_published(self, case: dict[str, Any]) -> None:
        inputs, spend = transaction(case["request"])
        assert spendable(inputs, spend=spend) is case["valid"]

    @named([case for name in ("swaps", "melts") for case in NUT11[name] if "message" in case])
    def test_the_message_is_the_published_one(self, case: dict[str, Any]) -> None:
        message = sig_all_message(*transaction(case["request"]))
        assert message == case["message"]
        assert hashlib.sha256(message.encode()).hexdigest() == case["sha256"]

    @named(NUT11["htlc_swaps"])
    def test_hash_locked_inputs_are_refused_although_their_signatures_hold(
        self, case: dict[str, Any]
    ) -> None:
        inputs, spend = transaction(case["request"])
        with pytest.raises(LockError, match="NUT-14"):
            check_unlocked(inputs, NOW, spend)
        with pytest.raises(LockError, match="NUT-14"):
            unlock(inputs, KEYS, NOW, spend)
        condition = read_condition(inputs[0].secret)
        assert condition is not None
        named_keys = [word for tag in condition.tags for word in tag if len(word) == 66]
        message = sig_all_message(inputs, spend)
        for signature in signatures(inputs[0]):
            assert any(verifies(message, signature, key) for key in named_keys)


class TestSigInputs:
    def test_the_owner_unlocks(self) -> None:
        (signed,) = unlock([locked(ONE)], [KEYS[0]], NOW, SWAP)
        assert spendable([signed])
        assert len(signatures(signed)) == 1
        assert replace(signed, witness=None) == locked(ONE)

    def test_another_key_does_not(self) -> None:
        with pytest.raises(LockError, match="locked to other keys"):
            unlock([locked(ONE)], [KEYS[1]], NOW, SWAP)

    def test_the_parity_of_a_key_does_not_matter(self) -> None:
        lock = P2PK(other_parity(PUBLIC[0]))
        assert spendable(unlock([locked(lock)], [KEYS[0]], NOW, SWAP))
        assert spendable(unlock([locked(lock)], [negated(KEYS[0])], NOW, SWAP))

    def test_each_input_has_its_own_signature(self) -> None:
        inputs = [locked(ONE, "aa" * 16), ordinary(), locked(P2PK(PUBLIC[1]), "bb" * 16)]
        signed = unlock(inputs, KEYS[:2], NOW, SWAP)
        assert spendable(signed)
        assert signed[1].witness is None
        swapped = [
            replace(signed[0], witness=signed[2].witness),
            replace(signed[2], witness=signed[0].witness),
        ]
        assert not spendable(swapped)

    def test_outputs_are_not_covered(self) -> None:
        assert spendable(unlock([locked(ONE)], [KEYS[0]], NOW, SWAP), spend=Spend())

    def test_only_as_many_sign_as_must(self) -> None:
        (signed,) = unlock([locked(TWO_OF_THREE)], KEYS[:3], NOW, SWAP)
        assert len(signatures(signed)) == 2

    def test_one_key_signing_twice_counts_once(self) -> None:
        proof = locked(TWO_OF_THREE)
        twice = [sign(proof.secret, KEYS[0]), sign(proof.secret, KEYS[0], b"\x07" * 32)]
        assert twice[0] != twice[1]
        assert not spendable([replace(proof, witness=json.dumps({"signatures": twice}))])

    def test_two_signatures_of_one_owner_do_not_stand_for_two_owners(self) -> None:
        proof = locked(TWO_OF_THREE)
        twice = [sign(proof.secret, KEYS[0]), sign(proof.secret, KEYS[0], b"\x07" * 32)]
        given = replace(proof, witness=json.dumps({"signatures": twice}))
        with pytest.raises(LockError):
            unlock([given], [KEYS[9]], NOW, SWAP)
        assert spendable(unlock([given], [KEYS[1]], NOW, SWAP))

    def test_one_signature_written_twice_counts_once(self) -> None:
        proof = locked(TWO_OF_THREE)
        one = sign(proof.secret, KEYS[0])
        assert not spendable([replace(proof, witness=json.dumps({"signatures": [one, one.upper()]}))])

    def test_signatures_in_upper_case_hold(self) -> None:
        proof = locked(ONE)
        upper = json.dumps({"signatures": [sign(proof.secret, KEYS[0]).upper()]})
        assert spendable([replace(proof, witness=upper)])

    def test_an_ordinary_input_may_have_no_witness(self) -> None:
        assert not spendable([replace(ordinary(), witness='{"signatures":[]}')])
        (kept,) = unlock([replace(ordinary(), witness='{"signatures":[]}')], [], NOW, SWAP)
        assert kept == ordinary()

    def test_two_owners_sign_in_turn(self) -> None:
        (first,) = sign_inputs([locked(TWO_OF_THREE)], [KEYS[2]], NOW, SWAP)
        assert not spendable([first])
        with pytest.raises(LockError):
            unlock([first], [KEYS[5]], NOW, SWAP)
        (second,) = unlock([first], [KEYS[0]], NOW, SWAP)
        assert spendable([second])
        assert set(signatures(first)) < set(signatures(second))

    def test_a_stranger_takes_no_signature_away(self) -> None:
        (first,) = sign_inputs([locked(TWO_OF_THREE)], [KEYS[2]], NOW, SWAP)
        assert sign_inputs([first], [KEYS[9]], NOW, SWAP) == (first,)
        assert sign_inputs([locked(ONE)], [KEYS[9]], NOW, SWAP) == (locked(ONE),)

    @pytest.mark.parametrize("witness", ["", "x", "[]", '{"signatures":1}', '{"signatures":["zz"]}', "{}"])
    def test_a_foreign_witness_does_not_keep_the_owner_out(self, witness: str) -> None:
        proof = locked(ONE, witness=witness)
        assert not spendable([proof])
        assert spendable(unlock([proof], [KEYS[0]], NOW, SWAP))


class TestLocktime:
    REFUND = P2PK(PUBLIC[0], (PUBLIC[1],), 2, NOW, (PUBLIC[2], PUBLIC[3]), 2)
    FREE = P2PK(PUBLIC[0], locktime=NOW)

    def test_refund_keys_sign_only_after_it(self) -> None:
        with pytest.raises(LockError, match="not free yet"):
            unlock([locked(self.REFUND)], KEYS[2:4], NOW, SWAP)
        signed = unlock([locked(self.REFUND)], KEYS[2:4], LATER, SWAP)
        assert spendable(signed, LATER)
        assert not spendable(signed, NOW)

    def test_the_first_keys_still_sign_after_it(self) -> None:
        assert spendable(unlock([locked(self.REFUND)], KEYS[:2], LATER, SWAP), LATER)

    def test_signatures_of_both_pathways_do_not_add_up(self) -> None:
        with pytest.raises(LockError):
            unlock([locked(self.REFUND)], KEYS[1:3], LATER, SWAP)
        proof = locked(self.REFUND)
        blend = json.dumps({"signatures": [sign(proof.secret, KEYS[0]), sign(proof.secret, KEYS[2])]})
        assert not spendable([replace(proof, witness=blend)], LATER)

    @pytest.mark.parametrize("sigflag", list(SigFlag))
    def test_a_signature_for_one_pathway_keeps_nobody_out_of_the_other(self, sigflag: SigFlag) -> None:
        inputs: tuple[Proof, ...] = (locked(replace(self.REFUND, sigflag=sigflag)),)
        for key in (KEYS[0], KEYS[2], KEYS[9]):
            inputs = sign_inputs(inputs, [key], LATER, SWAP)
        assert not spendable(inputs, LATER)
        assert spendable(unlock(inputs, [KEYS[1]], LATER, SWAP), LATER)
        assert spendable(unlock(inputs, [KEYS[3]], LATER, SWAP), LATER)

    def test_without_refund_keys_anybody_can_spend_after_it(self) -> None:
        with pytest.raises(LockError):
            unlock([locked(self.FREE)], [], NOW, SWAP)
        (free,) = unlock([locked(self.FREE)], [], LATER, SWAP)
        assert signatures(free) == []  # Nutshell asks for a witness, if an empty one
        assert spendable([free], LATER)
        assert spendable([locked(self.FREE)], LATER)
        assert not spendable([free], NOW)

    def test_the_owner_signs_even_so(self) -> None:
        signed = unlock([locked(self.FREE)], [KEYS[0]], LATER, SWAP)
        assert spendable(signed, NOW)


class TestSigAll:
    INPUTS = (locked(ALL, "aa" * 16), locked(ALL, "bb" * 16))

    def test_the_first_input_signs_for_all(self) -> None:
        signed = unlock(self.INPUTS, [KEYS[0]], NOW, SWAP)
        assert spendable(signed)
        assert signed[1].witness is None
        assert verifies(sig_all_message(self.INPUTS, SWAP), signatures(signed[0])[0], PUBLIC[0])

    @pytest.mark.parametrize(
        "spend",
        [
            Spend(OUTPUTS[::-1]),
            Spend(OUTPUTS[:1]),
            Spend((*OUTPUTS, (4, PUBLIC[7]))),
            Spend(((2, PUBLIC[8]), (1, PUBLIC[9]))),
            Spend(((1, PUBLIC[7]), OUTPUTS[1])),
            Spend(OUTPUTS, "quote"),
            Spend(),
        ],
        ids=range(7),
    )
    def test_other_outputs_are_not_signed(self, spend: Spend) -> None:
        signed = unlock(self.INPUTS, [KEYS[0]], NOW, SWAP)
        assert not spendable(signed, spend=spend)

    def test_other_inputs_are_not_signed(self) -> None:
        one, two = unlock(self.INPUTS, [KEYS[0]], NOW, SWAP)
        third = locked(ALL, "cc" * 16)
        assert not spendable([one])
        assert not spendable([one, third])
        assert not spendable([one, two, third])
        assert not spendable([two, one])
        assert not spendable([one, replace(two, C=PUBLIC[3])])

    def test_a_melt_signs_its_quote(self) -> None:
        melt = Spend(OUTPUTS, "quote 1")
        signed = unlock(self.INPUTS, [KEYS[0]], NOW, melt)
        assert spendable(signed, spend=melt)
        assert not spendable(signed, spend=replace(melt, quote_id="quote 2"))

    @pytest.mark.parametrize(
        "other",
        [
            ordinary(),
            locked(ONE, "cc" * 16),
            locked(replace(ALL, data=PUBLIC[1]), "cc" * 16),
            locked(replace(ALL, locktime=NOW), "cc" * 16),
            ordinary(written(["sigflag", "SIG_ALL"], ["n_sigs", "1"])),
            ordinary(written(["sigflag", "SIG_ALL"], data=PUBLIC[0].upper())),
        ],
        ids=["ordinary", "sig_inputs", "key", "locktime", "tags written otherwise", "key written otherwise"],
    )
    def test_inputs_that_are_not_locked_alike_go_apart(self, other: Proof) -> None:
        for inputs in ([*self.INPUTS, other], [other, *self.INPUTS]):
            with pytest.raises(LockError, match="SIG_ALL"):
                unlock(inputs, KEYS, NOW, SWAP)
            with pytest.raises(LockError, match="SIG_ALL"):
                check_unlocked(inputs, NOW, SWAP)
            assert sorted(len(group) for group in split_transactions(inputs)) == [1, 2]

    def test_groups_keep_all_proofs_and_each_can_be_unlocked(self) -> None:
        third = locked(replace(ALL, data=PUBLIC[1]), "dd" * 16)
        proofs = [ordinary("a"), self.INPUTS[0], third, locked(ONE), self.INPUTS[1], ordinary("b")]
        groups = split_transactions(proofs)
        assert groups == [[proofs[0], proofs[3], proofs[5]], [*self.INPUTS], [third]]
        assert all(spendable(unlock(group, KEYS[:2], NOW, SWAP)) for group in groups)
        assert split_transactions([]) == []

    def test_a_signature_of_the_older_form_is_added(self) -> None:
        signed = unlock(self.INPUTS, [KEYS[0]], NOW, Spend(OUTPUTS, "quote"))
        older = "".join(p.secret for p in self.INPUTS) + PUBLIC[8] + PUBLIC[9] + "quote"
        first, second = signatures(signed[0])
        assert verifies(older, second, PUBLIC[0])
        assert not verifies(older, first, PUBLIC[0])
        only_older = replace(signed[0], witness=json.dumps({"signatures": [second]}))
        assert not spendable([only_older, signed[1]], spend=Spend(OUTPUTS, "quote"))

    @pytest.mark.parametrize(("sigflag", "most"), [(SigFlag.SIG_INPUTS, 7), (SigFlag.SIG_ALL, 3)])
    def test_no_witness_is_longer_than_mints_take(self, sigflag: SigFlag, most: int) -> None:
        lock = P2PK(PUBLIC[0], tuple(PUBLIC[1:8]), most, sigflag=sigflag)
        (signed,) = unlock([locked(lock)], KEYS, NOW, SWAP)
        assert spendable([signed])
        assert len(signed.witness or "") <= 1024
        with pytest.raises(LockError, match="more signatures"):
            replace(lock, n_sigs=most + 1)

    def test_two_owners_sign_in_turn(self) -> None:
        lock = replace(TWO_OF_THREE, sigflag=SigFlag.SIG_ALL)
        inputs = [locked(lock, "aa" * 16), locked(lock, "bb" * 16)]
        first = sign_inputs(inputs, [KEYS[2]], NOW, SWAP)
        assert not spendable(first)
        second = unlock(first, [KEYS[1]], NOW, SWAP)
        assert spendable(second)
        assert len(signatures(second[0])) == 4

    def test_free_inputs_have_an_empty_witness_in_front(self) -> None:
        free = locked(replace(ALL, locktime=NOW))
        (signed,) = unlock([free], [], LATER, SWAP)
        assert signed.witness == '{"signatures":[]}'


class TestWitness:
    def test_signatures_are_read_once_each_in_lower_case(self) -> None:
        assert read_signatures('{"signatures": ["AB", "ab", "cd"]}') == ("ab", "cd")
        assert read_signatures(None) == ()
        assert len(read_signatures(json.dumps({"signatures": [str(n) for n in range(22)]}))) == 22
        assert read_signatures('{"preimage": "", "signatures": []}') == ()

    @pytest.mark.parametrize(
        "witness",
        [
            "",
            "null",
            "1",
            '"signatures"',
            "[]",
            "{}",
            '{"signatures":null}',
            '{"signatures":{}}',
            '{"signatures":"ab"}',
            '{"signatures":[1]}',
            '{"signatures":[null]}',
            '{"signatures":[["ab"]]}',
            '{"signatures":["ab"],"signatures":["cd"]}',
            '{"signatures":["ab"]',
            '{"signatures":[NaN]}',
            "[" * 10_000,
            json.dumps({"signatures": [str(n) for n in range(23)]}),
            json.dumps({"signatures": ["a" * 16_384]}),
        ],
        ids=range(18),
    )
    def test_a_witness_of_another_form_is_refused(self, witness: str) -> None:
        with pytest.raises(LockError, match="witness"):
            read_signatures(witness)
        assert not spendable([locked(ONE, witness=witness)])

    @given(st.text(max_size=60))
    def test_no_witness_raises_anything_else(self, witness: str) -> None:
        assert not spendable([locked(ONE, witness=witness)])


@given(
    locks(),
    st.sets(st.sampled_from(range(len(KEYS))), max_size=5),
    st.sampled_from([NOW, 0, 2**53]),
    st.booleans(),
)
def test_what_these_keys_can_spend_they_unlock_and_nothing_else(
    lock: P2PK, own: set[int], at: int, melt: bool
) -> None:
    spend = Spend(OUTPUTS, "quote" if melt else "")
    inputs = [locked(lock, "aa" * 16), locked(lock, "bb" * 16)]
    keys = [KEYS[number] for number in sorted(own)]
    can = lock.pathway([PUBLIC[number] for number in own], at) is not None
    assert spendable(sign_inputs(inputs, keys, at, spend), at, spend) is can
    if can:
        assert spendable(unlock(inputs, keys, at, spend), at, spend)
    else:
        with pytest.raises(LockError):
            unlock(inputs, keys, at, spend)


@given(st.data())
def test_a_changed_bit_anywhere_spoils_the_signature(data: st.DataObject) -> None:
    message = data.draw(st.text(min_size=1, max_size=40))
    key, other = data.draw(st.sampled_from(KEYS)), data.draw(st.text(max_size=40))
    number = KEYS.index(key)
    signature = sign(message, key, data.draw(st.none() | st.binary(min_size=32, max_size=32)))
    assert verifies(message, signature, PUBLIC[number])
    assert verifies(message, signature, other_parity(PUBLIC[number]))
    assert verifies(other, signature, PUBLIC[number]) is (other == message)
    assert not verifies(message, signature, PUBLIC[number - 1])
    bit = data.draw(st.integers(0, 511))
    flipped = (int(signature, 16) ^ (1 << bit)).to_bytes(64, "big").hex()
    assert not verifies(message, flipped, PUBLIC[number])


def test_no_secret_is_in_the_repr_of_what_signs() -> None:
    shown = repr(unlock([locked(ONE)], [KEYS[0]], NOW, SWAP))
    assert "signatures" not in shown
    assert "nonce" not in shown
