"""Whatever a stranger sends is read, or refused with a documented error, in time linear in its length."""

import json
from collections.abc import Callable
from time import process_time
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import PaymentRequest, PaymentRequestError, Token, TokenError, bech32, tlv, wire
from otrta_core.bech32 import Checksum
from otrta_core.sse import EventReader
from tests.otrta_core.fuzz_targets import CORPUS, TARGETS, corpus, seeds
from tests.otrta_core.mutations import mutated_bytes, mutated_trees
from tests.otrta_core.vectors import POINT


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzers_corpus_still_passes(name: str) -> None:
    for data in [*seeds(name), *corpus(name)]:
        TARGETS[name](data)


def test_every_corpus_belongs_to_a_target_and_every_target_has_seeds() -> None:
    assert {path.stem for path in CORPUS.glob("*.json")} <= set(TARGETS)
    assert all(seeds(name) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
def test_edited_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(mutated_bytes(data.draw(st.sampled_from(seeds(name))))))


@pytest.mark.parametrize("name", ["token_v3", "usage", "call_request", "json_bytes"])
@given(st.data())
def test_json_with_something_changed_is_read_or_refused(name: str, data: st.DataObject) -> None:
    seed = json.loads(data.draw(st.sampled_from(seeds(name))))
    TARGETS[name](json.dumps(data.draw(mutated_trees(seed, binary=False))).encode())


@pytest.mark.parametrize("name", ["token_binary", "request_creqa"])
@given(st.data())
def test_cbor_with_something_changed_is_read_or_refused(name: str, data: st.DataObject) -> None:
    seed = cbor2.loads(data.draw(st.sampled_from(seeds(name))))
    TARGETS[name](cbor2.dumps(data.draw(mutated_trees(seed, binary=True))))


def v4(count: int) -> str:
    point = bytes.fromhex(POINT)
    scalars = dict.fromkeys("esr", bytes(32))
    proofs = [{"a": 1, "s": f"{at:064}", "c": point, "pe": point, "d": scalars} for at in range(count)]
    group = {"i": bytes(8), "p": proofs}
    return "cashuB" + wire.to_base64(cbor2.dumps({"t": [group], "m": "m", "u": "sat"}), padded=False)


def v3(count: int) -> str:
    return Token.parse(v4(count), max_bytes=1 << 30).encode(3)


def creqb(count: int) -> str:
    return bech32.encode("creqb", tlv.write([(99, bytes(count))], length_bytes=2), Checksum.BECH32M)


def read_token(text: str) -> None:
    Token.parse(text, max_bytes=1 << 30)


def read_request(text: str) -> None:
    try:
        PaymentRequest.parse(text)
    except PaymentRequestError:
        return


def read_bytewise(stream: bytes) -> None:
    reader = EventReader()
    for at in range(len(stream)):
        reader.feed(stream[at : at + 1])


HEAVY: dict[str, tuple[Callable[[int], Any], Callable[[Any], object], int]] = {
    "a V4 token of many proofs": (v4, read_token, 100),
    "a V3 token of many proofs": (v3, read_token, 100),
    "CBOR text in many pieces": (lambda n: b"\x7f" + b"\x61a" * n + b"\xff", wire.from_cbor, 5_000),
    "CBOR bytes in empty pieces": (lambda n: b"\x5f" + b"\x40" * n + b"\xff", wire.from_cbor, 5_000),
    "an open CBOR array": (lambda n: b"\x9f" + b"\0" * n + b"\xff", wire.from_cbor, 5_000),
    "a CBOR map of alike keys": (
        lambda n: cbor2.dumps({at << 40: 0 for at in range(n)}),
        wire.from_cbor,
        1_500,
    ),
    "JSON of the longest numbers": (
        lambda n: "[" + ("9" * 4300 + ",") * n + "0]",
        wire.from_json,
        20,
    ),
    "JSON of one long fraction": (lambda n: "0." + "9" * n, wire.from_json, 100_000),
    "JSON of escapes": (lambda n: '"' + "\\u00e9" * n + '"', wire.from_json, 60_000),
    "base64": (lambda n: "A" * n, wire.from_base64, 100_000),
    "bech32": (
        lambda n: bech32.encode("creqb", bytes(n), Checksum.BECH32M),
        lambda text: bech32.decode(text, Checksum.BECH32M),
        2_000,
    ),
    "a creqB request": (creqb, read_request, 2_500),
    "fields without a value": (
        lambda n: b"\1\0\0" * n,
        lambda data: tlv.read(data, length_bytes=2, max_fields=1 << 30),
        10_000,
    ),
    "a bitcoin: URI of many parameters": (
        lambda n: "bitcoin:?creq=x" + "&a=b" * n,
        read_request,
        1_000,
    ),
    "an event stream by the byte": (lambda n: b"data: x\r\n" * n, read_bytewise, 200),
    "an event stream of one line": (lambda n: b"x" * n, read_bytewise, 2_000),
    "an event stream of returns": (lambda n: b"\r" * n, read_bytewise, 2_000),
}
GROWTH = 16


@pytest.mark.parametrize(("make", "read", "size"), HEAVY.values(), ids=HEAVY.keys())
def test_sixteen_times_the_input_takes_no_more_than_linear_time(
    make: Callable[[int], Any], read: Callable[[Any], object], size: int
) -> None:
    small, large = make(size), make(GROWTH * size)

    def quickest(data: Any) -> float:
        took = []
        for _ in range(3):
            start = process_time()
            read(data)
            took.append(process_time() - start)
        return max(min(took), 1e-5)

    ratios = []
    for _ in range(5):  # quadratic is 16 times linear, so one quiet moment of the machine tells them apart
        ratios.append(quickest(large) / quickest(small))
        if ratios[-1] < 4 * GROWTH:
            return
    pytest.fail(f"{GROWTH} times the input took {min(ratios):.0f} times as long")


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (Token.parse, TokenError),
        (lambda text: Token.parse_binary(text.encode()), TokenError),
        (PaymentRequest.parse, PaymentRequestError),
    ],
    ids=["token", "binary token", "request"],
)
def test_more_than_the_bound_is_refused_unseen(read: Callable[[str], Any], error: type[Exception]) -> None:
    for text in ("cashuB", "crawB", "creqA", "creqb1", "bitcoin:?creq="):
        with pytest.raises(error, match="longer than"):
            read(text + "A" * (1 << 20))
