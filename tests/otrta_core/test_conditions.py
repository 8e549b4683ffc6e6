import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import LockError, SpendingCondition, read_condition, read_lock
from otrta_core.conditions import MAX_SECRET, write_condition
from tests.otrta_core.locks import NONCE, PUBLIC, written
from tests.otrta_core.strategies import json_values

FIELDS = {"nonce": NONCE, "data": PUBLIC[0], "tags": []}
HTLC = json.dumps(["HTLC", {"nonce": NONCE, "data": "ec" * 32, "tags": [["pubkeys", PUBLIC[0]]]}])

ORDINARY = [
    "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e9",
    "",
    "a secret",
    "P2PK",
    '"P2PK"',
    "null",
    "12",
    "x" * 4096,
    "\ud800",
    f"secret [{NONCE}]",
]

NOT_OF_THE_FORM = {
    "no nonce": json.dumps(["P2PK", {"data": PUBLIC[0], "tags": []}]),
    "no data": json.dumps(["P2PK", {"nonce": NONCE, "tags": []}]),
    "three elements": json.dumps(["P2PK", FIELDS, {}]),
    "one element": json.dumps(["P2PK"]),
    "no elements": "[]",
    "an object": json.dumps({"kind": "P2PK", **FIELDS}),
    "an empty object": "{}",
    "an object with two keys": json.dumps({"P2PK": 1, "data": FIELDS}),
    "fields as a list": json.dumps(["P2PK", [FIELDS]]),
    "fields as text": json.dumps(["P2PK", json.dumps(FIELDS)]),
    "a kind that is no text": json.dumps([1, FIELDS]),
    "an empty kind": json.dumps(["", FIELDS]),
    "an unknown field": json.dumps(["P2PK", {**FIELDS, "more": "x"}]),
    "an integer as nonce": json.dumps(["P2PK", {**FIELDS, "nonce": 1}]),
    "null as nonce": json.dumps(["P2PK", {**FIELDS, "nonce": None}]),
    "an empty nonce": json.dumps(["P2PK", {**FIELDS, "nonce": ""}]),
    "a long nonce": json.dumps(["P2PK", {**FIELDS, "nonce": "a" * 257}]),
    "null as data": json.dumps(["P2PK", {**FIELDS, "data": None}]),
    "null as tags": json.dumps(["P2PK", {**FIELDS, "tags": None}]),
    "an object as tags": json.dumps(["P2PK", {**FIELDS, "tags": {"locktime": "1"}}]),
    "a text as tag": json.dumps(["P2PK", {**FIELDS, "tags": ["locktime"]}]),
    "an empty tag": written([]),
    "an integer in a tag": written(["locktime", 1_765_300_829]),
    "a flag in a tag": written(["locktime", True]),
    "null in a tag": written(["locktime", None]),
    "a list in a tag": written(["pubkeys", [PUBLIC[1]]]),
    "an empty word in a tag": written(["locktime", ""]),
    "an empty tag name": written(["", "1"]),
    "half a surrogate pair": written(["pubkeys", "\ud800"]),
    "too many tags": written(*(["a"] for _ in range(17))),
    "too many words": written(["a"] * 17),
    "too long": json.dumps(["P2PK", FIELDS]) + " " * MAX_SECRET,
    "repeated field": f'["P2PK",{{"nonce":"{NONCE}","data":"{PUBLIC[0]}","data":"{PUBLIC[1]}"}}]',
    "repeated tags": f'["P2PK",{{"nonce":"{NONCE}","data":"{PUBLIC[0]}","tags":[],"tags":[]}}]',
    "cut off": json.dumps(["P2PK", FIELDS])[:-1],
    "text behind": json.dumps(["P2PK", FIELDS]) + "x",
    "a trailing comma": f'["P2PK",{{"nonce":"{NONCE}","data":"{PUBLIC[0]}",}}]',
    "single quotes": str(["P2PK", FIELDS]),
    "a byte order mark": "\ufeff" + json.dumps(["P2PK", FIELDS]),
    "a zero byte": "\x00" + json.dumps(["P2PK", FIELDS]),
    "NaN": '["P2PK",{"nonce":NaN,"data":"02"}]',
    "nested deep": "[" * 1000,
    "nested deep and closed": "[" * 512 + "]" * 512,
}


