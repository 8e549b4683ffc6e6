"""What holds for every kind of call."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import CallRequest, InvalidRequest, UnsupportedParameter
from otrta_core.requests import FormFile, Kind
from tests.otrta_core.calls import BODIES, FORMS
from tests.otrta_core.strategies import json_values

NAMES = [
    *(
        "model",
        "messages",
        "input",
        "prompt",
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "source",
        "data",
    ),
    *("tools", "name", "thinking", "query", "documents", "n", "max_tokens", "max_output_tokens", "best_of"),
    *("echo", "suffix", "system", "stream", "output", "size", "voice"),
]
any_kind = st.sampled_from(list(BODIES))


@given(any_kind, json_values(NAMES))
def test_arbitrary_json_is_a_call_or_refused(kind: Kind, body: Any) -> None:
    with suppress(InvalidRequest):
        assert CallRequest.parse(kind, json.loads(json.dumps(body))).prompt_tokens > 0


@given(st.data(), any_kind, st.sampled_from(NAMES), json_values(NAMES))
def test_a_call_with_one_field_replaced_is_a_call_or_refused(
    data: st.DataObject, kind: Kind, name: str, value: Any
) -> None:
    with suppress(InvalidRequest):
        call = CallRequest.parse(kind, {**data.draw(BODIES[kind]), name: value})
        assert call.prompt_tokens >= 32
        assert call.choices >= 1


@given(
    st.sampled_from(list(FORMS)),
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), st.text(max_size=8)), max_size=6),
    st.lists(
        st.builds(FormFile, name=st.sampled_from(["file", "image", "mask"]), size=st.integers(0, 10**6)),
        max_size=3,
    ),
)
def test_an_arbitrary_form_is_a_call_or_refused(
    kind: Kind, pairs: list[tuple[str, str]], files: list[FormFile]
) -> None:
    with suppress(InvalidRequest):
        assert CallRequest.parse_form(kind, [("model", "m"), ("prompt", "p"), *pairs], files).model == "m"


@pytest.mark.parametrize("kind", BODIES)
@given(st.data(), st.text(min_size=1, max_size=8))
def test_a_field_nobody_knows_is_refused_unless_it_says_nothing(
    kind: Kind, data: st.DataObject, name: str
) -> None:
    body = data.draw(BODIES[kind])
    call = CallRequest.parse(kind, body)
    assert CallRequest.parse(kind, {**body, f"x-{name}": None}) == call
    with pytest.raises(UnsupportedParameter):
        CallRequest.parse(kind, {**body, f"x-{name}": 1})


@pytest.mark.parametrize("kind", BODIES)
@given(st.data())
def test_fields_that_only_steer_change_nothing(kind: Kind, data: st.DataObject) -> None:
    body = data.draw(BODIES[kind])
    steered = {**body, "user": "bob", "metadata": {"a": 1}, "timeout": 5, "store": True}
    assert CallRequest.parse(kind, steered) == CallRequest.parse(kind, body)
