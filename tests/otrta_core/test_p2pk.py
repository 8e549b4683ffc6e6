import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import P2PK, LockError, Nut10Option, Pathway, SigFlag, common_lock, lock_satisfies, read_lock
from otrta_core.p2pk import MAX_KEYS, MAX_LOCKTIME, MAX_SIGNATURES, MAX_SIGNATURES_ALL
from tests.otrta_core.locks import NONCE, NOW, PUBLIC, locked, ordinary, other_parity, proof_of, written
from tests.otrta_core.vectors import load

NUT11, NUT18 = load("11"), load("18")
MULTI = P2PK(PUBLIC[0], (PUBLIC[1], PUBLIC[2]), 2, NOW, (PUBLIC[3], PUBLIC[4]), 2, SigFlag.SIG_ALL)


@st.composite
def locks(draw: st.DrawFn) -> P2PK:
    pubkeys = draw(st.lists(st.sampled_from(PUBLIC[1:]), max_size=4, unique=True))
    refund = draw(st.lists(st.sampled_from(PUBLIC), max_size=4, unique=True))
    sigflag = draw(st.sampled_from(SigFlag))
    most = MAX_SIGNATURES_ALL if sigflag is SigFlag.SIG_ALL else MAX_SIGNATURES
    return P2PK(
        PUBLIC[0],
        tuple(pubkeys),
        draw(st.integers(1, min(most, 1 + len(pubkeys)))),
        draw(st.none() | st.integers(1, MAX_LOCKTIME)),
        tuple(refund),
        draw(st.integers(1, min(most, max(1, len(refund))))),
        sigflag,
    )


class TestReading:
    def test_the_published_locks_are_read(self) -> None:
        multisig = read_lock(NUT11["proofs"][0]["request"]["secret"])
        assert multisig == P2PK(
            "03ab50a667926fac858bac540766254c14b2b0334d10e8ec766455310224bbecf4",
            (
                "0229a91adec8dd9badb228c628a07fc1bf707a9b7d95dd505c490b1766fa7dc541",
                "033281c37677ea273eb7183b783067f5244933ef78d8c3f15b1a77cb246099c26e",
            ),
            2,
            21,
            (
                "03ab50a667926fac858bac540766254c14b2b0334d10e8ec766455310224bbecf4",
                "033281c37677ea273eb7183b783067f5244933ef78d8c3f15b1a77cb246099c26e",
            ),
        )

    @pytest.mark.parametrize("case", NUT11["htlc_swaps"], ids=lambda case: case["name"])
    def test_the_published_hash_locks_are_refused_by_name(
        self, case: dict[str, dict[str, list[dict]]]
    ) -> None:
        with pytest.raises(LockError, match="NUT-14"):
            read_lock(case["request"]["inputs"][0]["secret"])

    def test_what_a_tag_says_anyway_makes_no_difference(self) -> None:
        said = written(["sigflag", "SIG_INPUTS"], ["n_sigs", "1"])
        assert read_lock(said) == read_lock(written()) == P2PK(PUBLIC[0])

    def test_keys_are_read_in_either_case(self) -> None:
        upper = read_lock(written(["pubkeys", PUBLIC[1].upper()], data=PUBLIC[0].upper()))
        assert upper == P2PK(PUBLIC[0], (PUBLIC[1],))

    @given(locks())
    def test_a_lock_is_read_back_as_it_was_written(self, lock: P2PK) -> None:
        assert read_lock(lock.secret(NONCE)) == lock
        assert P2PK.from_option(lock.to_option()) == lock

    def test_a_secret_is_written_as_the_specs_write_it(self) -> None:
        secret = P2PK(PUBLIC[0], sigflag=SigFlag.SIG_ALL).secret(NONCE)
        assert secret == f'["P2PK",{{"nonce":"{NONCE}","data":"{PUBLIC[0]}","tags":[["sigflag","SIG_ALL"]]}}]'
        assert json.loads(P2PK(PUBLIC[0]).secret(NONCE))[1]["tags"] == []

    @pytest.mark.parametrize(
        "nonce", ["", "ab" * 15, "AB" * 16, "ab" * 65, "zz" * 16, '"' * 32, "ab" * 16 + "\n"]
    )
    def test_a_nonce_that_could_be_guessed_or_misread_is_refused(self, nonce: str) -> None:
        with pytest.raises(LockError, match="nonce"):
            P2PK(PUBLIC[0]).secret(nonce)


