"""Embeddings: a text, texts, or token numbers; nothing is written back."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest
from otrta_core.requests.fields import Fields, check_fields, is_number, is_read, is_text, one_of
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.reading import are_token_ids, items_of, utf8

_SHAPE = "input must be a text, or a list of texts or of tokens"

FIELDS: Final[Fields] = {
    "model": is_read,
    "input": is_read,
    "encoding_format": one_of("float", "base64"),
    "dimensions": is_number,
    "input_type": is_text,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a call for embeddings.

    Raises:
        InvalidRequest: a wrong shape or type.
        UnsupportedParameter: a field that is not listed.
    """
    given = body.get("input")
    is_one = isinstance(given, str) or are_token_ids(given)
    texts = [given] if is_one else items_of(given, _SHAPE, "input")
    tokens = TOKENS_PER_REQUEST + sum(TOKENS_PER_MESSAGE + _tokens(text) for text in texts)
    check_fields(body, FIELDS)
    return Figures(prompt_tokens=tokens)


def _tokens(text: object) -> int:
    if isinstance(text, str):
        return utf8(text)
    if not are_token_ids(text):
        raise InvalidRequest(_SHAPE, param="input")
    return len(text)
