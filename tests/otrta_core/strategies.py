"""What hypothesis draws for the core: JSON values, prices, usage and chat requests."""

from typing import Any

from hypothesis import strategies as st

from otrta_core import ModelPrice, Usage

json_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20)
)


def json_values(keys: list[str], leaves: st.SearchStrategy[Any] = json_leaves) -> st.SearchStrategy[Any]:
    """Values of JSON's shapes whose objects often carry one of ``keys``."""
    names = st.sampled_from(keys) | st.text(max_size=4)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
        max_leaves=25,
    )


rates = st.integers(0, 10**10)
maybe_rates = st.none() | rates
counts = st.integers(0, 10**6)


@st.composite
def prices(draw: st.DrawFn) -> ModelPrice:
    return ModelPrice(
        input_msat_per_mtok=draw(rates),
        output_msat_per_mtok=draw(rates),
        cached_input_msat_per_mtok=draw(maybe_rates),
        cache_write_msat_per_mtok=draw(maybe_rates),
        reasoning_msat_per_mtok=draw(maybe_rates),
        request_msat=draw(st.integers(0, 10**5)),
        image_msat=draw(maybe_rates),
        image_input_tokens=draw(st.none() | st.integers(0, 5000)),
        character_msat_per_million=draw(maybe_rates),
        second_msat=draw(maybe_rates),
        max_input_tokens=draw(st.none() | st.integers(1, 10**5)),
        max_output_tokens=draw(st.none() | st.integers(1, 10**5)),
        min_msat=draw(st.none() | st.integers(0, 10**6)),
        max_msat=draw(st.none() | st.integers(0, 10**9)),
    )


@st.composite
def usages(draw: st.DrawFn, prompt: int = 10**6, completion: int = 10**6) -> Usage:
    """A usage whose parts lie within their wholes."""
    prompt_tokens = draw(st.integers(0, prompt))
    completion_tokens = draw(st.integers(0, completion))
    cached = draw(st.integers(0, prompt_tokens))
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached,
        cache_write_tokens=draw(st.integers(0, prompt_tokens - cached)),
        reasoning_tokens=draw(st.integers(0, completion_tokens)),
    )


_text_part = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=40)})
_image_part = st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
_content = st.none() | st.text(max_size=60) | st.lists(_text_part | _image_part, max_size=3)
_message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": _content},
    optional={"name": st.text(max_size=10), "tool_call_id": st.text(max_size=10)},
)
_tool = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": st.text(max_size=20)})}
)
_limit = st.integers(1, 20_000)

chat_bodies = st.fixed_dictionaries(
    {"model": st.just("demo-chat"), "messages": st.lists(_message, min_size=1, max_size=4)},
    optional={
        "max_tokens": _limit,
        "max_completion_tokens": _limit,
        "n": st.integers(1, 8),
        "tools": st.lists(_tool, max_size=2),
        "stream": st.booleans(),
    },
)
