"""Moderations: texts and pictures are classified; nothing is written back."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest, RequestNotPriceable
from otrta_core.requests.fields import Fields, check_fields, is_read
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.images_in import is_image_url
from otrta_core.requests.reading import items_of, utf8

FIELDS: Final[Fields] = {"model": is_read, "input": is_read}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a moderation.

    Raises:
        InvalidRequest: a wrong shape or type.
        UnsupportedParameter: a field that is not listed.
        RequestNotPriceable: an input that is neither text nor picture.
    """
    given = body.get("input")
    message = "input must be a text, or a list of texts or parts"
    inputs = [given] if isinstance(given, str) else items_of(given, message, "input")
    tokens, images = TOKENS_PER_REQUEST, 0
    for each in inputs:
        tokens += TOKENS_PER_MESSAGE
        if isinstance(each, str):
            tokens += utf8(each)
        elif not isinstance(each, Mapping):
            raise InvalidRequest(message, param="input")
        elif each.keys() == {"type", "text"} and each["type"] == "text" and isinstance(each["text"], str):
            tokens += utf8(each["text"])
        elif each.keys() == {"type", "image_url"} and is_image_url(each["image_url"]):
            images += 1
        else:
            raise RequestNotPriceable("only text and image_url parts have a price here", param="input")
    check_fields(body, FIELDS)
    return Figures(prompt_tokens=tokens, images=images)
