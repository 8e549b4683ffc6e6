"""Text completions: one or several prompts, each answered ``n`` times."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest, UnsupportedParameter
from otrta_core.requests.fields import SAMPLING, STREAM, Fields, check_fields, is_flag, is_number, is_read
from otrta_core.requests.figures import (
    BYTES_PER_TOKEN_ID,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REQUEST,
    Figures,
)
from otrta_core.requests.reading import (
    MAX_CHOICES,
    are_token_ids,
    choices,
    items_of,
    output_limit,
    text_bytes,
    utf8,
    whole,
)

_SHAPE = "prompt must be a text, or a list of texts or of tokens"

FIELDS: Final[Fields] = {
    **SAMPLING,
    **STREAM,
    "model": is_read,
    "prompt": is_read,
    "suffix": is_read,
    "max_tokens": is_read,
    "n": is_read,
    "best_of": is_read,
    "echo": is_flag,
    "logprobs": is_number,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a text completion.

    Raises:
        InvalidRequest: a wrong shape, type or sign.
        UnsupportedParameter: a field whose price cannot be bounded, or ``best_of`` beyond ``n``.
    """
    given = body.get("prompt")
    is_one = isinstance(given, str) or are_token_ids(given)
    prompts = [given] if is_one else items_of(given, _SHAPE, "prompt")
    check_fields(body, FIELDS)
    n = choices(body)
    if (whole(body, "best_of", 1, MAX_CHOICES) or n) > n:
        # what is made and thrown away is billed all the same
        raise UnsupportedParameter("best_of has no price beyond n", param="best_of")
    sizes = [_size(prompt) for prompt in prompts]
    around = text_bytes(body, "suffix")
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + sum(TOKENS_PER_MESSAGE + tokens + around for tokens, _ in sizes),
        output_limit=output_limit(body, "max_tokens"),
        choices=n * len(prompts),
        echoed_tokens=n * sum(bytes_ for _, bytes_ in sizes) if body.get("echo") else 0,
    )


def _size(prompt: object) -> tuple[int, int]:
    """Return how many tokens a prompt can be, and how many when it comes back as text."""
    if isinstance(prompt, str):
        return utf8(prompt), utf8(prompt)
    if not are_token_ids(prompt):
        raise InvalidRequest(_SHAPE, param="prompt")
    return len(prompt), len(prompt) * BYTES_PER_TOKEN_ID
