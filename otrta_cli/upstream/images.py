"""Images, made and edited: always the same one."""

import base64
from typing import Any, Literal

import anyio
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.routing import Route

from otrta_cli.upstream.behaviours import Behaviour
from otrta_cli.upstream.sending import CREATED, PROMPT_TOKENS, answering, json_of, plain, stated
from otrta_cli.upstream.uploads import Upload, form_of

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
INPUT_IMAGE_TOKENS = 90


class ImageRequest(BaseModel):
    """The part of a call for images that bears on the answer."""

    model: str
    prompt: str
    n: int | None = Field(default=None, ge=1, le=10)
    response_format: Literal["url", "b64_json"] | None = None

    @property
    def tokens(self) -> int:
        """What the prompt is counted as."""
        return PROMPT_TOKENS


class EditRequest(ImageRequest):
    """A call that edits images."""

    uploads: list[Upload] = Field(min_length=1)

    @property
    def tokens(self) -> int:
        """What the prompt and its images are counted as."""
        return PROMPT_TOKENS + INPUT_IMAGE_TOKENS * len(self.uploads)


def images_body(behaviour: Behaviour, request: ImageRequest) -> dict[str, Any]:
    """The whole answer to a call for images."""
    inline = {"b64_json": base64.b64encode(PIXEL).decode()}
    image = {"url": "https://images.example/pixel.png"} if request.response_format == "url" else inline
    parts = {"text_tokens": PROMPT_TOKENS, "image_tokens": request.tokens - PROMPT_TOKENS}
    usage = {
        "input_tokens": request.tokens,
        "input_tokens_details": parts,
        "output_tokens": 0,
        "total_tokens": request.tokens,
    }
    return {"created": CREATED, "data": [image] * (request.n or 1)} | stated(behaviour, usage)


async def _answer(behaviour: Behaviour, asked: ImageRequest) -> Response:
    await anyio.sleep(behaviour.word_s)
    return plain(behaviour, images_body(behaviour, asked))


ROUTES = [
    Route("/v1/images/generations", answering("images", json_of(ImageRequest), _answer), methods=["POST"]),
    Route("/v1/images/edits", answering("image_edits", form_of(EditRequest), _answer), methods=["POST"]),
]
