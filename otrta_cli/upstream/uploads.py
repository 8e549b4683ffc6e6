"""Calls that come as forms."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import Request

from otrta_cli.upstream.calls import keep

AnyModel = TypeVar("AnyModel", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a call."""

    field: str
    filename: str
    media_type: str
    content: bytes


def form_of(asked: type[AnyModel]) -> Callable[[Request], Awaitable[AnyModel]]:
    """A reader of forms; it finds the files as ``uploads``, and each text by its name without ``[]``."""

    async def read(request: Request) -> AnyModel:
        texts: dict[str, str | list[str]] = {}
        uploads: list[Upload] = []
        async with request.form() as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    media_type = value.content_type or ""
                    uploads.append(Upload(name, value.filename or "", media_type, await value.read()))
                elif name.endswith("[]"):
                    texts[name[:-2]] = [*texts.get(name[:-2], []), value]
                else:
                    texts[name] = value
        files = [
            {"field": u.field, "filename": u.filename, "media_type": u.media_type, "bytes": len(u.content)}
            for u in uploads
        ]
        keep(request, dict(texts), {**texts, "files": files})
        return asked.model_validate({**texts, "uploads": uploads})

    return read
