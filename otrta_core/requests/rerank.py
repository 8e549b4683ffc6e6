"""Rerank: every document is read together with the query."""

from collections.abc import Mapping
from typing import Any, Final

from otrta_core.errors import InvalidRequest
from otrta_core.requests.fields import Fields, check_fields, is_flag, is_number, is_read
from otrta_core.requests.figures import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, Figures
from otrta_core.requests.reading import items_of, json_bytes, required_text, utf8

MAX_DOCUMENTS: Final = 10_000
CHUNKS_PER_UNIT: Final = 100
TOKENS_PER_CHUNK: Final = 250
"""Cohere bills a search unit per 100 pieces of document.

A piece has 500 tokens, of which the query takes half at most.
"""

FIELDS: Final[Fields] = {
    "model": is_read,
    "query": is_read,
    "documents": is_read,
    "top_n": is_number,
    "return_documents": is_flag,
    "max_chunks_per_doc": is_number,
    "max_tokens_per_doc": is_number,
}


def read(body: Mapping[str, Any]) -> Figures:
    """Read the figures of a rerank: the query with every document, and the search units that they can be.

    Raises:
        InvalidRequest: a wrong shape or type, or too many documents.
        UnsupportedParameter: a field that is not listed.
    """
    query = utf8(required_text(body, "query"))
    documents = items_of(body.get("documents"), "documents must be a list of texts or objects", "documents")
    if len(documents) > MAX_DOCUMENTS:
        raise InvalidRequest(f"send at most {MAX_DOCUMENTS} documents", param="documents")
    sizes = [_size(document) for document in documents]
    check_fields(body, FIELDS)
    chunks = sum(max(1, -(-size // TOKENS_PER_CHUNK)) for size in sizes)
    return Figures(
        prompt_tokens=TOKENS_PER_REQUEST + sum(TOKENS_PER_MESSAGE + query + size for size in sizes),
        search_units=-(-chunks // CHUNKS_PER_UNIT),
    )


def _size(document: object) -> int:
    if not isinstance(document, str | Mapping):
        raise InvalidRequest("each document must be a text or an object", param="documents")
    return json_bytes(document)
