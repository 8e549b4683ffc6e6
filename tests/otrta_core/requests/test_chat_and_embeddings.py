import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_core import CallRequest, InvalidRequest, RequestNotPriceable, UnsupportedParameter, wire
from tests.otrta_core.strategies import chat_bodies, json_values

HELLO = [{"role": "user", "content": "hi"}]
BASE = 32 + 16


def chat(**fields: Any) -> CallRequest:
    return CallRequest.parse("chat", {"model": "demo-chat", "messages": HELLO, **fields})


def embed(value: Any) -> CallRequest:
    return CallRequest.parse("embeddings", {"model": "demo-embed", "input": value})


def tokens_of(message: dict[str, Any]) -> int:
    return chat(messages=[{"role": "user", **message}]).prompt_tokens


class TestChat:
    def test_a_plain_call_is_bounded_by_its_bytes(self) -> None:
        assert chat() == CallRequest(kind="chat", model="demo-chat", prompt_tokens=BASE + 2)

    @pytest.mark.parametrize(
        ("message", "tokens"),
        [
            ({"content": ""}, 0),
            ({"content": None}, 0),
            ({}, 0),
            ({"content": "ä€😀"}, 2 + 3 + 4),
            ({"content": "\ud800"}, 3),
            ({"content": [{"type": "text", "text": "abc"}, {"type": "refusal", "refusal": "no"}]}, 5),
            ({"content": "a", "name": "bob"}, 4),
            ({"content": "a", "name": None}, 1),
            ({"content": "a", "type": "message"}, 1),
            ({"content": "a", "type": "a type that is really a prompt"}, 31),
            ({"tool_calls": [{"id": "c"}]}, len('[{"id":"c"}]')),
            ({"reasoning_content": "because"}, 7),
        ],
        ids=str,
    )
    def test_everything_that_a_message_says_counts_by_the_byte(
        self, message: dict[str, Any], tokens: int
    ) -> None:
        assert tokens_of(message) == BASE + tokens

    def test_every_message_has_an_overhead(self) -> None:
        assert chat(messages=HELLO * 5).prompt_tokens == 32 + 5 * (16 + 2)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tools", [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
            ("functions", [{"name": "f", "description": "ä"}]),
            ("tool_choice", {"type": "function", "function": {"name": "f"}}),
            ("function_call", "auto"),
            ("response_format", {"type": "json_schema", "json_schema": {"schema": {}}}),
        ],
    )
    def test_schemas_count_by_the_byte(self, name: str, value: Any) -> None:
        size = len(value) if isinstance(value, str) else len(wire.compact_json(value).encode())
        assert chat(**{name: value}).prompt_tokens == BASE + 2 + size
        assert chat(**{name: None}) == chat()

    def test_images_are_counted_apart(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
        request = chat(
            messages=[{"role": "user", "content": [image, {"type": "text", "text": "what?"}, image]}]
        )
        assert (request.images, request.prompt_tokens) == (2, BASE + 5)

    @pytest.mark.parametrize(
        ("fields", "limit"),
        [
            ({}, None),
            ({"max_tokens": None}, None),
            ({"max_tokens": 5}, 5),
            ({"max_completion_tokens": 7}, 7),
            ({"max_tokens": 1, "max_completion_tokens": 20}, 20),
            ({"max_tokens": 20, "max_completion_tokens": 1, "max_output_tokens": 3}, 20),
        ],
        ids=str,
    )
    def test_the_largest_limit_counts(self, fields: dict[str, Any], limit: int | None) -> None:
        assert chat(**fields).output_limit == limit

    def test_choices_and_stream_are_read(self) -> None:
        request = chat(n=3, stream=True)
        assert (request.choices, request.stream) == (3, True)
        assert (chat(n=None, stream=None).choices, chat(stream=False).stream) == (1, False)

    @pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
    @pytest.mark.parametrize("value", [-1, -5000, 0, True, False, 1.0, 1e400, "5", [], {}, 10**9])
    def test_a_limit_that_is_not_a_whole_number_above_zero_is_refused(self, limit: str, value: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            chat(**{limit: value})
        assert (caught.value.param, caught.value.code) == (limit, "invalid_request")

    def test_a_bad_limit_is_refused_beside_a_good_one(self) -> None:
        with pytest.raises(InvalidRequest, match="max_completion_tokens"):
            chat(max_tokens=10, max_completion_tokens=-1)

    @pytest.mark.parametrize("n", [0, -1, 129, True, 2.0, "2", []])
    def test_a_number_of_choices_out_of_range_is_refused(self, n: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            chat(n=n)
        assert caught.value.param == "n"

    @pytest.mark.parametrize("stream", [1, 0, "true", [], {}])
    def test_a_stream_flag_that_is_not_one_is_refused(self, stream: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            chat(stream=stream)
        assert caught.value.param == "stream"

    @pytest.mark.parametrize(
        "messages",
        [
            5,
            None,
            "hi",
            [],
            {},
            {"role": "user"},
            [None],
            ["hi"],
            [[]],
            [{}],
            [{"content": "hi"}],
            [{"role": None, "content": "hi"}],
            [{"role": 5, "content": "hi"}],
            [{"role": "a role that is really a prompt", "content": ""}],
            [{"role": "user", "content": 5}],
            [{"role": "user", "content": True}],
            [{"role": "user", "content": {}}],
            [{"role": "user", "content": ["hi"]}],
            [{"role": "user", "content": [{"type": "text"}]}],
            [{"role": "user", "content": [{"type": "text", "text": 5}]}],
            [*HELLO, {"content": "no role"}],
        ],
        ids=str,
    )
    def test_messages_of_the_wrong_shape_are_refused(self, messages: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            chat(messages=messages)
        assert (type(caught.value), caught.value.param) == (InvalidRequest, "messages")

    @pytest.mark.parametrize("part", ["input_audio", "file", "video_url", "input_image", "thinking", None, 5])
    def test_parts_without_a_price_are_refused(self, part: Any) -> None:
        with pytest.raises(RequestNotPriceable):
            chat(messages=[{"role": "user", "content": [{"type": part, part: {}}]}])

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("audio", {"voice": "alloy"}),
            ("background", True),
            ("conversation", "conv_1"),
            ("enforce_validation", True),
            ("extra_body", {"max_tokens": 100_000}),
            ("modalities", ["text", "audio"]),
            ("prediction", {"type": "content", "content": "x"}),
            ("previous_response_id", "resp_1"),
            ("response_schema", {}),
            ("service_tier", "priority"),
            ("web_search_options", {}),
        ],
    )
    def test_fields_whose_price_has_no_bound_are_refused(self, name: str, value: Any) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            chat(**{name: value})
        assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")
        assert chat(**{name: None}) == chat()

    def test_text_is_the_one_modality(self) -> None:
        assert chat(modalities=["text"]) == chat()

    @pytest.mark.parametrize(
        "tool", [{"type": "web_search"}, {"type": "code_interpreter"}, {}, {"type": None}]
    )
    def test_hosted_tools_are_refused(self, tool: dict[str, Any]) -> None:
        with pytest.raises(UnsupportedParameter, match="type function"):
            chat(tools=[{"type": "function", "function": {"name": "f"}}, tool])

    @pytest.mark.parametrize("tools", [5, "x", {}, ["x"], [None]])
    def test_tools_of_the_wrong_shape_are_refused(self, tools: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            chat(tools=tools)
        assert caught.value.param == "tools"


class TestAnyCall:
    @pytest.mark.parametrize("body", [[], None, "text", 5, True, [{"model": "demo-chat"}]], ids=str)
    def test_a_body_that_is_not_an_object_is_refused(self, body: Any) -> None:
        for kind in ("chat", "embeddings"):
            with pytest.raises(InvalidRequest, match="JSON object"):
                CallRequest.parse(kind, body)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "model", [None, "", "a,b", ",", 5, [], ["a"], "x" * 257, "a\x00", "a\n", "\ud800"]
    )
    def test_a_model_that_is_not_one_name_is_refused(self, model: Any) -> None:
        for call in (
            lambda: chat(model=model),
            lambda: CallRequest.parse("embeddings", {"model": model, "input": "x"}),
        ):
            with pytest.raises(InvalidRequest) as caught:
                call()
            assert caught.value.param == "model"

    def test_a_body_without_a_model_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="model"):
            CallRequest.parse("chat", {"messages": HELLO})


class TestEmbeddings:
    @pytest.mark.parametrize(
        ("value", "tokens"),
        [
            ("hello", 48 + 5),
            ("", 48),
            (["ä", "bc"], 32 + 2 * 16 + 4),
            ([1, 2, 3], 48 + 3),
            ([[1, 2], [3]], 32 + 2 * 16 + 3),
            (["a", [1]], 32 + 2 * 16 + 2),
        ],
        ids=str,
    )
    def test_texts_count_by_the_byte_and_tokens_by_the_token(self, value: Any, tokens: int) -> None:
        assert embed(value) == CallRequest(kind="embeddings", model="demo-embed", prompt_tokens=tokens)

    @pytest.mark.parametrize(
        "value",
        [None, 5, True, [], {}, [None], [True], [-1], [1.5], [[]], [["a"]], [1, "a"], [[1, -1]], b"x"],
        ids=str,
    )
    def test_an_input_of_the_wrong_shape_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            embed(value)
        assert caught.value.param == "input"

    @pytest.mark.parametrize("name", ["max_tokens", "n", "stream_options", "tools"])
    def test_fields_of_other_kinds_are_refused(self, name: str) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            CallRequest.parse("embeddings", {"model": "demo-embed", "input": "a", name: 5})
        assert caught.value.param == name

    @pytest.mark.parametrize(
        "fields", [{"dimensions": 5}, {"encoding_format": "base64"}, {"input_type": "query"}], ids=str
    )
    def test_fields_without_a_price_effect_pass(self, fields: dict[str, Any]) -> None:
        assert CallRequest.parse("embeddings", {"model": "demo-embed", "input": "a", **fields}) == embed("a")


def test_the_bound_is_never_below_the_bytes_of_all_text_in_a_real_body() -> None:
    body = {
        "model": "demo-chat",
        "messages": [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": [{"type": "text", "text": "Größe?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}],
    }
    texts = ["Answer briefly.", "Größe?", "f", "{}", "call_1", "42", "f", "d"]
    assert CallRequest.parse("chat", body).prompt_tokens >= sum(len(text.encode()) for text in texts)


@given(chat_bodies, st.text(max_size=30))
def test_more_text_never_lowers_the_bound(body: dict[str, Any], text: str) -> None:
    longer = {**body, "messages": [*body["messages"], {"role": "user", "content": text}]}
    more = CallRequest.parse("chat", longer).prompt_tokens - CallRequest.parse("chat", body).prompt_tokens
    assert more == 16 + len(text.encode())


def test_a_body_nested_near_the_recursion_limit_is_read_or_refused() -> None:
    outcomes = set()
    for depth in range(800, 1100):
        text = (
            '{"model": "m", "messages": [{"role": "user", "tool_calls": ' + "[" * depth + "]" * depth + "}]}"
        )
        try:
            CallRequest.parse("chat", wire.from_json(text))
            outcomes.add("read")
        except (InvalidRequest, ValueError):
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_body_nested_too_deep_to_be_written_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(InvalidRequest, match="too deep"):
        chat(messages=[{"role": "user", "tool_calls": nested}])


names = [
    "model",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "tools",
    "max_tokens",
    "n",
    "stream",
    "input",
    "name",
]


@given(st.sampled_from(["chat", "embeddings"]), json_values(names))
def test_arbitrary_json_is_a_call_or_refused(kind: Any, body: Any) -> None:
    with suppress(InvalidRequest):
        assert CallRequest.parse(kind, json.loads(json.dumps(body))).prompt_tokens > 0


@given(chat_bodies, st.sampled_from(names), json_values(names))
def test_a_call_with_one_field_replaced_is_a_call_or_refused(body: Any, name: str, value: Any) -> None:
    with suppress(InvalidRequest):
        assert CallRequest.parse("chat", {**body, name: value}).prompt_tokens >= BASE