TRAPS = {
    "locktime -1": [["locktime", "-1"]],
    "locktime 1_000": [["locktime", "1_000"]],
    "locktime abc": [["locktime", "abc"]],
    "locktime 0": [["locktime", "0"]],
    "locktime 00": [["locktime", "00"]],
    "locktime 01": [["locktime", "01"]],
    "locktime +1": [["locktime", "+1"]],
    "locktime 1.0": [["locktime", "1.0"]],
    "locktime 1e3": [["locktime", "1e3"]],
    "locktime 0x10": [["locktime", "0x10"]],
    "locktime with a space": [["locktime", " 1"]],
    "locktime with a line end": [["locktime", "1\n"]],
    "locktime in other digits": [["locktime", "\u0661"]],
    "locktime past 2**53": [["locktime", str(MAX_LOCKTIME + 1)]],
    "locktime of many digits": [["locktime", "9" * 400]],
    "locktime twice": [["locktime", "1"], ["locktime", "99999999999"]],
    "locktime with two values": [["locktime", "1", "99999999999"]],
    "locktime without a value": [["locktime"]],
    "an integer as locktime": [["locktime", 21]],
    "sigflag twice": [["sigflag", "SIG_ALL"], ["sigflag", "SIG_INPUTS"]],
    "an unknown sigflag": [["sigflag", "SIG_NONE"]],
    "sigflag in lower case": [["sigflag", "sig_all"]],
    "pubkeys twice": [["pubkeys", PUBLIC[1]], ["pubkeys", PUBLIC[2]]],
    "pubkeys without a key": [["pubkeys"]],
    "refund without a key": [["locktime", "21"], ["refund"]],
    "refund twice": [["refund", PUBLIC[1]], ["refund", PUBLIC[2]]],
    "n_sigs 0": [["n_sigs", "0"]],
    "n_sigs -1": [["n_sigs", "-1"]],
    "n_sigs of more than there are": [["pubkeys", PUBLIC[1]], ["n_sigs", "3"]],
    "n_sigs 2 of one key": [["n_sigs", "2"]],
    "n_sigs twice": [["n_sigs", "1"], ["n_sigs", "1"]],
    "n_sigs_refund without refund keys": [["n_sigs_refund", "1"]],
    "n_sigs_refund of more than there are": [["refund", PUBLIC[1]], ["n_sigs_refund", "2"]],
    "n_sigs_refund 0": [["refund", PUBLIC[1]], ["n_sigs_refund", "0"]],
    "data again in pubkeys": [["pubkeys", PUBLIC[0]]],
    "data again in the other parity": [["pubkeys", other_parity(PUBLIC[0])]],
    "data again in upper case": [["pubkeys", PUBLIC[0].upper()]],
    "a key twice in refund": [["refund", PUBLIC[1], other_parity(PUBLIC[1])]],
    "an unknown tag": [["timeout", "3600"]],
    "a known tag in upper case": [["LOCKTIME", "21"]],
    "a key that is none": [["pubkeys", "02" + "00" * 32]],
    "a key without parity": [["pubkeys", PUBLIC[1][2:]]],
    "an uncompressed key": [["pubkeys", "04" + PUBLIC[1][2:] * 2]],
    "a key with a space": [["pubkeys", PUBLIC[1] + " "]],
    "more keys than slots": [["pubkeys", *PUBLIC[1:7]], ["refund", *PUBLIC[7:12]]],
    "more signatures than fit": [["pubkeys", *PUBLIC[1:9]], ["n_sigs", str(MAX_SIGNATURES + 1)]],
    "more signatures than fit in two forms": [
        ["sigflag", "SIG_ALL"],
        ["pubkeys", *PUBLIC[1:9]],
        ["n_sigs", "4"],
    ],
}


