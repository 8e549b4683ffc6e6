import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otrta_core import Dleq, KeysetError, Proof, Token, TokenError, TokenTooLarge, wire
from otrta_core.amounts import MAX_AMOUNT
from otrta_core.token import MAX_MEMO
from tests.otrta_core.strategies import json_values
from tests.otrta_core.test_wire import BOMBS
from tests.otrta_core.vectors import KEYSET, POINT, load, plain_proofs

NUT00 = load("00")
NUT28_PROOF: dict[str, Any] = {
    "amount": 64,
    "id": "009a1f293253e41e",
    "secret": '["P2PK",{"nonce":"d4a17a88f5d0c09001f7b453c42c1f9d5a87363b1f6637a5a83fc31a6a3b7266",'
    '"data":"03b7c03eb05a0a539cfc438e81bcf38b65b7bb8685e8790f9b853bfe3d77ad5315","tags":[]}]',
    "C": "0381855ddcc434a9a90b3564f29ef78e7271f8544d0056763b418b00e88525c0ff",
    "dleq": {
        "e": "23f2190b18bfd043d3a526103e15f4a938d646a6bf93b017e2bb7c85e1540b32",
        "s": "6178978456c42eee8eefb50830fc3146be27b05619f04e3490dc596005f0cc78",
        "r": "d26a55aa39ca50957fdaf54036b01053b0de42048b96a6fb2a167e03f00d0a0f",
    },
    "p2pk_e": "02a8cda4cf448bfce9a9e46e588c06ea1780fcb94e3bbdf3277f42995d403a8b0c",
}
"""The example of NUT-28's test vectors."""
MINT = "https://mint.example.com"
FULL = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"


def v3(top: Any) -> str:
    return "cashuA" + wire.to_base64(json.dumps(top).encode(), padded=False)


def v4(top: Any) -> str:
    return "cashuB" + wire.to_base64(cbor2.dumps(top), padded=False)


def v3_with(**change: Any) -> str:
    proof = {"amount": 1, "id": KEYSET, "secret": "x", "C": POINT, **change}
    return v3({"token": [{"mint": MINT, "proofs": [proof]}]})


def v4_with(**change: Any) -> str:
    proof = {"a": 1, "s": "x", "c": bytes.fromhex(POINT), **change}
    return v4({"t": [{"i": bytes.fromhex(KEYSET), "p": [proof]}], "m": MINT, "u": "sat"})


def many(count: int) -> Token:
    return Token(MINT, "msat", tuple(plain_proofs([1] * count)))


texts = st.text(min_size=1, max_size=20)
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def tokens(draw: st.DrawFn) -> Token:
    secrets = draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    ids = st.sampled_from([KEYSET, FULL, FULL[:16]])
    proofs = [
        Proof(
            amount=draw(st.integers(1, 2**40)),
            id=draw(ids),
            secret=secret,
            C=draw(st.sampled_from(["02", "03"])) + draw(hexes),
            dleq=draw(st.none() | st.builds(Dleq, hexes, hexes, hexes)),
            witness=draw(st.none() | texts),
            p2pk_e=draw(st.none() | st.just("03").flatmap(lambda sign: hexes.map(sign.__add__))),
        )
        for secret in secrets
    ]
    # V4 groups proofs by keyset, so only a token that is grouped already comes back in its order
    proofs.sort(key=lambda proof: proof.id)
    mint = draw(texts.filter(lambda text: not text.endswith("/")))
    return Token(mint, draw(texts), tuple(proofs), draw(st.none() | texts))


