"""Which locks count as money: the contract's words, read a second time."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import Proof, schnorr
from otrta_litellm.locks import Locking, holds_until, locked_to, locking

KEY = schnorr.public_key(bytes(31) + b"\1")
OTHER = schnorr.public_key(bytes(31) + b"\2")
THIRD = schnorr.public_key(bytes(31) + b"\3")
TIME = "2000000000"


def proof(secret: str, p2pk_e: str | None = None) -> Proof:
    return Proof(1, "00", secret, "02" + "11" * 32, p2pk_e=p2pk_e)


def secret(*tags: Any, **fields: Any) -> str:
    return json.dumps(["P2PK", {"nonce": "n", "data": KEY, "tags": list(tags), **fields}])


def taken(text: str) -> bool:
    return locked_to(proof(text), {KEY}) is not None


def is_of_the_form(text: str) -> bool:
    """The contract's words, sentence by sentence."""
    try:
        value = json.loads(text, object_pairs_hook=_no_key_twice)
    except ValueError:
        return False
    if not (
        isinstance(value, list) and len(value) == 2 and value[0] == "P2PK" and isinstance(value[1], dict)
    ):
        return False
    fields = value[1]
    if not {"nonce", "data"} <= set(fields) <= {"nonce", "data", "tags"}:
        return False
    if not (isinstance(fields["nonce"], str) and fields["nonce"]) or fields["data"] != KEY:
        return False
    tags = fields.get("tags", [])
    if not isinstance(tags, list):
        return False
    for tag in tags:
        if not (isinstance(tag, list) and len(tag) >= 2 and all(isinstance(t, str) and t for t in tag)):
            return False
    names = [tag[0] for tag in tags]
    if len(set(names)) < len(names):
        return False
    if not set(names) <= {"sigflag", "n_sigs", "locktime", "refund", "n_sigs_refund"}:
        return False
    said = {tag[0]: tag[1:] for tag in tags}
    if said.get("sigflag", ["SIG_INPUTS"])[0] != "SIG_INPUTS" or said.get("n_sigs", ["1"])[0] != "1":
        return False
    if "locktime" in said and not re.fullmatch("[1-9][0-9]{9,11}", said["locktime"][0]):
        return False
    return "locktime" in said or not {"refund", "n_sigs_refund"} & set(said)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


WORDS = st.sampled_from(
    ["sigflag", "SIG_INPUTS", "SIG_ALL", "n_sigs", "n_sigs_refund", "refund", "pubkeys", "locktime", "x", ""]
) | st.sampled_from(
    ["1", "2", "01", TIME, "-1", "1_000", "999999999", "2000000000000", "abc", OTHER, THIRD, KEY]
)
TAGS = st.one_of(
    st.sampled_from(
        [["sigflag", "SIG_INPUTS"], ["n_sigs", "1"], ["locktime", TIME], ["refund", OTHER, THIRD]]
    ),
    st.sampled_from([["n_sigs_refund", "1"], ["pubkeys", OTHER], ["sigflag", "SIG_ALL"], ["locktime", "12"]]),
    st.lists(st.one_of(WORDS, st.integers(0, 2), st.none()), max_size=3),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "nonce": st.sampled_from(["n", "", 5, None]),
        "data": st.sampled_from([KEY, KEY.upper(), OTHER, "02", 1]),
        "tags": st.one_of(st.lists(TAGS, max_size=4), st.sampled_from([None, {}, "x"])),
        "extra": st.just("x"),
    },
)
SECRETS = st.one_of(
    FIELDS.map(lambda fields: json.dumps(["P2PK", {"nonce": "n", "data": KEY, **fields}])),
    st.lists(TAGS, max_size=5).map(lambda tags: secret(*tags)),
    st.builds(
        lambda kind, fields, more: json.dumps([kind, fields, *more]),
        st.sampled_from(["P2PK", "p2pk", "HTLC", 1]),
        st.sampled_from([{"nonce": "n", "data": KEY}, [], None, "x"]),
        st.sampled_from([[], ["x"], [None]]),
    ),
)


@given(SECRETS)
def test_nothing_is_taken_that_the_contract_does_not_describe(text: str) -> None:
    if taken(text):
        assert is_of_the_form(text)


