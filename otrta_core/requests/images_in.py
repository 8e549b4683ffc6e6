"""Pictures in a prompt: each counts as one image, whatever its size."""

from collections.abc import Mapping

_INLINE = "data:image/"
_FETCHED = ("https://", "http://")


def is_image_url(value: object) -> bool:
    """Tell whether this is the address of a picture, as chat completions and moderations write it.

    Other addresses than the web's and inline pictures can be videos, or files of the operator.
    """
    if isinstance(value, Mapping):
        if not value.keys() <= {"url", "detail"}:
            return False
        value = value.get("url")
    return is_picture_address(value)


def is_picture_address(value: object) -> bool:
    """Tell whether this text is an inline picture or an address in the web."""
    return isinstance(value, str) and value[:16].lower().startswith((_INLINE, *_FETCHED))


def is_anthropic_source(value: object) -> bool:
    """Tell whether this is where an Anthropic image block has its picture from."""
    if not isinstance(value, Mapping):
        return False
    if value.get("type") == "url":
        return value.keys() == {"type", "url"} and is_picture_address(value["url"])
    media = value.get("media_type")
    return (
        value.get("type") == "base64"
        and value.keys() == {"type", "media_type", "data"}
        and isinstance(media, str)
        and media.startswith("image/")
        and isinstance(value["data"], str)
    )