class TestPublishedVectors:
    def test_there_are_as_many_as_nut_00_has(self) -> None:
        assert {name: len(NUT00[name]) for name in ("v3_invalid", "v3_valid", "v3_padding")} == {
            "v3_invalid": 2,
            "v3_valid": 1,
            "v3_padding": 2,
        }
        assert {name for name in NUT00 if name.startswith("v4")} == {
            "v4_single_keyset",
            "v4_multiple_keysets",
            "v4_raw",
        }

    def test_v3_is_read(self) -> None:
        token = Token.parse(NUT00["v3"]["text"])
        assert json.loads(wire.from_base64(token.encode(3)[6:])) == NUT00["v3"]["json"]
        assert (token.mint, token.unit, token.amount, token.memo) == (
            "https://8333.space:3338",
            "sat",
            10,
            "Thank you.",
        )

    def test_v3_is_written_byte_for_byte(self) -> None:
        assert Token.parse(NUT00["v3"]["text"]).encode(3) == NUT00["v3"]["text"]

    @pytest.mark.parametrize("name", ["prefix", "no_prefix"])
    def test_v3_with_a_wrong_or_no_prefix_is_refused(self, name: str) -> None:
        with pytest.raises(TokenError, match="must begin with"):
            Token.parse(NUT00["v3_invalid"][name])

    @pytest.mark.parametrize("text", NUT00["v3_valid"])
    def test_a_valid_v3_is_read(self, text: str) -> None:
        assert Token.parse(text).amount == 10

    def test_v3_is_read_with_and_without_padding(self) -> None:
        padded, bare = NUT00["v3_padding"]
        assert padded.endswith("==")
        assert not bare.endswith("=")
        assert Token.parse(padded) == Token.parse(bare)

    @pytest.mark.parametrize("name", ["v4_single_keyset", "v4_multiple_keysets"])
    def test_v4_is_read_and_written_byte_for_byte(self, name: str) -> None:
        vector = NUT00[name]
        token = Token.parse(vector["text"])
        assert [(p.id, p.amount, p.secret, p.C) for p in token.proofs] == [
            (group["i"], p["a"], p["s"], p["c"]) for group in vector["json"]["t"] for p in group["p"]
        ]
        assert (token.mint, token.unit) == (vector["json"]["m"], vector["json"]["u"])
        assert token.memo == vector["json"].get("d")
        assert token.encode() == vector["text"].rstrip("=")

    def test_v4_in_its_raw_form_holds_the_same_cbor(self) -> None:
        raw = bytes.fromhex(NUT00["v4_raw"]["hex"])
        token = Token.parse("cashuB" + wire.to_base64(raw.removeprefix(b"crawB"), padded=True))
        assert token == Token.parse(NUT00["v4_single_keyset"]["text"])
        assert wire.from_base64(token.encode()[6:]) == raw[5:]


@pytest.mark.parametrize("wrap", ["cashu:{}", "CASHU:{}", "  {}\n", "\tcashu:{} "])
def test_the_uri_prefix_and_white_space_round_a_token_are_ignored(wrap: str) -> None:
    text = NUT00["v4_single_keyset"]["text"]
    assert Token.parse(wrap.format(text)) == Token.parse(text)


def test_a_token_in_the_standard_alphabet_is_read() -> None:
    text = NUT00["v4_single_keyset"]["text"]
    assert "_" in text
    assert Token.parse("cashuB" + text[6:].replace("-", "+").replace("_", "/")) == Token.parse(text)


@given(tokens(), st.sampled_from([3, 4]))
def test_every_token_comes_back_as_it_was_written(token: Token, version: int) -> None:
    assert Token.parse(token.encode(version)) == token


def test_v4_is_what_is_written_unless_v3_is_asked_for() -> None:
    assert many(1).encode().startswith("cashuB")
    assert many(1).encode(3).startswith("cashuA")


@pytest.mark.parametrize("version", [0, 2, 5])
def test_other_versions_are_not_written(version: int) -> None:
    with pytest.raises(TokenError, match="version 3 or 4"):
        many(1).encode(version)


def test_fields_that_are_not_known_are_passed_over_and_not_written_again() -> None:
    assert Token.parse(v4_with(zz=[1], p2pk_e=b"x")) == Token.parse(v4_with())
    assert Token.parse(v3_with(reserved=True, pe="x")) == Token.parse(v3_with())


def test_a_blinded_keys_point_is_kept_in_both_versions() -> None:
    key = NUT28_PROOF["p2pk_e"]
    token = Token.parse(v3_with(**NUT28_PROOF))
    (proof,) = token.proofs
    assert (proof.p2pk_e, proof.secret) == (key, NUT28_PROOF["secret"])
    assert json.loads(wire.from_base64(token.encode(3)[6:]))["token"][0]["proofs"] == [NUT28_PROOF]
    (written,) = cbor2.loads(wire.from_base64(token.encode()[6:]))["t"][0]["p"]
    assert written["pe"] == bytes.fromhex(key)
    assert Token.parse(token.encode(3)) == Token.parse(token.encode()) == token
    assert token.without_dleq().proofs[0].p2pk_e == key


