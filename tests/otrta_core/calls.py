"""Calls of every kind as hypothesis draws them, and the usages that their bodies allow."""

import struct
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from otrta_core import CallRequest, ModelPrice, Usage
from otrta_core.requests import OUTPUT_LIMIT_FIELD, OUTPUTLESS, FormFile, Kind
from tests.otrta_core.strategies import chat_bodies

MODEL = "demo"
PICTURE = "https://example.com/a.png"
texts = st.text(max_size=60)
words = st.text(min_size=1, max_size=60)
token_ids = st.lists(st.integers(0, 200_000), min_size=1, max_size=20)
limits = st.integers(1, 20_000)
schemas = st.fixed_dictionaries({"type": st.just("object")}, optional={"description": texts})


def one_of(*fields: tuple[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=dict(fields))


def kinded(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


def body(required: Mapping[str, st.SearchStrategy[Any]], **optional: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"model": st.just(MODEL), **required}, optional=optional)


prompts = texts | token_ids | st.lists(texts | token_ids, min_size=1, max_size=4)
completions = body(
    {"prompt": prompts},
    suffix=texts,
    max_tokens=limits,
    n=st.integers(1, 8),
    best_of=st.just(1),
    echo=st.booleans(),
    logprobs=st.integers(0, 5),
    stream=st.booleans(),
)

embeddings = body({"input": prompts}, dimensions=st.integers(1, 3000))

_response_parts = st.lists(
    kinded("input_text", text=texts)
    | kinded("output_text", text=texts, annotations=st.lists(texts, max_size=2))
    | kinded("refusal", refusal=texts)
    | kinded("input_image", image_url=st.just(PICTURE), detail=st.just("high")),
    max_size=3,
)
_response_items = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]), "content": texts | _response_parts}
    ),
    kinded("message", role=st.just("assistant"), content=_response_parts, id=texts),
    kinded("function_call", call_id=texts, name=texts, arguments=texts),
    kinded("function_call_output", call_id=texts, output=texts | _response_parts),
    kinded("reasoning", id=texts, summary=st.lists(texts, max_size=2), encrypted_content=texts),
)
responses = body(
    {"input": texts | st.lists(_response_items, min_size=1, max_size=4)},
    instructions=texts,
    max_output_tokens=limits,
    tools=st.lists(kinded("function", name=texts, parameters=schemas), max_size=2),
    tool_choice=st.just("auto") | kinded("function", name=texts),
    text=st.fixed_dictionaries({"format": kinded("json_schema", name=texts, schema=schemas)}),
    reasoning=st.fixed_dictionaries({"effort": st.just("high")}),
    include=st.just(["reasoning.encrypted_content"]),
    stream=st.booleans(),
    background=st.just(False),
)

_leaves = kinded("text", text=texts) | st.just(
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
)
_documents = kinded(
    "document",
    source=kinded("text", media_type=st.just("text/plain"), data=texts)
    | kinded("content", content=texts | st.lists(_leaves, max_size=2)),
    title=texts,
)
_blocks = st.one_of(
    _leaves,
    _documents,
    kinded("text", text=texts, cache_control=st.just({"type": "ephemeral", "ttl": "1h"})),
    kinded("thinking", thinking=texts, signature=texts),
    kinded("redacted_thinking", data=texts),
    kinded("tool_use", id=texts, name=texts, input=schemas),
    kinded("tool_result", tool_use_id=texts, content=texts | st.lists(_leaves | _documents, max_size=2)),
)
messages = st.builds(
    lambda plain, thinking: plain | thinking,
    body(
        {
            "messages": st.lists(
                st.fixed_dictionaries(
                    {
                        "role": st.sampled_from(["user", "assistant"]),
                        "content": texts | st.lists(_blocks, max_size=3),
                    }
                ),
                min_size=1,
                max_size=3,
            )
        },
        system=texts | st.lists(kinded("text", text=texts), max_size=2),
        tools=st.lists(
            st.fixed_dictionaries({"name": texts, "input_schema": schemas}, optional={"description": texts}),
            max_size=2,
        ),
        tool_choice=st.sampled_from([{"type": "any"}, {"type": "auto"}]),
        output_config=st.fixed_dictionaries({"format": kinded("json_schema", schema=schemas)}),
        stream=st.booleans(),
    ),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"max_tokens": limits}),
        st.fixed_dictionaries({"max_tokens": limits, "thinking": kinded("enabled", budget_tokens=limits)}),
    ),
)

