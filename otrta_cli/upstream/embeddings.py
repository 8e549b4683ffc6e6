"""Embeddings: the same vector for every text."""

import base64
import struct
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.sending import PROMPT_TOKENS, answering, json_of, plain, stated

EMBEDDING = (0.5, -0.25, 0.125, 0.0, 1.0, -1.0, 0.75, -0.5)


class EmbeddingRequest(BaseModel):
    """The part of an embeddings body that bears on the answer."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def inputs(self) -> int:
        """How many texts are embedded: a flat list of token numbers is one."""
        if isinstance(self.input, str) or any(isinstance(item, int) for item in self.input):
            return 1
        return len(self.input)


def embeddings_body(behaviour: Behaviour, request: EmbeddingRequest) -> dict[str, Any]:
    """The whole answer to an embeddings call: the same vector for every text."""
    packed = base64.b64encode(struct.pack(f"<{len(EMBEDDING)}f", *EMBEDDING)).decode()
    vector = packed if request.encoding_format == "base64" else list(EMBEDDING)
    body = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(request.inputs)],
        "model": request.model,
    }
    return body | stated(behaviour, {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS})


async def _answer(behaviour: Behaviour, asked: EmbeddingRequest) -> Response:
    return plain(behaviour, embeddings_body(behaviour, asked))


ROUTES = [
    Route("/v1/embeddings", answering("embeddings", json_of(EmbeddingRequest), _answer), methods=["POST"]),
]
