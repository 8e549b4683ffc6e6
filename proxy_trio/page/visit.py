"""One visit of a page by who is logged in, and what stands around every view."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from otrta_core import OtrtaError
from proxy_trio.actions import act
from proxy_trio.client import Client
from proxy_trio.conversation import internal_failure, log_failure
from proxy_trio.errors import ForeignCaller, ForeignOrigin, MethodNotAllowed
from proxy_trio.page.forms import check_asker, read_form
from proxy_trio.page.rendering import HEADERS, Pages, as_sentence
from proxy_trio.page.sessions import PAGE_PREFIX, Session, Sessions

COOKIE: Final = "otrta_page"

_RUNNING: Final = ""


@dataclass(frozen=True, slots=True)
class Site:
    """What all pages work on."""

    client: Client
    sessions: Sessions
    pages: Pages


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of who is logged in.

    Attributes:
        form: what was sent with it; empty unless it is a POST.
        error: why what was asked for was not done.
    """

    site: Site
    request: Request
    session: Session
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    error: OtrtaError | None = None

    @property
    def client(self) -> Client:
        """The client whose page this is."""
        return self.site.client

    async def act(self, action: str, **params: Any) -> Any:
        """Carry out a wallet action, as the commands do; raises what ``actions.act`` raises."""
        return await act(self.client, action, params)

    def path(self, place: str = "") -> str:
        """Return the path of a page."""
        return f"{PAGE_PREFIX}/{self.session.key}/{place}"

    def name_of(self, quote_id: str) -> str:
        """Return the name that a mint's quote has in paths: its id could be worth its money."""
        name = hashlib.sha256(quote_id.encode()).hexdigest()[:20]
        self.session.quotes.put(name, quote_id)
        return name

    def show(self, template: str, *, here: str, **values: Any) -> Response:
        """Render a page of the wallet, below what the last form has to say."""
        common = {
            "base": self.path(),
            "here": here,
            "csrf": self.session.csrf,
            "once": secrets.token_urlsafe(12),
            "form": self.form,
            "error": None if self.error is None else as_sentence(self.error.message),
            "note": self.session.notes.pop("note", None),
        }
        status = 200 if self.error is None else self.error.http_status
        return self.site.pages.show(self.request, template, {**common, **values}, status)

    def go(self, place: str, note: str | None = None) -> Response:
        """Lead to another page, which says what was done."""
        if note is not None:
            self.session.notes.put("note", note)
        return lead_to(self.path(place))


View = Callable[[Visit], Awaitable[Response]]


def lead_to(path: str) -> Response:
    """Answer a form with the page to look at next."""
    return RedirectResponse(path, 303, headers=dict(HEADERS))


def page(site: Site, shown: View, done: View | None = None) -> Callable[[Request], Awaitable[Response]]:
    """Make the endpoint of a page.

    Args:
        site: what it works on.
        shown: makes the page; it shows ``visit.error`` and ``visit.form`` where a form was refused.
        done: carries its form out and leads elsewhere; None for a page without a form.
    """

    async def endpoint(request: Request) -> Response:
        try:
            check_asker(request)
        except ForeignCaller as error:
            return refused(site, request, error)
        session = site.sessions.find(request.path_params["key"], request.cookies.get(COOKIE))
        if session is None:
            return lead_to("/?over=1")
        visit = Visit(site, request, session)
        try:
            if request.method != "POST":
                return await shown(visit)
            return await _carry_out(visit, shown, done)
        except OtrtaError as error:
            return refused(site, request, error, visit.path())
        except Exception as error:
            log_failure("a request of the wallet page", error)
            return refused(site, request, internal_failure(), visit.path())

    return endpoint


async def _carry_out(visit: Visit, shown: View, done: View | None) -> Response:
    """Carry a form out once, however often it is sent; or show its page again with what is wrong."""
    if done is None:
        raise MethodNotAllowed("There is no form on this page.")
    form = await read_form(visit.request)
    if not visit.session.sent_by_itself(form.get("csrf", "")):
        raise _not_ours()
    once, results = form.get("once", ""), visit.session.done
    if not once:
        raise _not_ours()
    if once in results:
        return lead_to(results[once]) if results[once] else visit.go("", "That is being done already.")
    results.put(once, _RUNNING)
    visit = replace(visit, form=form)
    try:
        response = await done(visit)
    except OtrtaError as error:
        results.pop(once, None)
        return await shown(replace(visit, error=error))
    except BaseException:
        results.pop(once, None)
        raise
    results.put(once, response.headers.get("location", visit.path()))
    return response


def _not_ours() -> OtrtaError:
    return ForeignOrigin("This form is not of this session. Open the page again and repeat it.")


def refused(site: Site, request: Request, error: OtrtaError, base: str | None = None) -> Response:
    """Answer with a page that says what is wrong."""
    values = {"message": as_sentence(error.message), "base": base, "status": error.http_status}
    return site.pages.show(request, "refused.html", values, error.http_status)
