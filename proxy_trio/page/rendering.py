"""How pages look: templates, the words in them, and the headers that they go out with."""

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from otrta_core.amounts import format_sat
from proxy_trio.page.sessions import PAGE_PREFIX

_HERE: Final = Path(__file__).parent
ASSETS: Final[Mapping[str, str]] = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # with no-referrer a browser would hide from us, too, which page a form comes from
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_STATES: Final = {
    "in_flight": "on its way",
    "awaiting_change": "awaiting change",
    "disputed": "disputed",
    "done": "done",
    "refunded": "refunded",
    "lost": "lost",
}
_KINDS: Final = {
    "invoice": "Top-up",
    "receive": "Received token",
    "send": "Sent token",
    "pay": "Paid invoice",
    "reclaim": "Taken back",
    "restore": "Restored",
    "swap": "Mint's fee",
    "call": "Call",
}


class Pages:
    """Renders the page's templates."""

    def __init__(self) -> None:
        env = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        env.filters.update(
            sat=format_sat, when=_when, iso=_iso, state=_state, kind=_kind, count=_count, host=_host
        )
        self._assets = {name: (_HERE / "assets" / name).read_bytes() for name in ASSETS}
        env.globals["asset"] = self._asset_path
        self._templates = Jinja2Templates(env=env)

    def show(
        self, request: Request, template: str, values: Mapping[str, Any] | None = None, status: int = 200
    ) -> Response:
        """Render a page."""
        return self._templates.TemplateResponse(
            request, template, dict(values or {}), status, headers=dict(HEADERS)
        )

    def asset(self, name: str) -> Response | None:
        """Return the style sheet or the script; None for anything else."""
        data = self._assets.get(name)
        if data is None:
            return None
        # its path changes with what is in it
        headers = {**HEADERS, "Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, headers=headers, media_type=ASSETS[name])

    def _asset_path(self, name: str) -> str:
        digest = hashlib.sha256(self._assets[name]).hexdigest()[:12]
        return f"{PAGE_PREFIX}/assets/{name}?v={digest}"


def as_sentence(message: str) -> str:
    """Write an error's message as a sentence of a page; commands put it behind a colon."""
    text = message[:1].upper() + message[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _when(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).strftime("%d %b %Y, %H:%M:%S") if math.isfinite(unix_s) else "—"


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(timespec="seconds")


def _state(word: str) -> str:
    return _STATES.get(word, word)


def _kind(word: str) -> str:
    return _KINDS.get(word, word)


def _count(number: int) -> str:
    return f"{number:,}"


def _host(url: str) -> str:
    """A mint's or gateway's URL without its scheme."""
    return url.partition("://")[2] or url
