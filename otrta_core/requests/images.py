"""Making images, and editing them.

The price of one is the model's for its dearest size and quality, so those are bound to what providers list.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from otrta_core.errors import InvalidRequest, RequestNotPriceable
from otrta_core.requests.fields import Fields, check_fields, is_number, is_off, is_read, one_of
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.forms import FormFile
from otrta_core.requests.reading import choices, required_text, utf8

SIZES: Final = (
    "auto",
    "256x256",
    "512x512",
    "1024x1024",
    "1024x1536",
    "1536x1024",
    "1024x1792",
    "1792x1024",
)
MAX_INPUT_IMAGES: Final = 64

_COMMON: Final[Fields] = {
    "model": is_read,
    "prompt": is_read,
    "n": is_read,
    "size": one_of(*SIZES),
    "quality": one_of("auto", "standard", "hd", "low", "medium", "high"),
    "background": one_of("auto", "transparent", "opaque"),
    "response_format": one_of("url", "b64_json"),
    "output_format": one_of("png", "jpeg", "webp"),
    "output_compression": is_number,
    "stream": is_off,  # a stream's partial images are billed beside the image itself
}
FIELDS: Final[Fields] = {
    **_COMMON,
    "style": one_of("vivid", "natural"),
    "moderation": one_of("auto", "low"),
}
EDIT_FIELDS: Final[Fields] = {
    **_COMMON,
    "input_fidelity": one_of("low"),  # a high one counts an image as several times its tokens
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a call that makes images.

    Raises:
        InvalidRequest: a wrong shape, type or sign.
        UnsupportedParameter: a field, size or quality whose price cannot be bounded.
    """
    prompt = required_text(body, "prompt")
    check_fields(body, FIELDS)
    return _figures(prompt, choices(body), 0)


def read_edit(body: Mapping[str, Any], files: Sequence[FormFile]) -> Figures:
    """Read the figures of a call that edits images; a mask counts as an image.

    Raises:
        InvalidRequest: a wrong shape, type or sign, or no image.
        UnsupportedParameter: a field, size or quality whose price cannot be bounded.
        RequestNotPriceable: files that are not images to edit.
    """
    prompt = required_text(body, "prompt")
    check_fields(body, EDIT_FIELDS)
    if not any(file.name in ("image", "image[]") for file in files):
        raise InvalidRequest("image must be a file", param="image")
    if len(files) > MAX_INPUT_IMAGES or any(f.name not in ("image", "image[]", "mask") for f in files):
        raise RequestNotPriceable(f"send at most {MAX_INPUT_IMAGES} images and a mask", param="image")
    return _figures(prompt, choices(body), len(files))


def _figures(prompt: str, n: int, images: int) -> Figures:
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE + utf8(prompt),
        images=images,
        choices=n,
        images_made=n,
    )