class TestTraps:
    @pytest.mark.parametrize("name", TRAPS)
    def test_a_lock_that_mints_read_differently_or_cannot_unlock_is_refused(self, name: str) -> None:
        secret = written(*TRAPS[name])
        with pytest.raises(LockError):
            read_lock(secret)

    @pytest.mark.parametrize(
        "data", ["", PUBLIC[0][2:], "02" + "ff" * 32, "04" + "11" * 64, "x", PUBLIC[0] + "\n", "\ud800" * 66]
    )
    def test_data_that_is_no_compressed_key_is_refused(self, data: str) -> None:
        with pytest.raises(LockError):
            read_lock(written(data=data))
        with pytest.raises(LockError):
            P2PK(data)

    def test_the_narrowest_that_is_accepted_lies_next_to_the_traps(self) -> None:
        assert read_lock(written(["locktime", "1"])) == P2PK(PUBLIC[0], locktime=1)
        assert read_lock(written(["locktime", str(MAX_LOCKTIME)])) == P2PK(PUBLIC[0], locktime=MAX_LOCKTIME)
        most = P2PK(PUBLIC[0], tuple(PUBLIC[1:6]), 6, 1, tuple(PUBLIC[6:11]), 5)
        assert len(most.slots) == MAX_KEYS
        assert read_lock(most.secret(NONCE)) == most
        assert P2PK(PUBLIC[0], tuple(PUBLIC[1:9]), MAX_SIGNATURES).n_sigs == MAX_SIGNATURES

    def test_a_locktime_is_a_number_that_javascript_can_hold(self) -> None:
        assert read_lock(written(["locktime", "9007199254740991"])) is not None
        with pytest.raises(LockError):
            read_lock(written(["locktime", "9007199254740992"]))

    def test_a_key_may_stand_in_both_pathways(self) -> None:
        assert read_lock(written(["locktime", "9"], ["refund", other_parity(PUBLIC[0])])) is not None

    @pytest.mark.parametrize("locktime", [0, -1, MAX_LOCKTIME + 1])
    def test_a_locktime_out_of_range_cannot_be_built(self, locktime: int) -> None:
        with pytest.raises(LockError, match="locktime"):
            P2PK(PUBLIC[0], locktime=locktime)

    @pytest.mark.parametrize(
        "change", [{"n_sigs": 0}, {"n_sigs": 4}, {"n_sigs_refund": 0}, {"n_sigs_refund": 3}]
    )
    def test_a_number_of_signatures_that_cannot_be_given_cannot_be_built(
        self, change: dict[str, int]
    ) -> None:
        with pytest.raises(LockError, match="signatures"):
            replace(MULTI, **change)

    @pytest.mark.parametrize(
        "change",
        [
            {"locktime": NOW + 0.5},
            {"locktime": float(NOW)},
            {"locktime": True},
            {"n_sigs": 1.0},
            {"n_sigs": "1"},
        ],
        ids=str,
    )
    def test_a_number_that_is_not_whole_cannot_be_built(self, change: dict[str, Any]) -> None:
        with pytest.raises(LockError, match="whole"):
            replace(MULTI, **change)

    def test_the_flag_may_be_given_as_a_word(self) -> None:
        flag: Any = "SIG_ALL"
        assert P2PK(PUBLIC[0], sigflag=flag) == P2PK(PUBLIC[0], sigflag=SigFlag.SIG_ALL)
        flag = "SIG_NONE"
        with pytest.raises(LockError, match="flag"):
            P2PK(PUBLIC[0], sigflag=flag)

    def test_a_secret_longer_than_mints_take_is_not_written(self) -> None:
        lock = P2PK(PUBLIC[0], tuple(PUBLIC[1:7]), 3, MAX_LOCKTIME, tuple(PUBLIC[7:11]), 3, SigFlag.SIG_ALL)
        assert len(lock.secret("ab" * 16)) <= 1024
        with pytest.raises(LockError, match="longer"):
            lock.secret("ab" * 64)