@given(st.data())
def test_what_the_contract_describes_is_taken(data: st.DataObject) -> None:
    tags: list[list[str]] = []
    if data.draw(st.booleans()):
        tags.append(["sigflag", "SIG_INPUTS"])
    if data.draw(st.booleans()):
        tags.append(["n_sigs", "1"])
    if data.draw(st.booleans()):
        tags.append(["locktime", str(data.draw(st.integers(10**9, 10**12 - 1)))])
        if data.draw(st.booleans()):
            tags.append(["refund", *data.draw(st.sampled_from([[OTHER], [OTHER, THIRD]]))])
            if data.draw(st.booleans()):
                tags.append(["n_sigs_refund", "1"])
    fields: dict[str, Any] = {
        "nonce": data.draw(st.text(min_size=1, max_size=64).filter(_is_text)),
        "data": KEY,
    }
    if tags or data.draw(st.booleans()):
        fields["tags"] = data.draw(st.permutations(tags))
    ascii_only, spaced = data.draw(st.booleans()), data.draw(st.booleans())
    text = json.dumps(["P2PK", fields], ensure_ascii=ascii_only, separators=None if spaced else (",", ":"))
    assert is_of_the_form(text)
    assert len(text) > 1024 or taken(text)


def _is_text(text: str) -> bool:
    return text.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(["P2PK", {"data": KEY}]),
        json.dumps(["P2PK", {"nonce": "", "data": KEY}]),
        json.dumps(["P2PK", {"nonce": "n", "data": KEY}, "x"]),
        json.dumps(["P2PK", {"nonce": "n", "data": KEY.upper()}]),
        json.dumps(["P2PK", {"nonce": "n", "data": OTHER}]),
        json.dumps(["P2PK", {"nonce": "n", "data": KEY, "tags": None}]),
        json.dumps(["HTLC", {"nonce": "n", "data": KEY}]),
        f'["P2PK",{{"nonce":"n","data":"{OTHER}","data":"{KEY}"}}]',
        f'["P2PK",{{"nonce":"n","data":"{KEY}","tags":[],"tags":[]}}]',
        secret(["pubkeys", OTHER]),
        secret(["n_sigs", "2"]),
        secret(["n_sigs", 1]),
        secret(["sigflag", "SIG_ALL"]),
        secret(["sigflag", "SIG_INPUTS"], ["sigflag", "SIG_INPUTS"]),
        secret(["sigflag"]),
        secret([]),
        secret(["locktime", TIME], ["locktime", TIME]),
        secret(["locktime", "-1"]),
        secret(["locktime", "1_000_000_000"]),
        secret(["locktime", "999999999"]),
        secret(["locktime", "1000000000000"]),
        secret(["locktime", "abc"]),
        secret(["locktime", 2_000_000_000]),
        secret(["refund", OTHER]),
        secret(["n_sigs_refund", "1"]),
        secret(["locktime", TIME], ["refund", "x"]),
        secret(["unknown", "x"]),
        "plain",
        "\ufeff" + secret(),
        secret() + "x",
        "{}",
    ],
)
def test_what_mints_may_spend_without_a_signature_is_not_taken(text: str) -> None:
    assert not taken(text)


def test_a_blinded_key_is_not_taken_for_ours() -> None:
    assert locked_to(proof(secret()), {KEY}) is not None
    assert locked_to(proof(secret(), p2pk_e=OTHER), {KEY}) is None


def test_a_lock_holds_until_its_time() -> None:
    forever, timed = (locked_to(proof(s), {KEY}) for s in (secret(), secret(["locktime", TIME])))
    assert forever is not None
    assert timed is not None
    assert holds_until(forever, 1e12)
    assert holds_until(timed, float(TIME))
    assert not holds_until(timed, float(TIME) + 1)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["plain", "00" * 32], Locking.NONE),
        ([secret(), secret()], Locking.ALL),
        ([secret(), "plain"], Locking.SOME),
        (["[broken"], Locking.ALL),
        (["[broken", "plain"], Locking.SOME),
        (["{}"], Locking.ALL),
    ],
)
def test_a_mix_of_locked_and_unlocked_is_seen(texts: list[str], found: Locking) -> None:
    assert locking(proof(text) for text in texts) is found
