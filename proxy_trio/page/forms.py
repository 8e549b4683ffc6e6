"""Reading the page's own forms: bounded, from this page alone, each carried out once."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from otrta_core import InvalidRequest
from proxy_trio.errors import BodyTooLarge, ForeignOrigin

MAX_FORM_BYTES: Final = 2 << 20
_MAX_FIELDS: Final = 40
_FORM: Final = "application/x-www-form-urlencoded"


def check_asker(request: Request) -> None:
    """Refuse what another site, or a page of another port, makes a browser ask of us.

    The guard lets trusted origins in, since apps may call from there; the wallet page is not for them.

    Raises:
        ForeignOrigin: it is not the page's own doing.
    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}".lower()
    if site not in ("none", "same-origin") or (origin is not None and origin.lower() != own):
        raise ForeignOrigin("The wallet page takes orders from its own pages only.")
    if request.method == "POST" and origin is None and site != "same-origin":
        raise ForeignOrigin("Your browser does not say which page this comes from, so it was not done.")


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form; of a field that is there twice the last.

    Raises:
        BodyTooLarge: it is larger than ``MAX_FORM_BYTES``.
        InvalidRequest: it is not a form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise InvalidRequest("This is not one of the wallet page's forms.")
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_FORM_BYTES:
                raise BodyTooLarge(f"The form is larger than {MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise InvalidRequest("This is not one of the wallet page's forms.") from None
    return {name: value.strip() for name, value in fields}