class TestWhoCanSpend:
    LATER = NOW + 1

    def test_one_of_one(self) -> None:
        lock = P2PK(PUBLIC[0])
        assert lock.pathway([PUBLIC[0]], NOW) is Pathway.LOCKTIME
        assert lock.pathway([other_parity(PUBLIC[0])], NOW) is Pathway.LOCKTIME
        assert lock.pathway([PUBLIC[1]], NOW) is None
        assert lock.pathway([], NOW) is None
        assert not lock.anyone_can_spend(MAX_LOCKTIME + 1)

    def test_n_of_m_needs_different_keys(self) -> None:
        assert MULTI.pathway([PUBLIC[0], PUBLIC[2]], NOW) is Pathway.LOCKTIME
        assert MULTI.pathway([PUBLIC[1], other_parity(PUBLIC[1])], NOW) is None
        assert MULTI.pathway([PUBLIC[1], PUBLIC[1]], NOW) is None

    def test_refund_opens_after_the_locktime_and_closes_nothing(self) -> None:
        assert MULTI.pathway(PUBLIC[3:5], NOW) is None
        assert MULTI.pathway(PUBLIC[3:5], self.LATER) is Pathway.REFUND
        assert MULTI.pathway(PUBLIC[3:4], self.LATER) is None
        assert MULTI.pathway(PUBLIC[:2], self.LATER) is Pathway.LOCKTIME

    def test_pathways_do_not_blend(self) -> None:
        assert MULTI.pathway([PUBLIC[0], PUBLIC[3]], self.LATER) is None

    def test_without_refund_keys_anyone_can_spend_after_the_locktime(self) -> None:
        lock = P2PK(PUBLIC[0], locktime=NOW)
        assert not lock.anyone_can_spend(NOW)
        assert lock.pathway([PUBLIC[1]], NOW) is None
        assert lock.anyone_can_spend(self.LATER)
        assert lock.pathway([], self.LATER) is Pathway.ANYONE
        assert lock.pathway([PUBLIC[0]], self.LATER) is Pathway.LOCKTIME

    def test_refund_keys_without_a_locktime_never_spend(self) -> None:
        lock = P2PK(PUBLIC[0], refund=(PUBLIC[1],))
        assert lock.pathway([PUBLIC[1]], MAX_LOCKTIME) is None
        assert not lock.anyone_can_spend(MAX_LOCKTIME)

    def test_exclusive_means_that_nobody_else_can_before_then(self) -> None:
        assert P2PK(PUBLIC[0]).exclusive_to([PUBLIC[0]], MAX_LOCKTIME)
        assert not P2PK(PUBLIC[0]).exclusive_to([PUBLIC[1]], NOW)
        timed = P2PK(PUBLIC[0], locktime=NOW)
        assert timed.exclusive_to([PUBLIC[0]], NOW)
        assert not timed.exclusive_to([PUBLIC[0]], self.LATER)
        refunded = replace(timed, refund=(PUBLIC[1],))
        assert refunded.exclusive_to([PUBLIC[0]], NOW)
        assert not refunded.exclusive_to([PUBLIC[0]], self.LATER)
        assert refunded.exclusive_to(PUBLIC[:2], self.LATER)

    def test_exclusive_counts_the_keys_of_others(self) -> None:
        either = P2PK(PUBLIC[0], (PUBLIC[1],))
        both = replace(either, n_sigs=2)
        assert not either.exclusive_to([PUBLIC[0]], NOW)
        assert either.exclusive_to(PUBLIC[:2], NOW)
        assert not both.exclusive_to([PUBLIC[0]], NOW)
        assert both.exclusive_to(PUBLIC[:2], NOW)
        multi = replace(MULTI, sigflag=SigFlag.SIG_INPUTS)
        assert multi.exclusive_to(PUBLIC[:2], NOW)
        assert not multi.exclusive_to(PUBLIC[:2], self.LATER)
        assert multi.exclusive_to([*PUBLIC[:2], PUBLIC[3]], self.LATER)

    def test_sig_all_is_never_exclusive_since_a_mint_melts_it_unsigned(self) -> None:
        assert not P2PK(PUBLIC[0], sigflag=SigFlag.SIG_ALL).exclusive_to(PUBLIC, NOW)

    @given(locks(), st.sets(st.sampled_from(PUBLIC)), st.integers(0, MAX_LOCKTIME + 1))
    def test_exclusive_owners_can_spend_and_all_others_together_cannot(
        self, lock: P2PK, own: set[str], at: int
    ) -> None:
        others = set(PUBLIC) - own
        if lock.exclusive_to(own, at):
            assert lock.pathway(own, at) is not None
            assert lock.pathway(others, at) is None
        elif lock.sigflag is not SigFlag.SIG_ALL and lock.pathway(others, at) is None:
            assert lock.pathway(own, 0) is None


