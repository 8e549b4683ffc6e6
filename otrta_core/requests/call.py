"""A call as its quote sees it, whatever its kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from otrta_core.errors import InvalidRequest
from otrta_core.requests import (
    chat,
    completions,
    embeddings,
    images,
    messages,
    moderations,
    rerank,
    responses,
    speech,
    transcriptions,
)
from otrta_core.requests.figures import Figures
from otrta_core.requests.forms import FormFile, typed_fields
from otrta_core.requests.kinds import Kind

_READERS: Final[Mapping[Kind, Callable[[Mapping[str, Any]], Figures]]] = {
    "chat": chat.read,
    "completions": completions.read,
    "embeddings": embeddings.read,
    "responses": responses.read,
    "messages": messages.read,
    "images": images.read,
    "speech": speech.read,
    "rerank": rerank.read,
    "moderations": moderations.read,
}
_FORM_READERS: Final[Mapping[Kind, Callable[[Mapping[str, Any], Sequence[FormFile]], Figures]]] = {
    "image_edits": images.read_edit,
    "transcriptions": transcriptions.read,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest(Figures):
    """A call as its quote sees it.

    Attributes:
        kind: which API.
        model: the model's name.
        stream: whether the answer is a stream.
    """

    kind: Kind
    model: str
    stream: bool = False

    @classmethod
    def parse(cls, kind: Kind, body: object, *, model: str | None = None) -> Self:
        """Read a decoded JSON body.

        Args:
            kind: which API.
            body: as the caller sent it.
            model: the one that the path names, which beats the body's.

        Raises:
            InvalidRequest: not an object, or a field has the wrong type or sign.
            UnsupportedParameter: a field whose price cannot be bounded.
            RequestNotPriceable: it holds something whose price has no bound.
        """
        if not isinstance(body, Mapping):
            raise InvalidRequest("the body must be a JSON object")
        if kind not in _READERS:
            raise InvalidRequest("the body must be multipart/form-data")
        name, stream = _model(body, model), _stream(body)
        return cls(kind=kind, model=name, stream=stream, **asdict(_READERS[kind](body)))

    @classmethod
    def parse_form(
        cls,
        kind: Kind,
        fields: Iterable[tuple[str, str]],
        files: Sequence[FormFile],
        *,
        model: str | None = None,
    ) -> Self:
        """Read the parts of a multipart/form-data body.

        Args:
            kind: which API.
            fields: the texts, by name, in the order in which they came.
            files: the files.
            model: the one that the path names, which beats the form's.

        Raises:
            InvalidRequest, UnsupportedParameter, RequestNotPriceable: as for ``parse``.
        """
        if kind not in _FORM_READERS:
            raise InvalidRequest("the body must be a JSON object")
        body = typed_fields(
            fields, whole={"n", "output_compression"}, numbers={"temperature"}, flags={"stream"}
        )
        name, stream = _model(body, model), _stream(body)
        return cls(kind=kind, model=name, stream=stream, **asdict(_FORM_READERS[kind](body, files)))


def _model(body: Mapping[str, Any], named: str | None) -> str:
    model = body.get("model") if named is None else named
    if not isinstance(model, str) or not model or len(model) > 256 or not model.isprintable():
        raise InvalidRequest("model must be the name of one model", param="model")
    if "," in model:
        raise InvalidRequest("model must name one model: several cannot be bought at once", param="model")
    return model


def _stream(body: Mapping[str, Any]) -> bool:
    stream = body.get("stream")
    if not (stream is None or isinstance(stream, bool)):
        raise InvalidRequest("stream must be true or false", param="stream")
    return bool(stream)
