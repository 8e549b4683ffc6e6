"""Reranks, in the order in which the documents came, and moderations, which find nothing wrong."""

from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.sending import answering, json_of, plain

DOCUMENTS_PER_UNIT = 100

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


class RerankRequest(BaseModel):
    """The part of a rerank that bears on the answer."""

    model: str
    query: str
    documents: list[str | dict[str, Any]] = Field(min_length=1)
    top_n: int | None = Field(default=None, ge=1)


class ModerationRequest(BaseModel):
    """The part of a moderation that bears on the answer."""

    model: str
    input: str | list[str | dict[str, Any]]

    @property
    def results(self) -> int:
        """How many inputs are judged: parts are one together."""
        if isinstance(self.input, str) or not all(isinstance(each, str) for each in self.input):
            return 1
        return len(self.input)


def rerank_body(behaviour: Behaviour, request: RerankRequest) -> dict[str, Any]:
    """The whole answer to a rerank, billed as Cohere does it."""
    ranked = range(len(request.documents))[: request.top_n]
    results = [{"index": index, "relevance_score": round(1 / (index + 1), 6)} for index in ranked]
    body = {"id": f"rerank-{request.model}", "results": results}
    if behaviour.usage == "absent":
        return body
    units = -(-len(request.documents) // DOCUMENTS_PER_UNIT)
    billed = {"search_units": units} if behaviour.usage == "real" else None
    return body | {"meta": {"api_version": {"version": "2"}, "billed_units": billed}}


def moderation_body(request: ModerationRequest) -> dict[str, Any]:
    """The whole answer to a moderation."""
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.001),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    return {"id": f"modr-{request.model}", "model": request.model, "results": [result] * request.results}


async def _rerank(behaviour: Behaviour, asked: RerankRequest) -> Response:
    return plain(behaviour, rerank_body(behaviour, asked))


async def _moderate(behaviour: Behaviour, asked: ModerationRequest) -> Response:
    return plain(behaviour, moderation_body(asked))


_RERANK = answering("rerank", json_of(RerankRequest), _rerank)

ROUTES = [
    # LiteLLM puts Cohere's own version after the address that it is given
    *(Route(path, _RERANK, methods=["POST"]) for path in ("/v1/rerank", "/v2/rerank", "/v1/v2/rerank")),
    Route(
        "/v1/moderations",
        answering("moderations", json_of(ModerationRequest), _moderate),
        methods=["POST"],
    ),
]