class TestTogether:
    def test_proofs_are_unlocked_locked_alike_or_mixed(self) -> None:
        one, two = locked(P2PK(PUBLIC[0])), locked(P2PK(PUBLIC[0]), "ab" * 16)
        assert common_lock([ordinary("a"), ordinary("b")]).state == "unlocked"
        assert common_lock([]).state == "unlocked"
        alike = common_lock([one, two])
        assert (alike.state, alike.lock) == ("locked", P2PK(PUBLIC[0]))
        mixed = common_lock([one, ordinary()])
        assert (mixed.state, mixed.lock) == ("mixed", None)
        assert common_lock([one, locked(P2PK(PUBLIC[1]))]).state == "mixed"

    def test_one_condition_that_is_not_accepted_spoils_all(self) -> None:
        with pytest.raises(LockError):
            common_lock([ordinary(), ordinary(written(["locktime", "-1"]))])


class TestOptions:
    def test_a_request_for_a_lock_is_satisfied_by_that_lock_only(self) -> None:
        option = MULTI.to_option()
        assert option.kind == "P2PK"
        assert lock_satisfies(option, locked(MULTI))
        for change in (
            {"data": PUBLIC[5]},
            {"pubkeys": (PUBLIC[1], PUBLIC[5])},
            {"n_sigs": 1},
            {"locktime": NOW + 1},
            {"locktime": None},
            {"refund": (PUBLIC[3], PUBLIC[5])},
            {"n_sigs_refund": 1},
            {"sigflag": SigFlag.SIG_INPUTS},
        ):
            assert not lock_satisfies(option, locked(replace(MULTI, **change)))  # type: ignore[arg-type]
        assert len({field.name for field in fields(P2PK)}) == 7

    def test_an_ordinary_or_a_misshapen_secret_satisfies_no_lock(self) -> None:
        option = P2PK(PUBLIC[0]).to_option()
        assert lock_satisfies(option, ordinary(written()))
        assert not lock_satisfies(option, ordinary())
        assert not lock_satisfies(option, ordinary(json.dumps(["P2PK", {"data": PUBLIC[0], "tags": []}])))

    @pytest.mark.parametrize(
        "option",
        [Nut10Option("HTLC", "ec" * 32), Nut10Option("P2PK", "x"), Nut10Option("P2PK", PUBLIC[0], (("x",),))],
    )
    def test_a_request_for_something_else_is_refused(self, option: Nut10Option) -> None:
        with pytest.raises(LockError):
            lock_satisfies(option, locked(P2PK(PUBLIC[0])))

    @pytest.mark.parametrize(("tag", "bare"), [("purpose", "not a compressed public key"), ("timeout", None)])
    def test_the_published_requests_have_tags_that_nobody_defines(self, tag: str, bare: str | None) -> None:
        asked = [v["json"]["nut10"] for v in NUT18["requests"] if "nut10" in v["json"]]
        option = next(
            Nut10Option(n["k"], n["d"], tuple(map(tuple, n["t"]))) for n in asked if n["t"][0][0] == tag
        )
        with pytest.raises(LockError, match="tag that is not known"):
            P2PK.from_option(option)
        option = replace(option, tags=())
        if bare is None:
            assert P2PK.from_option(option).to_option() == option
            return
        with pytest.raises(LockError, match=bare):  # the key is not on the curve
            P2PK.from_option(option)


def test_published_locks_of_swaps_and_melts_are_all_read() -> None:
    requests = [case["request"] for name in ("swaps", "melts") for case in NUT11[name]]
    proofs = [proof_of(fields) for request in requests for fields in request["inputs"]]
    found = [read_lock(proof.secret) for proof in proofs]
    assert all(lock is not None and lock.sigflag is SigFlag.SIG_ALL for lock in found)
    assert len(found) == 9
