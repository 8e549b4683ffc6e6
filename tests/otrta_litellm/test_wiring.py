"""How the gateway gets into LiteLLM: first in line, or not at all."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from litellm.proxy._types import UserAPIKeyAuth
from starlette.middleware.cors import CORSMiddleware

from otrta_litellm import wiring
from otrta_litellm.admission import ADMISSION, Admission
from otrta_litellm.wiring import WiringError, install, run_at_shutdown

pytestmark = pytest.mark.anyio


AUTH = """
enterprise_custom_auth = None

async def user_api_key_auth_builder():
    return enterprise_custom_auth
"""


class Proxy:
    """As much of LiteLLM as the wiring looks at."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.add_middleware(CORSMiddleware)
        self.app.middleware_stack = self.app.build_middleware_stack()
        self.auth = ModuleType("auth")
        exec(AUTH, self.auth.__dict__)
        self.server: Any = SimpleNamespace(app=self.app)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Proxy:
    proxy = Proxy()
    monkeypatch.setattr(wiring, "_litellm", lambda: (proxy.server, proxy.auth))
    return proxy


def gate(app: Any) -> Any:
    return app


def outermost(app: FastAPI) -> Any:
    """What stands first behind the handling of errors that starlette and fastapi bring."""
    layer: Any = app.middleware_stack
    while type(layer).__module__.startswith(("starlette.middleware.errors", "fastapi.")):
        layer = layer.app
    return layer


def test_the_gate_stands_before_everything(proxy: Proxy) -> None:
    seen: list[Any] = []

    def factory(app: Any) -> Any:
        seen.append(app)
        return app

    install(factory)
    assert type(outermost(proxy.app)).__name__ == "_Outermost"
    assert isinstance(seen[-1], CORSMiddleware)


def test_who_builds_the_stack_anew_keeps_the_gate(proxy: Proxy) -> None:
    install(gate)
    proxy.app.middleware_stack = proxy.app.build_middleware_stack()
    assert type(outermost(proxy.app)).__name__ == "_Outermost"


def test_it_is_installed_once(proxy: Proxy) -> None:
    install(gate)
    with pytest.raises(WiringError, match="already"):
        install(gate)


def test_nothing_of_a_stranger_may_stand_before_the_gate(proxy: Proxy) -> None:
    class Stranger:
        def __init__(self, app: Any) -> None:
            self.app = app

    build = proxy.app.build_middleware_stack
    proxy.app.build_middleware_stack = lambda: Stranger(build())  # type: ignore[method-assign]
    with pytest.raises(WiringError, match="Stranger stands before the gate"):
        install(gate)


def test_an_app_that_does_not_take_the_gate_is_refused(proxy: Proxy) -> None:
    before = proxy.app.middleware_stack
    proxy.app.build_middleware_stack = lambda: before  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(WiringError):
        install(gate)


def test_without_httptools_it_is_refused(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WiringError, match="httptools"):
        install(gate)


@pytest.mark.parametrize("missing", ["enterprise_custom_auth", "user_api_key_auth_builder"])
def test_another_auth_than_the_one_known_is_refused(proxy: Proxy, missing: str) -> None:
    delattr(proxy.auth, missing)
    with pytest.raises(WiringError, match="enterprise_custom_auth"):
        install(gate)


async def test_who_is_not_admitted_is_left_to_litellm_and_its_operator(proxy: Proxy) -> None:
    install(gate)
    chained = proxy.auth.enterprise_custom_auth
    assert await chained(None, "sk", None) is None

    async def operators(request: object, api_key: str) -> UserAPIKeyAuth:
        return UserAPIKeyAuth(api_key=api_key, key_alias="operators")

    assert (await chained(None, "sk", operators)).key_alias == "operators"


async def test_litellms_own_enterprise_auth_is_asked_as_before(proxy: Proxy) -> None:
    async def enterprise(request: object, api_key: str, user_custom_auth: object) -> str:
        return f"enterprise {api_key}"

    proxy.auth.enterprise_custom_auth = enterprise  # type: ignore[attr-defined]
    install(gate)
    assert await proxy.auth.enterprise_custom_auth(None, "sk", None) == "enterprise sk"  # type: ignore[attr-defined]


async def test_who_is_admitted_gets_in_without_anybody_elses_word(proxy: Proxy) -> None:
    async def never(request: object, api_key: str) -> UserAPIKeyAuth:
        raise AssertionError

    install(gate)
    request = SimpleNamespace(scope={"path": "/v1/models", "query_string": b""})
    token = ADMISSION.set(Admission("free", "/v1/models"))
    try:
        found = await proxy.auth.enterprise_custom_auth(request, "", never)
    finally:
        ADMISSION.reset(token)
    assert found.key_alias == "otrta-free"


async def test_what_must_be_closed_is_closed_at_litellms_shutdown(proxy: Proxy) -> None:
    order: list[str] = []

    async def litellm_shutdown() -> None:
        order.append("litellm")

    async def close() -> None:
        order.append("ours")
        raise RuntimeError

    def startup() -> None:
        proxy_shutdown_event()  # type: ignore[name-defined]  # noqa: F821

    proxy.server.proxy_shutdown_event = litellm_shutdown
    proxy.server.proxy_startup_event = SimpleNamespace(__wrapped__=startup)
    run_at_shutdown(close)
    await proxy.server.proxy_shutdown_event()
    assert order == ["ours", "litellm"]


def test_a_litellm_without_that_step_is_refused(proxy: Proxy) -> None:
    proxy.server.proxy_startup_event = SimpleNamespace(__wrapped__=lambda: None)
    with pytest.raises(WiringError, match="proxy_shutdown_event"):
        run_at_shutdown(lambda: None)  # type: ignore[arg-type,return-value]
