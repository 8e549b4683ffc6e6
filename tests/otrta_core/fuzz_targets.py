"""What is done with a stranger's bytes, for hypothesis, for the coverage-guided fuzzer and for its corpus.

A target takes any bytes. It lets the documented errors pass, so that any other exception is a finding, and
checks that what was read is written so that it reads back the same.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from otrta_core import (
    CallRequest,
    InvalidRequest,
    LockError,
    PaymentRequest,
    PaymentRequestError,
    Token,
    TokenError,
    bech32,
    wire,
)
from otrta_core.bech32 import Checksum
from otrta_core.nostr_profile import NostrProfile
from otrta_core.output_text import output_text
from otrta_core.p2pk import P2PK, Pathway, SigFlag, read_lock
from otrta_core.requests import PAYABLE_PATHS
from otrta_core.sse import EventReader, data_of, is_done
from otrta_core.unlocking import MAX_WITNESS_SIGNATURES, read_signatures
from otrta_core.usage import usage_from_body
from tests.otrta_core.vectors import load

CORPUS = Path(__file__).parent / "data" / "fuzz"
_KINDS = sorted(set(PAYABLE_PATHS.values()))


def _check_token(token: Token) -> None:
    def content(other: Token) -> tuple[Any, ...]:
        return other.mint, other.unit, other.memo, {proof.secret: proof for proof in other.proofs}

    again = [Token.parse(token.encode(version)) for version in (3, 4)]
    assert [content(other) for other in again] == [content(token)] * 2
    assert Token.parse_binary(token.encode_binary()) == again[1]


def token_text(data: bytes) -> None:
    try:
        token = Token.parse(data.decode("utf-8", "replace"))
    except TokenError:
        return
    _check_token(token)


def token_v3(data: bytes) -> None:
    token_text(b"cashuA" + base64.b64encode(data))


def token_binary(data: bytes) -> None:
    try:
        token = Token.parse_binary(b"crawB" + data)
    except TokenError:
        return
    _check_token(token)


def request_text(data: bytes) -> None:
    try:
        request = PaymentRequest.parse(data.decode("utf-8", "replace"))
    except PaymentRequestError:
        return
    assert PaymentRequest.parse(request.encode()) == request
    try:
        text = request.encode("creqB")
    except PaymentRequestError:
        return  # creqB cannot say everything
    once = PaymentRequest.parse(text)
    assert PaymentRequest.parse(once.encode("creqB")) == once
    assert (once.amount, once.unit, once.mints, once.nut10) == (
        request.amount,
        request.unit,
        request.mints,
        request.nut10,
    )


def request_creqa(data: bytes) -> None:
    request_text(b"creqA" + base64.b64encode(data))


def request_creqb(data: bytes) -> None:
    request_text(bech32.encode("creqb", data, Checksum.BECH32M).encode())


def nostr_profile(data: bytes) -> None:
    try:
        profile = NostrProfile.parse(bech32.encode("nprofile", data, Checksum.BECH32))
    except ValueError:
        return
    assert NostrProfile.parse(profile.encode()) == profile


def lock(data: bytes) -> None:
    try:
        found = read_lock(data.decode("utf-8", "replace"))
    except LockError:
        return
    if found is not None:
        assert P2PK.from_option(found.to_option()) == found
        assert found.pathway(found.keys, 0) is Pathway.LOCKTIME
        assert found.pathway((), 0) is None


def witness(data: bytes) -> None:
    try:
        signatures = read_signatures(data.decode("utf-8", "replace"))
    except LockError:
        return
    assert len(set(signatures)) == len(signatures) <= MAX_WITNESS_SIGNATURES


def cbor(data: bytes) -> None:
    try:
        wire.from_cbor(data)
    except ValueError:
        return


def json_bytes(data: bytes) -> None:
    try:
        value = wire.from_json(data)
    except ValueError:
        return
    assert wire.from_json(wire.compact_json(value)) == value


def base64_text(data: bytes) -> None:
    try:
        found = wire.from_base64(data.decode("utf-8", "replace"))
    except ValueError:
        return
    assert wire.from_base64(wire.to_base64(found, padded=False)) == found


def event_stream(data: bytes) -> None:
    def read(chunks: list[bytes]) -> list[bytes]:
        reader = EventReader()
        return [*(line for chunk in chunks for line in reader.feed(chunk)), reader.finish()]

    lines = read([data])
    assert b"".join(lines) == data
    assert read([data[at : at + 1] for at in range(len(data))]) == lines
    for line in lines:
        assert is_done(line) is (data_of(line) == b"[DONE]")


def usage(data: bytes) -> None:
    try:
        body = wire.from_json(data)
    except ValueError:
        return
    for kind in _KINDS:
        found = usage_from_body(body, kind)
        assert found is None or max(astuple(found)) > 0
    assert isinstance(output_text(body), str)


def call_request(data: bytes) -> None:
    try:
        body = wire.from_json(data)
    except ValueError:
        return
    for kind in _KINDS:
        try:
            CallRequest.parse(kind, body)
        except InvalidRequest:
            continue


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        token_text,
        token_v3,
        token_binary,
        request_text,
        request_creqa,
        request_creqb,
        nostr_profile,
        lock,
        witness,
        cbor,
        json_bytes,
        base64_text,
        event_stream,
        usage,
        call_request,
    )
}


def corpus(name: str) -> list[bytes]:
    """What the fuzzer found worth keeping for a target: one input for each piece of behaviour it reached."""
    path = CORPUS / f"{name}.json"
    return [base64.b64decode(text) for text in json.loads(path.read_text())] if path.exists() else []


def seeds(name: str) -> list[bytes]:
    """Well-formed inputs of a target, from the published vectors and by hand."""
    return _SEEDS[name]()


_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 2}}
_ANSWER = {
    "choices": [
        {"message": {"content": "a", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}
    ],
    "usage": _USAGE,
}
_CALLS = [
    {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "n": 2},
    {"model": "m", "messages": [{"role": "user", "content": "a", "name": "x"}], "max_tokens": 5, "tools": []},
    {"model": "m", "input": ["a", "b"]},
    {"model": "m", "input": [[1, 2], [3]], "stream": True},
    {"model": "m", "prompt": "a", "query": "b", "documents": ["c"]},
]
_STREAM = b"event: x\r\ndata: {}\r\n\r\ndata: [DONE]\n\n: x-cashu cashuB\rid: 1\n"


def _token_texts() -> list[bytes]:
    vectors = load("00")
    found = [vectors[name]["text"] for name in ("v3", "v4_single_keyset", "v4_multiple_keysets")]
    return [text.encode() for text in [*found, *vectors["v3_valid"], *vectors["v3_padding"]]]


def _v4() -> list[bytes]:
    return [wire.from_base64(text[6:].decode()) for text in _token_texts() if text.startswith(b"cashuB")]


def _v3() -> list[bytes]:
    plain = [wire.from_base64(text[6:].decode()) for text in _token_texts() if text.startswith(b"cashuA")]
    proof = {"amount": 1, "id": "01" + "ab" * 32, "secret": "s", "C": "02" + "ab" * 32, "p2pk_e": "03" * 33}
    dleq = {"e": "01" * 32, "s": "02" * 32, "r": "03" * 32}
    full = {**proof, "dleq": dleq, "witness": {"signatures": ["ab"]}}
    return [*plain, json.dumps({"token": [{"mint": "https://m", "proofs": [full]}]}).encode()]


def _creqa() -> list[bytes]:
    return [wire.from_base64(vector["text"][5:]) for vector in load("18")["requests"]]


def _creqb() -> list[bytes]:
    return [bech32.decode(vector["text"], Checksum.BECH32M)[1] for vector in load("26")["requests"]]


def _request_texts() -> list[bytes]:
    texts = [vector["text"] for nut in ("18", "26") for vector in load(nut)["requests"]]
    return [text.encode() for text in [*texts, *load("26")["example"]["uris"]]]


def _profiles() -> list[bytes]:
    targets = [each["a"] for vector in load("26")["requests"] for each in vector["json"].get("t", ())]
    return [bech32.decode(text, Checksum.BECH32)[1] for text in targets if text.startswith("nprofile")]


def _locks() -> list[bytes]:
    keys = [f"02{x:064x}" for x in (1, 2, 3, 4)]
    full = P2PK(keys[0], tuple(keys[1:3]), 2, 1_700_000_000, (keys[3],), 1, SigFlag.SIG_ALL)
    return [lock.secret("ab" * 32).encode() for lock in (P2PK(keys[0]), full)]


_SEEDS: Mapping[str, Callable[[], list[bytes]]] = {
    "token_text": _token_texts,
    "token_v3": _v3,
    "token_binary": lambda: [*_v4(), *(_as_v4(data) for data in _v3())],
    "request_text": _request_texts,
    "request_creqa": _creqa,
    "request_creqb": _creqb,
    "nostr_profile": _profiles,
    "lock": _locks,
    "witness": lambda: [json.dumps({"signatures": ["ab" * 64, "CD" * 64]}).encode()],
    "cbor": lambda: [*_v4(), *_creqa()],
    "json_bytes": lambda: [*_v3(), *(json.dumps(call).encode() for call in _CALLS)],
    "base64_text": lambda: [text[6:] for text in _token_texts()],
    "event_stream": lambda: [_STREAM],
    "usage": lambda: [json.dumps(_ANSWER).encode(), json.dumps({"usage": _USAGE}).encode()],
    "call_request": lambda: [json.dumps(call).encode() for call in _CALLS],
}


def _as_v4(data: bytes) -> bytes:
    return Token.parse("cashuA" + base64.b64encode(data).decode()).encode_binary()[5:]
