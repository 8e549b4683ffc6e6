"""Transcriptions: an audio file becomes text."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from otrta_core.errors import InvalidRequest
from otrta_core.requests.audio import most_seconds
from otrta_core.requests.fields import Fields, check_fields, is_flag, is_number, is_read, is_text, one_of
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.forms import FormFile
from otrta_core.requests.reading import text_bytes

FIELDS: Final[Fields] = {
    "model": is_read,
    "prompt": is_read,
    "language": is_text,
    "response_format": one_of("json", "text", "srt", "verbose_json", "vtt"),
    "temperature": is_number,
    "stream": is_flag,
    "chunking_strategy": one_of("auto"),
    "timestamp_granularities[]": lambda v: isinstance(v, list) and all(g in ("word", "segment") for g in v),
    "include[]": lambda v: v == ["logprobs"],
}


def read(body: Mapping[str, Any], files: Sequence[FormFile]) -> Figures:
    """Read the figures of a transcription.

    Raises:
        InvalidRequest: a wrong shape or type, or not exactly one file.
        UnsupportedParameter: a field that is not listed.
    """
    if len(files) != 1 or files[0].name != "file":
        raise InvalidRequest("file must be one audio file", param="file")
    check_fields(body, FIELDS)
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE + text_bytes(body, "prompt"),
        seconds=most_seconds(files[0]),
    )