_image_fields = {
    "n": st.integers(1, 10),
    "size": st.sampled_from(["1024x1024", "auto"]),
    "quality": st.sampled_from(["hd", "high", "low"]),
}
images = body({"prompt": words}, **_image_fields, style=st.just("vivid"))
image_edits = body({"prompt": words}, **_image_fields | {"n": st.integers(1, 10).map(str)})
edit_files = st.lists(
    st.builds(FormFile, name=st.sampled_from(["image", "image[]"]), size=st.integers(0, 10**6)),
    min_size=1,
    max_size=3,
)

speech = body({"input": words}, instructions=texts, voice=st.just("alloy"))

transcriptions = body({}, prompt=texts, response_format=st.just("json"), temperature=st.just("0.2"))


def wav_head(*, rate: int = 16_000, channels: int = 1, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return (
        b"RIFF\xff\xff\xff\xffWAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * frame, frame, bits)
        + b"data\xff\xff\xff\xff"
    )


audio_files = st.builds(FormFile, name=st.just("file"), size=st.integers(0, 10**7)) | st.builds(
    FormFile,
    name=st.just("file"),
    filename=st.just("a.wav"),
    size=st.integers(100, 10**7),
    head=st.builds(wav_head, rate=st.sampled_from([8000, 44_100]), channels=st.integers(1, 2)),
)

rerank = body(
    {
        "query": words,
        "documents": st.lists(texts | st.fixed_dictionaries({"text": texts}), min_size=1, max_size=5),
    },
    top_n=st.integers(1, 3),
)
moderations = body(
    {
        "input": texts
        | st.lists(
            texts | kinded("text", text=texts) | kinded("image_url", image_url=st.just({"url": PICTURE})),
            min_size=1,
            max_size=4,
        )
    }
)

BODIES: Mapping[Kind, st.SearchStrategy[dict[str, Any]]] = {
    "chat": chat_bodies,
    "completions": completions,
    "embeddings": embeddings,
    "responses": responses,
    "messages": messages,
    "images": images,
    "speech": speech,
    "rerank": rerank,
    "moderations": moderations,
}
FORMS: Mapping[Kind, tuple[st.SearchStrategy[dict[str, Any]], st.SearchStrategy[list[FormFile]]]] = {
    "image_edits": (image_edits, edit_files),
    "transcriptions": (transcriptions, audio_files.map(lambda file: [file])),
}
KINDS: list[Kind] = [*BODIES, *FORMS]


def calls(kind: Kind) -> st.SearchStrategy[CallRequest]:
    """Calls of one kind, read from bodies as callers send them."""
    if kind in FORMS:
        fields, files = FORMS[kind]
        return st.builds(CallRequest.parse_form, st.just(kind), fields.map(lambda f: list(f.items())), files)
    return st.builds(CallRequest.parse, st.just(kind), BODIES[kind])


def most_output(price: ModelPrice, call: CallRequest, default: int = 1024) -> int:
    """The most output tokens that a call can have."""
    if call.kind in OUTPUTLESS:
        return 0
    if call.kind not in OUTPUT_LIMIT_FIELD:
        return call.choices * (10**6 if price.max_output_tokens is None else price.max_output_tokens)
    limit = default if call.output_limit is None else call.output_limit
    if price.max_output_tokens is not None:
        limit = min(limit, price.max_output_tokens)
    return limit * call.choices + call.echoed_tokens


def most_prompt(price: ModelPrice, call: CallRequest) -> int:
    """The most prompt tokens that a call can have."""
    audio = (price.max_input_tokens or 10**6) if call.kind == "transcriptions" else 0
    return call.prompt_tokens + call.images * (price.image_input_tokens or 0) + audio


def largest_usage(price: ModelPrice, call: CallRequest) -> Usage:
    """All of everything that the body of a call allows, in plain tokens."""
    return Usage(
        prompt_tokens=most_prompt(price, call),
        completion_tokens=most_output(price, call),
        images=call.images_made,
        characters=call.characters,
        seconds=call.seconds,
        search_units=call.search_units,
    )


@st.composite
def allowed_usages(draw: st.DrawFn, price: ModelPrice, call: CallRequest, default: int = 1024) -> Usage:
    """Any usage that the body of a call allows."""

    def up_to(most: int) -> int:
        # the bound itself is what a quote has to cover, so it is drawn often
        return draw(st.just(most) | st.integers(0, most))

    prompt = up_to(most_prompt(price, call))
    output = up_to(most_output(price, call, default))
    cached = up_to(prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=up_to(prompt - cached),
        reasoning_tokens=up_to(output),
        images=up_to(call.images_made),
        characters=up_to(call.characters),
        seconds=up_to(call.seconds),
        search_units=up_to(call.search_units),
    )