def test_a_keyset_id_of_an_unknown_version_is_kept_but_stands_for_no_known_keyset() -> None:
    for unknown in ("02" + FULL[2:], "02" + FULL[2:16], "ff" * 8):
        token = Token.parse(Token.parse(v3_with(id=unknown)).encode())
        assert token.proofs[0].id == unknown
        with pytest.raises(KeysetError, match="not one of"):
            token.resolve([FULL, KEYSET, "02" + "00" * 32])


@pytest.mark.parametrize("memo", ["x" * (MAX_MEMO + 1), "a\ud800"])
def test_a_memo_that_no_reader_would_take_cannot_be_made(memo: str) -> None:
    with pytest.raises(TokenError, match="memo"):
        Token(MINT, "sat", tuple(plain_proofs([1])), memo)


class TestBinary:
    """crawB: a V4 token without base64."""

    RAW = bytes.fromhex(NUT00["v4_raw"]["hex"])

    def test_the_published_token_is_read_and_written_byte_for_byte(self) -> None:
        token = Token.parse_binary(self.RAW)
        assert token == Token.parse(NUT00["v4_single_keyset"]["text"])
        assert token.encode_binary() == self.RAW

    @given(tokens())
    def test_every_token_comes_back_as_it_was_written(self, token: Token) -> None:
        assert Token.parse_binary(token.encode_binary()) == token

    @pytest.mark.parametrize("prefix", [b"", b"craw", b"crawA", b"CRAWB", b"cashuB", b" crawB"])
    def test_another_prefix_is_refused(self, prefix: bytes) -> None:
        with pytest.raises(TokenError, match="crawB"):
            Token.parse_binary(prefix + self.RAW[5:])

    def test_a_token_cut_at_any_byte_or_followed_by_more_is_refused(self) -> None:
        for data in [*(self.RAW[:cut] for cut in range(len(self.RAW))), self.RAW + b"\0"]:
            with pytest.raises(TokenError):
                Token.parse_binary(data)

    def test_bytes_and_proofs_are_bounded(self) -> None:
        data = many(10).encode_binary()
        assert Token.parse_binary(data, max_bytes=len(data), max_proofs=10).amount == 10
        with pytest.raises(TokenTooLarge, match="longer than"):
            Token.parse_binary(data, max_bytes=len(data) - 1)
        with pytest.raises(TokenTooLarge, match="more proofs"):
            Token.parse_binary(data, max_proofs=9)

    def test_a_repeated_secret_is_refused(self) -> None:
        one = plain_proofs([1])[0]
        data = Token(MINT, "sat", (one, Proof(2, FULL, one.secret, one.C))).encode_binary()
        with pytest.raises(TokenError, match="repeats a proof"):
            Token.parse_binary(data)

    def test_the_text_of_a_token_is_not_its_binary_form(self) -> None:
        with pytest.raises(TokenError):
            Token.parse_binary(many(1).encode().encode())


@pytest.mark.parametrize("unit", [{}, {"unit": None}])
def test_a_v3_token_without_a_unit_is_sat(unit: dict[str, None]) -> None:
    token = Token.parse(NUT00["v3"]["text"])
    top = json.loads(wire.from_base64(token.encode(3)[6:]))
    del top["unit"]
    assert Token.parse(v3({**top, **unit})).unit == "sat"


def test_trailing_slashes_of_the_mint_are_taken_off() -> None:
    group = {"i": bytes.fromhex(KEYSET), "p": [{"a": 1, "s": "x", "c": bytes.fromhex(POINT)}]}
    assert Token.parse(v4({"t": [group], "m": MINT + "//", "u": "sat"})).mint == MINT


def test_hex_is_read_in_either_case() -> None:
    assert Token.parse(v3_with(id=KEYSET.upper(), C=POINT.upper())) == Token.parse(v3_with())


def test_a_dleq_without_r_proves_nothing_to_a_receiver_and_is_dropped() -> None:
    assert Token.parse(v3_with(dleq={"e": "00" * 32, "s": "00" * 32})).proofs[0].dleq is None


def test_a_witness_written_as_an_object_is_read_as_its_json() -> None:
    assert Token.parse(v3_with(witness={"signatures": ["ab"]})).proofs[0].witness == '{"signatures":["ab"]}'


