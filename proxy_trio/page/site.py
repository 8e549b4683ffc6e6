"""The wallet page's addresses, and who gets behind its door."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from otrta_core import OtrtaError
from proxy_trio.app import landing
from proxy_trio.client import Client
from proxy_trio.errors import LocalTokenRequired, PathNotServed
from proxy_trio.page import book_views, gateway_views, limit_views, money_views
from proxy_trio.page.forms import check_asker, read_form
from proxy_trio.page.rendering import Pages
from proxy_trio.page.sessions import LONGEST_S, PAGE_PREFIX, Session, Sessions
from proxy_trio.page.visit import COOKIE, Site, View, Visit, lead_to, page, refused


def build_site(client: Client, sessions: Sessions) -> ASGIApp:
    """Build the page; reads and compiles what it needs from disk, so call it in a thread."""
    site = Site(client, sessions, Pages())

    def route(place: str, shown: View, done: View | None = None) -> Route:
        methods = ["GET"] if done is None else ["GET", "POST"]
        return Route(f"{PAGE_PREFIX}/{{key}}/{place}", page(site, shown, done), methods=methods)

    door = _Door(site)
    return Router(
        [
            Route("/", door.show),
            Route(f"{PAGE_PREFIX}/login", door.log_in, methods=["POST"]),
            Route(f"{PAGE_PREFIX}/open/{{code}}", door.open),
            Route(f"{PAGE_PREFIX}/assets/{{name}}", door.asset),
            route("", book_views.overview),
            route("activity", book_views.activity),
            route("pending", book_views.pending, book_views.recover),
            route("trust", book_views.pending, book_views.trust),
            route("connect", book_views.connect),
            route("topup", money_views.top_up, money_views.ask_for_invoice),
            route("invoice/{name}", money_views.invoice),
            route("invoice/{name}/state", money_views.invoice_state),
            route("receive", money_views.receive, money_views.take_token),
            route("send", money_views.send, money_views.make_token),
            route("sent/{id}", money_views.sent_token),
            route("sent/{id}/show", money_views.send, money_views.show_again),
            route("sent/{id}/cancel", money_views.send, money_views.take_back),
            route("pay", money_views.pay, money_views.ask_for_offer),
            route("pay/{name}", money_views.payment, money_views.pay_it),
            route("limits", limit_views.limits, limit_views.set_limits),
            route("pause", limit_views.limits, limit_views.pause),
            route("resume", limit_views.limits, limit_views.resume),
            route("approvals/{id}/approve", limit_views.limits, limit_views.approve),
            route("approvals/{id}/deny", limit_views.limits, limit_views.deny),
            route("keys", limit_views.limits, limit_views.add_key),
            route("key/{name}", limit_views.key),
            route("key/{name}/rotate", limit_views.limits, limit_views.rotate_key),
            route("key/{name}/remove", limit_views.limits, limit_views.remove_key),
            route("gateways", gateway_views.gateways, gateway_views.add_gateway),
            route("gateways/remove", gateway_views.gateways, gateway_views.remove_gateway),
            route("mints", gateway_views.gateways, gateway_views.add_mint),
            route("mints/remove", gateway_views.gateways, gateway_views.remove_mint),
            route("leave", book_views.overview, door.leave),
        ],
        redirect_slashes=False,
        default=door.not_found,
    )


class _Door:
    """What is seen without a session."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, request: Request) -> Response:
        """Ask a browser for the local token; tell a program what is served here."""
        if "text/html" not in request.headers.get("accept", ""):
            return await landing(request)
        return self._show(request)

    async def log_in(self, request: Request) -> Response:
        """Begin a session for who has the local token."""
        try:
            check_asker(request)
            form = await read_form(request)
        except OtrtaError as error:
            return refused(self._site, request, error)
        session = self._site.sessions.log_in(form.get("token", ""))
        if session is None:
            return self._show(request, LocalTokenRequired("That is not the local token of this run."))
        return _with_cookie(lead_to(_first_page(session)), session)

    async def open(self, request: Request) -> Response:
        """Begin a session for who has a one-time link, by a page that is ours.

        A browser may come from a file or from another program, and would not send the cookie along with a
        redirect then.
        """
        session = None
        if request.method == "GET":
            session = self._site.sessions.redeem(request.path_params["code"])
        if session is None:
            error = LocalTokenRequired("This link was used, or it is too old. `otrta page` makes another.")
            return self._show(request, error)
        response = self._site.pages.show(request, "opened.html", {"first_page": _first_page(session)})
        return _with_cookie(response, session)

    async def leave(self, visit: Visit) -> Response:
        """End the session."""
        self._site.sessions.end(visit.session)
        response = lead_to("/?over=1")
        response.delete_cookie(COOKIE, path=visit.path(), httponly=True, samesite="strict")
        return response

    async def asset(self, request: Request) -> Response:
        """Hand out the style sheet or the script."""
        found = self._site.pages.asset(request.path_params["name"])
        return self._no_page(request) if found is None else found

    async def not_found(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Say that there is no such page."""
        await self._no_page(Request(scope))(scope, receive, send)

    def _no_page(self, request: Request) -> Response:
        return refused(self._site, request, PathNotServed("There is no such page."))

    def _show(self, request: Request, error: OtrtaError | None = None) -> Response:
        values = {
            "error": None if error is None else error.message,
            "over": "over" in request.query_params,
            "home": str(self._site.client.home),
        }
        return self._site.pages.show(
            request, "door.html", values, 200 if error is None else error.http_status
        )


def _first_page(session: Session) -> str:
    return f"{PAGE_PREFIX}/{session.key}/"


def _with_cookie(response: Response, session: Session) -> Response:
    response.set_cookie(
        COOKIE,
        session.cookie,
        max_age=int(LONGEST_S),
        path=_first_page(session),
        httponly=True,
        samesite="strict",
    )
    return response
