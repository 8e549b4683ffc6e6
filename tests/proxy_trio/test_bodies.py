"""Bodies go on byte for byte, and what no gateway could read is refused before it is paid for."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import multipart
from otrta_core.errors import InvalidRequest, UnsupportedParameter
from otrta_core.requests import PayablePath
from proxy_trio.bodies import MAX_DEPTH, read_form, read_json

CHAT = PayablePath("chat")
TYPE = "multipart/form-data; boundary=B"


def parse(raw, **options):
    return read_json(raw, CHAT, **options)


def part(name, data=b"x", more=""):
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


SOUND = part("file", b"\x00\r\n--C\r\n\xff" * 300, '; filename="My Voice.mp3"\r\nContent-Type: audio/mpeg')


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
    assert body.request().model == "m"
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


def test_a_call_that_has_no_price_is_still_read_and_says_why_when_it_is_asked():
    body = read_json(b'{"model":"m","input":"hi","previous_response_id":"r"}', PayablePath("responses"))
    assert body.model == "m"
    for _ in range(2):
        with pytest.raises(UnsupportedParameter) as caught:
            body.request()
        assert caught.value.param == "previous_response_id"


def test_a_model_in_the_path_beats_that_of_the_body():
    raw = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    body = read_json(raw, PayablePath("chat", "n"))
    assert (body.model, body.request().model, body.outbound) == ("n", "n", raw)


def test_a_form_without_private_parts_goes_on_byte_for_byte():
    raw = b"\r\n" + part("model", b"m") + SOUND + part("stream", b"True") + b"--B--\r\nepilogue"
    body = read_form(TYPE, raw, PayablePath("transcriptions"))
    assert body.outbound is raw
    assert (body.model, body.stream) == ("m", True)
    assert body.request().seconds == -(-300 * 9 // 750)


@pytest.mark.parametrize("end", [b"--B--", b"--B--\r\n"])
@pytest.mark.parametrize("name", ["user", "metadata", "safety_identifier", "prompt_cache_key"])
def test_private_parts_are_cut_out_of_a_form_wherever_they_stand(name, end):
    private = [part(name), part(name, b""), part(name, b"a", '; filename="me"')]
    parts = [part("model", b"m"), SOUND]
    kept = b"".join(parts) + end
    for at in range(3):
        for cut in (private[0], private[1], private[2], b"".join(private)):
            raw = b"".join([*parts[:at], cut, *parts[at:]]) + end
            body = read_form(TYPE, raw, PayablePath("transcriptions"))
            assert body.outbound == kept
            assert body.request().seconds == 4


def test_a_boundary_inside_a_part_does_not_bring_a_private_one_through():
    raw = part("model", b"m\r\n--Bx") + part("user", b"me") + b"--B--\r\n"
    with pytest.raises(InvalidRequest):
        read_form(TYPE, raw, PayablePath("transcriptions"))


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        pytest.param(TYPE, b"", id="empty"),
        pytest.param(TYPE, b"{}", id="json"),
        pytest.param(TYPE, part("model", b"m"), id="cut"),
        pytest.param(TYPE, SOUND + b"--B--\r\n", id="no model"),
        pytest.param(TYPE, part("model", b"m") * 257 + b"--B--\r\n", id="too many parts"),
        pytest.param(TYPE, part("model", b"\xff") + b"--B--\r\n", id="not utf-8"),
        pytest.param("multipart/form-data", part("model", b"m") + b"--B--\r\n", id="no boundary"),
    ],
)
def test_a_form_that_cannot_be_read_is_an_invalid_request(content_type, raw):
    with pytest.raises(InvalidRequest):
        read_form(content_type, raw, PayablePath("transcriptions"))


def test_a_form_that_has_no_price_says_why_when_it_is_asked():
    raw = part("model", b"m") + part("image", b"x", '; filename="a.png"') + b"--B--\r\n"
    body = read_form(TYPE, raw, PayablePath("image_edits"))
    with pytest.raises(InvalidRequest, match="prompt"):
        body.request()


parts_of_forms = st.tuples(
    st.sampled_from(["model", "user", "metadata", "prompt", "file"]),
    st.sampled_from([b"", b"x", b"\r\n", b"--B", b"\r\n--", b"\r\n--B", b"\r\n--B\r\n", b"--B--"]),
    st.sampled_from(["", '; filename="a.wav"']),
)


@given(st.lists(parts_of_forms, max_size=6), st.sampled_from([b"--B--\r\n", b"--B--", b""]))
def test_what_goes_out_of_a_form_never_holds_a_private_part(parts, end):
    raw = b"".join(part(*each) for each in parts) + end
    with contextlib.suppress(InvalidRequest):
        body = read_form(TYPE, raw, PayablePath("transcriptions"))
        assert not {"user", "metadata"} & set(multipart.read_form(TYPE, body.outbound).names)