def test_entries_of_one_mint_are_one_token() -> None:
    first, second = ({"amount": 1, "id": KEYSET, "secret": s, "C": POINT} for s in "ab")
    entries = [{"mint": MINT, "proofs": [first]}, {"mint": MINT + "/", "proofs": [second]}]
    assert Token.parse(v3({"token": entries})).amount == 2


def test_a_token_of_several_mints_is_refused() -> None:
    first, second = ({"amount": 1, "id": KEYSET, "secret": s, "C": POINT} for s in "ab")
    entries = [{"mint": MINT, "proofs": [first]}, {"mint": "https://other.example", "proofs": [second]}]
    with pytest.raises(TokenError, match="several mints"):
        Token.parse(v3({"token": entries}))


@pytest.mark.parametrize("version", [3, 4])
def test_a_repeated_secret_is_refused(version: int) -> None:
    one = plain_proofs([1])[0]
    text = Token(MINT, "sat", (one, Proof(2, FULL, one.secret, one.C))).encode(version)
    with pytest.raises(TokenError, match="repeats a proof"):
        Token.parse(text)


BAD_V3 = {
    "no amount": {"amount": None},
    "amount zero": {"amount": 0},
    "amount negative": {"amount": -1},
    "amount true": {"amount": True},
    "amount a float": {"amount": 1.0},
    "amount a text": {"amount": "1"},
    "amount past 63 bits": {"amount": 2**63},
    "no id": {"id": None},
    "id not hex": {"id": "I2yN+iRYfkzT"},
    "id cut": {"id": KEYSET[:-1]},
    "no secret": {"secret": None},
    "secret empty": {"secret": ""},
    "secret a number": {"secret": 5},
    "secret too long": {"secret": "x" * 4097},
    "secret with half a surrogate pair": {"secret": "a\ud800"},
    "no signature": {"C": None},
    "signature not compressed": {"C": "04" + POINT[2:]},
    "signature cut": {"C": POINT[:-2]},
    "dleq a list": {"dleq": []},
    "dleq of short scalars": {"dleq": {"e": "00", "s": "00", "r": "00"}},
    "dleq without s": {"dleq": {"e": "00" * 32, "r": "00" * 32}},
    "blinded key not a point": {"p2pk_e": "04" + POINT[2:]},
    "blinded key cut": {"p2pk_e": POINT[:-2]},
    "blinded key empty": {"p2pk_e": ""},
    "blinded key a number": {"p2pk_e": 2},
    "witness a number": {"witness": 1},
    "witness too long": {"witness": "x" * 16_385},
    "witness with half a surrogate pair": {"witness": {"a": "\ud800"}},
}


@pytest.mark.parametrize("change", BAD_V3.values(), ids=BAD_V3.keys())
def test_a_proof_of_the_wrong_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        Token.parse(v3_with(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"a": cbor2.undefined},
        {"a": 2**63},
        {"s": b"x"},
        {"c": POINT.encode()},
        {"c": b""},
        {"pe": b""},
        {"pe": bytes(33)},
        {"w": {"a": b"bytes are not JSON"}},
        {"w": {1: {2: cbor2.CBORSimpleValue(99)}}},
        {"d": {"e": b"", "s": b"", "r": b""}},
    ],
    ids=str,
)
def test_a_v4_proof_of_the_wrong_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        Token.parse(v4_with(**change))


def test_a_witness_nested_near_the_recursion_limit_is_read_or_refused() -> None:
    body = wire.from_base64(v3_with(witness="DEEP")[6:])
    outcomes = set()
    for depth in range(800, 1100):
        nested = body.replace(b'"DEEP"', b'{"a":' * depth + b"1" + b"}" * depth)
        try:
            Token.parse("cashuA" + wire.to_base64(nested, padded=False))
            outcomes.add("read")
        except TokenError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize(
    "top",
    [
        {},
        {"token": []},
        {"token": None},
        {"token": {}},
        {"token": [1]},
        {"token": [{"mint": MINT, "proofs": []}]},
        {"token": [{"mint": MINT}]},
        {"token": [{"mint": "", "proofs": []}]},
        {"token": [{"mint": "///", "proofs": []}]},
        {"token": [{"mint": 5, "proofs": []}]},
        [],
        None,
        "text",
    ],
    ids=str,
)
def test_a_structure_that_is_not_a_tokens_is_refused(top: Any) -> None:
    for text in (v3(top), v4(top)):
        with pytest.raises(TokenError):
            Token.parse(text)


