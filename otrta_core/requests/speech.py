"""Speech: a text is read aloud."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.requests.fields import Fields, check_fields, is_number, is_read, is_text, one_of
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.reading import required_text, text_bytes

FIELDS: Final[Fields] = {
    "model": is_read,
    "input": is_read,
    "instructions": is_read,
    "voice": is_text,
    "response_format": one_of("mp3", "opus", "aac", "flac", "wav", "pcm"),
    "speed": is_number,
    "stream_format": one_of("audio", "sse"),
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a call for speech; a character is a Unicode code point.

    Raises:
        InvalidRequest: a wrong shape or type.
        UnsupportedParameter: a field that is not listed.
    """
    text = required_text(body, "input")
    check_fields(body, FIELDS)
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE + text_bytes(body, "input", "instructions"),
        characters=len(text),
    )
