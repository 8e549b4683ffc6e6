from typing import Any

import pytest

from otrta_core import CallRequest, InvalidRequest, UnsupportedParameter

BASE = 32 + 16


def complete(prompt: Any = "hi", **fields: Any) -> CallRequest:
    return CallRequest.parse("completions", {"model": "m", "prompt": prompt, **fields})


@pytest.mark.parametrize(
    ("prompt", "tokens", "choices"),
    [
        ("", BASE, 1),
        ("ä", BASE + 2, 1),
        (["a", "bc"], BASE + 16 + 3, 2),
        ([1, 2, 3], BASE + 3, 1),
        ([[1, 2], [3]], BASE + 16 + 3, 2),
        (["a", [1, 2]], BASE + 16 + 3, 2),
    ],
    ids=str,
)
def test_each_prompt_is_counted_and_answered(prompt: Any, tokens: int, choices: int) -> None:
    call = complete(prompt, n=3, max_tokens=7)
    assert (call.prompt_tokens, call.choices, call.output_limit) == (tokens, 3 * choices, 7)


def test_a_suffix_is_read_with_every_prompt() -> None:
    assert complete(["a", "b"], suffix="end").prompt_tokens == BASE + 16 + 2 + 2 * 3


def test_an_echoed_prompt_comes_back_with_every_choice() -> None:
    assert complete("abc", echo=True, n=2).echoed_tokens == 6
    assert complete(["abc", "d"], echo=True).echoed_tokens == 4
    assert complete([1, 2], echo=True).echoed_tokens == 2 * 128
    assert complete("abc", echo=False).echoed_tokens == complete("abc").echoed_tokens == 0


def test_best_of_is_sold_up_to_n() -> None:
    assert complete(n=3, best_of=3) == complete(n=3)
    for fields in ({"best_of": 2}, {"best_of": 4, "n": 3}):
        with pytest.raises(UnsupportedParameter) as caught:
            complete(**fields)
        assert caught.value.param == "best_of"
    with pytest.raises(InvalidRequest, match="best_of"):
        complete(best_of=-1)


def test_what_has_no_price_effect_passes() -> None:
    same = complete(
        logprobs=5, stop=["a"], seed=1, logit_bias={"5": -1}, temperature=0, stream_options={}, user="x"
    )
    assert same == complete()
    assert complete(stream=True).stream


@pytest.mark.parametrize(
    "prompt",
    [None, 5, True, [], {}, [None], [True], [-1], [1.5], [[]], [["a"]], [1, "a"], [[1, -1]]],
    ids=str,
)
def test_a_prompt_of_the_wrong_shape_is_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        complete(prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("fields", [{"suffix": 5}, {"echo": "yes"}, {"n": 0}, {"max_tokens": -1}], ids=str)
def test_fields_of_a_wrong_type_or_sign_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        complete(**fields)
    assert (caught.value.code, caught.value.param) == ("invalid_request", *fields)


@pytest.mark.parametrize(
    "name", ["messages", "tools", "max_completion_tokens", "service_tier", "use_beam_search"]
)
def test_fields_that_are_not_listed_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        complete(**{name: 5})
    assert caught.value.param == name
