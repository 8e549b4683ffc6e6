"""How the gateway gets into a LiteLLM proxy that only names our callback in its config.

LiteLLM imports the callback inside its app's lifespan, when the middleware stack is built already and
requests are not yet served. The gate is put before LiteLLM's own middleware and the stack is built again.
Admitted calls pass auth through LiteLLM's enterprise hook, which is asked first on every request and, on
None, leaves the operator's own ``custom_auth`` and LiteLLM's keys exactly as they were. Setting
``user_custom_auth`` instead would switch off the budget and model checks of every LiteLLM key
(``custom_auth_run_common_checks``), and config loading would overwrite it.
"""

import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from types import CodeType, ModuleType
from typing import Any

import structlog
from fastapi import FastAPI, Request
from litellm.proxy._types import UserAPIKeyAuth
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from otrta_litellm.admission import custom_auth

_log = structlog.get_logger(__name__)

_MAY_STAND_OUTSIDE = ("starlette.", "fastapi.", "opentelemetry.")


_KEY_VARIABLES = ("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY")


class WiringError(Exception):
    """This LiteLLM is not built the way the gateway needs; the message says what is missing."""


class BuiltOtherwise(WiringError):
    """A part of LiteLLM is not where the gateway could guard it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: this LiteLLM cannot be guarded. Take out what changes its app, or install the version "
            "that otrta[gateway] names."
        )


def install(gate_factory: Callable[[ASGIApp], ASGIApp]) -> None:
    """Put the gate before everything in LiteLLM's app, and let admitted calls through its auth.

    Call it once, while LiteLLM imports the callback. ``gate_factory`` gets LiteLLM's app and returns the
    gate; it is called again if someone rebuilds the middleware stack, so state belongs to the caller, not to
    the gate.

    Raises:
        WiringError: nothing may be served then, as the gate would not stand before every path.
    """
    proxy_server, litellm_auth = _litellm()
    if importlib.util.find_spec("httptools") is None:
        raise WiringError(
            "httptools is missing: without it uvicorn cuts off tokens above 16 kB. Install otrta[gateway]."
        )
    app: FastAPI = proxy_server.app
    if any(getattr(entry, "cls", None) is _Outermost for entry in app.user_middleware):
        raise WiringError(
            "The gateway is installed already: name its callback once in litellm_settings.callbacks."
        )
    _chain_auth(litellm_auth)
    app.user_middleware.insert(0, Middleware(_Outermost, gate_factory=gate_factory))
    app.middleware_stack = app.build_middleware_stack()
    _require_outermost(app.middleware_stack)


def run_at_shutdown(close: Callable[[], Awaitable[None]]) -> None:
    """Await ``close`` when LiteLLM shuts down, after its requests are drained.

    Neither ``atexit`` nor a background task's ``finally`` would do: uvicorn raises the signal again as soon
    as the lifespan has ended. An exception in ``close`` is logged and does not keep LiteLLM from shutting
    down.

    Raises:
        WiringError: LiteLLM's lifespan has no such step.
    """
    proxy_server, _ = _litellm()
    lifespan = getattr(proxy_server.proxy_startup_event, "__wrapped__", None)
    if not _calls_global(lifespan, "proxy_shutdown_event"):
        raise BuiltOtherwise("LiteLLM's lifespan does not call proxy_shutdown_event")
    litellm_shutdown: Callable[..., Awaitable[None]] = proxy_server.proxy_shutdown_event

    async def shutdown(*args: Any, **kwargs: Any) -> None:
        try:
            await close()
        except Exception as error:
            _log.error("gateway_close_failed", error=type(error).__name__)
        await litellm_shutdown(*args, **kwargs)

    proxy_server.proxy_shutdown_event = shutdown


def master_key() -> str | None:
    """LiteLLM's master key, as it is now; None where it has none."""
    key = getattr(_litellm()[0], "master_key", None)
    return key if isinstance(key, str) and key else None


def keys_to_hide() -> list[str]:
    """Return what opens everything in this proxy: LiteLLM's master key and salt, as far as they are set."""
    proxy_server = sys.modules.get("litellm.proxy.proxy_server")
    found = [getattr(proxy_server, "master_key", None), *map(os.environ.get, _KEY_VARIABLES)]
    return [key for key in found if isinstance(key, str) and key]


def _litellm() -> tuple[Any, ModuleType]:
    """LiteLLM's application and auth; the import builds the whole application, hence not at the top."""
    from litellm.proxy import proxy_server
    from litellm.proxy.auth import user_api_key_auth

    return proxy_server, user_api_key_auth


class _Outermost:
    """The gate's place in the stack, recognisable whatever the factory returns."""

    def __init__(self, app: ASGIApp, gate_factory: Callable[[ASGIApp], ASGIApp]) -> None:
        self.gate = gate_factory(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate(scope, receive, send)


def _require_outermost(stack: ASGIApp | None) -> None:
    layer: object = stack
    while layer is not None and not isinstance(layer, _Outermost):
        if not type(layer).__module__.startswith(_MAY_STAND_OUTSIDE):
            raise BuiltOtherwise(f"{type(layer).__qualname__} stands before the gate")
        layer = getattr(layer, "app", None)
    if layer is None:
        raise BuiltOtherwise("LiteLLM's app did not take the gate into its middleware stack")


def _chain_auth(auth: ModuleType) -> None:
    """Ask our ``custom_auth`` first, then whatever LiteLLM would have asked."""
    builder = getattr(auth, "user_api_key_auth_builder", None)
    if not _calls_global(builder, "enterprise_custom_auth") or not hasattr(auth, "enterprise_custom_auth"):
        raise BuiltOtherwise("LiteLLM's auth does not ask enterprise_custom_auth")
    enterprise = auth.enterprise_custom_auth

    async def admitted_or_litellm(
        request: Request, api_key: str, user_custom_auth: Callable[..., Awaitable[object]] | None
    ) -> object:
        admitted = await custom_auth(request, api_key)
        if admitted is not None:
            return admitted
        if enterprise is not None:
            return await enterprise(request=request, api_key=api_key, user_custom_auth=user_custom_auth)
        if user_custom_auth is not None:
            return UserAPIKeyAuth.model_validate(await user_custom_auth(request=request, api_key=api_key))
        return None

    setattr(auth, "enterprise_custom_auth", admitted_or_litellm)  # noqa: B010 - a module attribute, not ours


def _calls_global(function: object, name: str) -> bool:
    """Whether a function looks ``name`` up among its module's globals each time it runs."""
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and name in _names(code)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