@pytest.mark.parametrize(
    "change", [{"m": None}, {"u": None}, {"u": ""}, {"u": 1}, {"d": 1}, {"d": "x" * 4097}, {"t": 1}]
)
def test_a_v4_token_with_a_broken_head_is_refused(change: dict[str, Any]) -> None:
    proof = {"a": 1, "s": "x", "c": bytes.fromhex(POINT)}
    whole = {"t": [{"i": bytes.fromhex(KEYSET), "p": [proof]}], "m": MINT, "u": "sat"}
    assert Token.parse(v4(whole)).amount == 1
    with pytest.raises(TokenError):
        Token.parse(v4({**whole, **change}))


def test_amounts_that_add_up_past_63_bits_are_refused() -> None:
    assert Token(MINT, "sat", tuple(plain_proofs([MAX_AMOUNT]))).amount == MAX_AMOUNT
    with pytest.raises(TokenError, match="out of range"):
        Token(MINT, "sat", tuple(plain_proofs([MAX_AMOUNT, 1])))


def test_a_token_without_proofs_cannot_be_made() -> None:
    with pytest.raises(TokenError, match="no proofs"):
        Token(MINT, "sat", ())


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize(
    "place",
    [lambda b: b, lambda b: b"\xa1\x61t" + b, lambda b: b"\xa1\x61t\x81\xa2\x61i\x40\x61p" + b],
    ids=["whole", "groups", "proofs"],
)
def test_cbor_bombs_are_malformed_tokens(bomb: bytes, place: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TokenError):
        Token.parse("cashuB" + wire.to_base64(place(bomb), padded=False))


def test_a_token_of_open_length_is_read() -> None:
    text = NUT00["v4_single_keyset"]["text"]
    data = b"\xbf" + wire.from_base64(text[6:])[1:] + b"\xff"
    assert Token.parse("cashuB" + wire.to_base64(data, padded=False)) == Token.parse(text)


@pytest.mark.parametrize("version", [3, 4])
def test_a_token_cut_at_any_character_is_malformed(version: int) -> None:
    token = Token.parse(NUT00["v4_multiple_keysets"]["text"])
    text = token.encode(version)
    for cut in range(len(text)):
        with pytest.raises(TokenError):
            Token.parse(text[:cut])


@pytest.mark.parametrize("version", [3, 4])
def test_a_thousand_proofs_are_too_many_for_a_gateway(version: int) -> None:
    token = many(1000)
    assert Token.parse(token.encode(version)) == token
    with pytest.raises(TokenTooLarge, match="more proofs"):
        Token.parse(token.encode(version), max_proofs=64)


def test_proofs_are_counted_over_all_keysets_and_entries() -> None:
    proofs = plain_proofs([1] * 40) + [Proof(1, FULL, f"s{i}", POINT) for i in range(40)]
    token = Token(MINT, "msat", tuple(proofs))
    rows = [{"amount": 1, "id": KEYSET, "secret": p.secret, "C": POINT} for p in proofs]
    entries = [{"mint": MINT, "proofs": rows[:40]}, {"mint": MINT, "proofs": rows[40:]}]
    for text in (token.encode(), v3({"token": entries})):
        assert Token.parse(text, max_proofs=80).amount == 80
        with pytest.raises(TokenTooLarge):
            Token.parse(text, max_proofs=79)


def test_a_token_longer_than_allowed_is_too_large_before_it_is_looked_at() -> None:
    text = many(10).encode()
    assert Token.parse(text, max_bytes=len(text)).amount == 10
    for long in (text, "x" * len(text)):
        with pytest.raises(TokenTooLarge, match="longer than"):
            Token.parse(long, max_bytes=len(text) - 1)


def test_no_repr_shows_what_spends_the_token() -> None:
    proof = Proof(4, KEYSET, "the secret", "the C", Dleq("the e", "the s", "the r"), "the witness", "the E")
    shown = repr(Token(MINT, "msat", (proof,), "the memo"))
    assert shown == f"Token(mint={MINT!r}, unit='msat', amount=4, proofs=1)"


@pytest.mark.parametrize("change", [{"C": "the-signature"}, {"amount": 0}, {"id": "the-id"}, {"witness": 1}])
def test_no_error_quotes_the_token(change: dict[str, Any]) -> None:
    with pytest.raises(TokenError) as caught:
        Token.parse(v3_with(**{"secret": "the-secret", **change}))
    assert "the-" not in str(caught.value)


