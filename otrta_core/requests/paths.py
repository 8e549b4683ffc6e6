"""The paths that can be bought, with LiteLLM's aliases of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otrta_core.requests.kinds import Kind

PAYABLE_PATHS: Final[Mapping[str, Kind]] = {
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/completions": "completions",
    "/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/embeddings": "embeddings",
    "/v1/responses": "responses",
    "/responses": "responses",
    "/openai/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/images/generations": "images",
    "/images/generations": "images",
    "/v1/images/edits": "image_edits",
    "/images/edits": "image_edits",
    "/v1/audio/speech": "speech",
    "/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcriptions",
    "/audio/transcriptions": "transcriptions",
    "/v2/rerank": "rerank",
    "/v1/rerank": "rerank",
    "/rerank": "rerank",
    "/v1/moderations": "moderations",
    "/moderations": "moderations",
}
"""The fixed paths, by the kind of call that they take."""

_MODEL_PATHS: Final[tuple[tuple[str, str, Kind], ...]] = (
    # the longest ending first: "/completions" also ends "/chat/completions"
    ("/engines/", "/chat/completions", "chat"),
    ("/openai/deployments/", "/chat/completions", "chat"),
    ("/engines/", "/completions", "completions"),
    ("/openai/deployments/", "/completions", "completions"),
    ("/engines/", "/embeddings", "embeddings"),
    ("/openai/deployments/", "/embeddings", "embeddings"),
    ("/openai/deployments/", "/images/generations", "images"),
    ("/openai/deployments/", "/images/edits", "image_edits"),
)


@dataclass(frozen=True, slots=True)
class PayablePath:
    """What a path sells.

    Attributes:
        kind: which API.
        model: the model that the path names, which beats the body's; None where the body names it.
    """

    kind: Kind
    model: str | None = None


def find_payable(path: str) -> PayablePath | None:
    """Return what a path sells, or None.

    Args:
        path: decoded and without its query, as ASGI has it in a scope.
    """
    kind = PAYABLE_PATHS.get(path)
    if kind is not None:
        return PayablePath(kind)
    for start, end, alias in _MODEL_PATHS:
        if path.startswith(start) and path.endswith(end) and len(path) > len(start) + len(end):
            return PayablePath(alias, path[len(start) : -len(end)])
    return None
