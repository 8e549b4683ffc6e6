"""The kinds of calls that can be bought, and how each bounds its output."""

from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal[
    "chat",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "images",
    "image_edits",
    "speech",
    "transcriptions",
    "rerank",
    "moderations",
]

OUTPUT_LIMIT_FIELD: Final[Mapping[Kind, str]] = {
    "chat": "max_tokens",
    "completions": "max_tokens",
    "responses": "max_output_tokens",
    "messages": "max_tokens",
}
"""The body field that caps the output, for the kinds whose caller can say how much comes back."""

OUTPUTLESS: Final[frozenset[Kind]] = frozenset({"embeddings", "rerank", "moderations"})
"""Kinds whose answer has no output tokens. What is in neither set makes as much as the model will."""

FORM_KINDS: Final[frozenset[Kind]] = frozenset({"image_edits", "transcriptions"})
"""Kinds whose body is multipart/form-data."""