def test_the_error_of_a_damaged_token_does_not_carry_its_bytes() -> None:
    with pytest.raises(TokenError) as caught:
        Token.parse("cashuA" + wire.to_base64(b'{"secret": "the-secret" oops', padded=False))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class TestResolve:
    def token(self, *ids: str) -> Token:
        return Token(MINT, "msat", tuple(Proof(1, i, f"s{at}", POINT) for at, i in enumerate(ids)))

    def test_short_ids_become_full_ones(self) -> None:
        assert [p.id for p in self.token(FULL[:16], KEYSET, FULL).resolve([KEYSET, FULL]).proofs] == [
            FULL,
            KEYSET,
            FULL,
        ]

    def test_nothing_but_the_ids_changes(self) -> None:
        token = self.token(FULL[:16])
        resolved = token.resolve(iter([FULL]))
        assert (resolved.mint, resolved.amount, resolved.proofs[0].secret) == (MINT, 1, "s0")

    def test_an_unknown_id_is_an_error(self) -> None:
        with pytest.raises(KeysetError, match="not one of"):
            self.token(KEYSET).resolve([FULL])

    def test_an_ambiguous_id_is_an_error(self) -> None:
        with pytest.raises(KeysetError, match="more than one"):
            self.token(FULL[:16]).resolve([FULL, FULL[:16] + "00" * 25])

    def test_the_fee_is_that_of_the_resolved_keysets(self) -> None:
        token = self.token(FULL[:16], FULL, KEYSET).resolve([FULL, KEYSET])
        assert token.fee({FULL: 400, KEYSET: 300}) == 2


def test_without_dleq_only_the_dleq_is_gone() -> None:
    proof = Proof(1, KEYSET, "s", POINT, Dleq("00" * 32, "00" * 32, "00" * 32), "w")
    bare = Token(MINT, "msat", (proof,), "memo").without_dleq()
    assert bare == Token(MINT, "msat", (Proof(1, KEYSET, "s", POINT, None, "w"),), "memo")


class TestFuzz:
    """Whatever a stranger sends is a token or a TokenError."""

    def accept(self, text: str) -> None:
        try:
            token = Token.parse(text)
        except TokenError:
            return
        for version in (3, 4):
            again = Token.parse(token.encode(version))
            by_secret = [sorted(t.proofs, key=lambda p: p.secret) for t in (again, token)]
            assert by_secret[0] == by_secret[1]
            assert (again.amount, again.mint, again.unit, again.memo) == (
                token.amount,
                token.mint,
                token.unit,
                token.memo,
            )
        assert all(proof.Y for proof in token.proofs)
        assert isinstance(token.proofs[0].dleq_holds(POINT), bool)

    @given(st.sampled_from(["", "cashuA", "cashuB", "cashu:cashuB", "cashuC"]), st.text(st.characters()))
    def test_arbitrary_text(self, prefix: str, text: str) -> None:
        self.accept(prefix + text)

    @given(st.sampled_from(["cashuA", "cashuB"]), st.binary(max_size=300))
    def test_arbitrary_bytes(self, prefix: str, data: bytes) -> None:
        self.accept(prefix + wire.to_base64(data, padded=False))

    @given(json_values(["token", "mint", "proofs", "amount", "id", "secret", "C", "dleq", "witness", "unit"]))
    def test_arbitrary_json(self, top: Any) -> None:
        self.accept(v3(top))

    @given(st.data())
    @settings(max_examples=60)
    def test_a_token_with_one_value_replaced(self, data: st.DataObject) -> None:
        odd = json_values(["e", "s", "r", "a"])
        name = data.draw(st.sampled_from(["amount", "id", "secret", "C", "dleq", "witness"]))
        self.accept(v3_with(**{name: data.draw(odd)}))
        value = data.draw(
            json_values(["e", "s", "r"], st.binary(max_size=40) | st.text(max_size=9) | st.none())
        )
        self.accept(v4_with(**{data.draw(st.sampled_from("ascdw")): value}))

    @given(st.data())
    def test_a_token_with_one_byte_changed(self, data: st.DataObject) -> None:
        raw = bytearray(wire.from_base64(NUT00["v4_multiple_keysets"]["text"][6:]))
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        self.accept("cashuB" + wire.to_base64(bytes(raw), padded=False))