@pytest.mark.parametrize("secret", ORDINARY, ids=range(len(ORDINARY)))
def test_an_ordinary_secret_states_no_condition(secret: str) -> None:
    assert read_condition(secret) is None
    assert read_lock(secret) is None


@pytest.mark.parametrize("name", NOT_OF_THE_FORM)
def test_what_looks_like_a_condition_and_is_not_of_the_form_is_refused(name: str) -> None:
    for read in (read_condition, read_lock):
        with pytest.raises(LockError) as caught:
            read(NOT_OF_THE_FORM[name])
        assert (caught.value.code, caught.value.http_status) == ("lock_not_accepted", 400)


@pytest.mark.parametrize("space", ["", " ", "\n", "\t \r\n"])
def test_white_space_around_a_condition_does_not_hide_it(space: str) -> None:
    condition = read_condition(space + json.dumps(["P2PK", FIELDS]) + space)
    assert condition == SpendingCondition("P2PK", PUBLIC[0])


def test_as_much_is_read_as_any_lock_can_need() -> None:
    condition = read_condition(written(["a"] * 16, *(["b"] for _ in range(15))))
    assert condition is not None
    assert condition.tags == (("a",) * 16, *(("b",),) * 15)
    longest = json.dumps(["P2PK", {**FIELDS, "nonce": "a" * 256}])
    assert read_condition(longest.ljust(MAX_SECRET)) == SpendingCondition("P2PK", PUBLIC[0])
    with pytest.raises(LockError, match="longer"):
        read_condition(longest.ljust(MAX_SECRET + 1))


def test_tags_may_be_left_out_and_fields_may_stand_in_any_order() -> None:
    secret = json.dumps(["P2PK", {"data": PUBLIC[0], "nonce": "n"}], indent=1)
    condition = read_condition(secret)
    assert condition is not None
    assert (condition.kind, condition.data, condition.tags, condition.nonce) == ("P2PK", PUBLIC[0], (), "n")


@pytest.mark.parametrize("secret", [HTLC, json.dumps(["FUTURE", FIELDS]), json.dumps(["p2pk", FIELDS])])
def test_other_kinds_are_read_as_conditions_and_refused_as_locks(secret: str) -> None:
    condition = read_condition(secret)
    assert condition is not None
    assert condition.kind in {"HTLC", "FUTURE", "p2pk"}
    with pytest.raises(LockError, match="only locks to public keys"):
        read_lock(secret)


def test_a_hash_lock_is_named_for_what_it_is() -> None:
    with pytest.raises(LockError, match="NUT-14"):
        read_lock(HTLC)


def test_no_message_or_repr_holds_the_secret() -> None:
    for secret in (*NOT_OF_THE_FORM.values(), HTLC):
        with pytest.raises(LockError) as caught:
            read_lock(secret)
        assert NONCE not in repr(caught.value)
    assert NONCE not in repr(read_condition(HTLC))


@given(st.text(max_size=40) | json_values(["nonce", "data", "tags", "P2PK"]).map(json.dumps))
def test_no_text_raises_anything_else(secret: str) -> None:
    try:
        condition = read_condition(secret)
    except LockError:
        return
    assert condition is None or json.loads(secret)[0] == condition.kind


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(words, words, st.lists(st.lists(words, min_size=1, max_size=4).map(tuple), max_size=4), words)
def test_a_condition_is_read_back_as_it_was_written(
    kind: str, data: str, tags: list[tuple[str, ...]], nonce: str
) -> None:
    condition = SpendingCondition(kind, data, tuple(tags), nonce)
    text = write_condition(condition)
    back = read_condition(text)
    assert back == condition
    assert back.nonce == nonce


@pytest.mark.parametrize(
    "condition",
    [
        SpendingCondition("", "data", (), "n"),
        SpendingCondition("P2PK", "", (), "n"),
        SpendingCondition("P2PK", "data", ((),), "n"),
        SpendingCondition("P2PK", "data", (("a", ""),), "n"),
        SpendingCondition("P2PK", "data", (), ""),
        SpendingCondition("P2PK", "\ud800", (), "n"),
        SpendingCondition("P2PK", "a" * MAX_SECRET, (), "n"),
    ],
    ids=range(7),
)
def test_what_could_not_be_read_back_is_not_written(condition: SpendingCondition) -> None:
    with pytest.raises(LockError):
        write_condition(condition)
