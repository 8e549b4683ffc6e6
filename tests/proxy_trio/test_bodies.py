"""Bodies go on byte for byte, and what no gateway could read is refused before it is paid for."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core.errors import InvalidRequest
from proxy_trio.bodies import MAX_DEPTH, parse


def test_a_body_without_private_fields_goes_on_byte_for_byte():
    raw = '{ "model" : "m",\n "messages":[{"role":"user","content":"hé\\u00e9 😀"}], "x": 1.0e1 }\n'.encode()
    body = parse(raw)
    assert body.outbound is raw
    assert body.model == "m"
    assert not body.stream


@pytest.mark.parametrize("name", ["user", "metadata", "safety_identifier", "prompt_cache_key"])
def test_a_private_field_is_taken_out_and_nothing_else(name):
    fields = {"model": "m", "stream": True, "messages": [{"role": "user", name: "kept é"}]}
    body = parse(json.dumps({**fields, name: {"id": "me"}}).encode())
    assert json.loads(body.outbound) == fields
    assert body.json == fields
    assert body.stream


def test_the_list_of_private_fields_can_be_changed():
    raw = b'{"model":"m","user":"me","seed":7}'
    assert parse(raw, removed=()).outbound is raw
    assert json.loads(parse(raw, removed=["seed"]).outbound) == {"model": "m", "user": "me"}


def test_text_is_not_escaped_when_the_body_is_written_anew():
    body = parse('{"model":"m","user":"u","input":"é😀\\u00e9\\ud83d\\ude00"}'.encode())
    assert body.outbound == '{"model":"m","input":"é😀é😀"}'.encode()


def test_large_integers_keep_all_their_digits():
    body = parse(b'{"model":"m","user":"u","seed":123456789012345678901234567890}')
    assert b"123456789012345678901234567890" in body.outbound


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"model=m", id="form"),
        pytest.param(b'{"model":"m"', id="cut"),
        pytest.param(b'{"model":"m"} {}', id="two values"),
        pytest.param(b'["model"]', id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"model":"m","x":NaN}', id="nan"),
        pytest.param(b'{"model":"m","x":-Infinity}', id="infinity"),
        pytest.param(b'{"model":"m","x":1e999}', id="overflow"),
        pytest.param(b'{"model":"m","x":' + b"9" * 100_000 + b"}", id="huge integer"),
        pytest.param(b'{"model":"m","model":"n"}', id="same key twice"),
        pytest.param(b'{"model":"m","x":[{"a":1,"a":2}]}', id="same key twice inside"),
        pytest.param(b'{"model":"m","x":"\xff"}', id="not utf-8"),
        pytest.param('{"model":"m"}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'\xef\xbb\xbf{"model":"m"}', id="byte order mark"),
        pytest.param(b'{"model":"m","x":"\\ud800"}', id="lone surrogate"),
        pytest.param(
            b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested beyond recursion"
        ),
        pytest.param(
            b'{"model":"m","x":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}", id="nested beyond bound"
        ),
        pytest.param(b'{"messages":[]}', id="no model"),
        pytest.param(b'{"model":""}', id="empty model"),
        pytest.param(b'{"model":["m"]}', id="model is a list"),
    ],
)
def test_a_body_that_cannot_be_paid_for_is_an_invalid_request(raw):
    with pytest.raises(InvalidRequest):
        parse(raw)


def test_nesting_up_to_the_bound_is_allowed():
    depth = MAX_DEPTH - 1
    raw = b'{"model":"m","x":' + b"[" * depth + b"]" * depth + b"}"
    assert parse(raw).outbound is raw


def test_a_missing_model_is_named_as_the_parameter():
    with pytest.raises(InvalidRequest) as caught:
        parse(b"{}")
    assert caught.value.param == "model"


@pytest.mark.parametrize("stream", ["1", '"true"', "false", "null"])
def test_only_true_is_a_wish_for_a_stream(stream):
    assert not parse(f'{{"model":"m","stream":{stream}}}'.encode()).stream


def test_neither_text_nor_bytes_show_in_the_repr():
    assert "secret" not in repr(parse(b'{"model":"m","input":"secret"}'))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_body_or_an_invalid_request(raw):
    with contextlib.suppress(InvalidRequest):
        assert parse(raw).model


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans())
def test_any_object_keeps_its_meaning(fields, private):
    given_fields = {**fields, "model": "m", **({"user": "me"} if private else {})}
    kept = {key: value for key, value in given_fields.items() if key not in ("user", "metadata")}
    body = parse(json.dumps(given_fields).encode())
    assert json.loads(body.outbound) == {
        key: value for key, value in kept.items() if key not in ("safety_identifier", "prompt_cache_key")
    }
