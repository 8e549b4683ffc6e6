"""How an operator's command reaches the gateway: through the running one, else through its store.

With LiteLLM's master key (``OTRTA_GATEWAY_KEY``) the running gateway is asked; where none listens, or there
is no key, the store is opened here, as one more worker on PostgreSQL, or alone on SQLite.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import click
import httpx
import structlog

from otrta_core import OtrtaError

DEFAULT_URL: Final = "http://127.0.0.1:4000"
KEY: Final = "OTRTA_GATEWAY_KEY"
TIMEOUT_S: Final = 180.0

_READS: Final = frozenset({"balance", "payments", "payouts"})


class GatewayFailed(OtrtaError):
    """The running gateway could not carry an action out; ``failed_code`` is its error's machine code."""

    code = "action_failed"

    def __init__(self, message: str, failed_code: str) -> None:
        super().__init__(message)
        self.failed_code = failed_code


@dataclass(frozen=True)
class GatewayLink:
    """Carries out an operator's actions.

    Attributes:
        url: where the gateway may listen.
        config: LiteLLM's config file, for the store's address.
    """

    url: str = DEFAULT_URL
    config: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def act(self, action: str, **asked: Any) -> Any:
        """Carry out an action of ``otrta_litellm.desk`` and return its answer.

        Raises:
            OtrtaError, click.ClickException: it could not be carried out; the message says what to do.
        """
        given = {name: value for name, value in asked.items() if value is not None}
        key = master_key(self.environ)
        if key is not None:
            try:
                return _ask(self.url, key, action, given)
            except httpx.ConnectError:
                pass  # nobody listens there
        return self._open_and_act(action, given, asked_running=key is not None)

    def _open_and_act(self, action: str, asked: Mapping[str, Any], *, asked_running: bool) -> Any:
        from otrta_cli.litellm_config import read_config
        from otrta_litellm.settings import load_settings

        settings = load_settings(read_config(self.config, self.environ).otrta, self.environ)
        try:
            return _on_the_store(settings, action, asked)
        except BaseExceptionGroup as group:
            ours = group.subgroup(OtrtaError)
            if ours is None:
                raise
            error = _first(ours)
            if error.code == "wallet_busy":
                raise click.ClickException(
                    f"a gateway has the store open, and none answers at {self.url}: name it by --url"
                    if asked_running
                    else f"a gateway has the store open: set {KEY} to LiteLLM's master key to ask it"
                ) from None
            raise error from None


def master_key(environ: Mapping[str, str]) -> str | None:
    """Return the key that the operator gave, as a variable or in a file; None where none was.

    Raises:
        click.ClickException: the file cannot be read.
    """
    if path := environ.get(f"{KEY}_FILE"):
        try:
            return Path(path).expanduser().read_text("utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            raise click.ClickException(f"{KEY}_FILE names a file that cannot be read") from None
    return environ.get(KEY) or None


def _ask(url: str, key: str, action: str, asked: Mapping[str, Any]) -> Any:
    """Ask a running gateway; httpx.ConnectError where there is none."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise click.UsageError("--url must be https:// where it leads elsewhere: the key would be readable.")
    place = f"{url.rstrip('/')}/v1/cashu/admin/{action}"
    reads = action in _READS
    query = f"?{urlencode(asked)}" if reads and asked else ""
    try:
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S, follow_redirects=False) as http:
            reply = http.request(
                "GET" if reads else "POST",
                place + query,
                json=None if reads else asked,
                headers={"Authorization": f"Bearer {key}"},
            )
        told = reply.json()
        error = told["error"] if reply.status_code != 200 else None
        if error is not None:
            raise GatewayFailed(str(error["message"]), str(error["code"]))
    except httpx.ConnectError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise GatewayFailed(
            f"the gateway at {url} did not answer ({type(error).__name__}); what it began goes on",
            "no_answer",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise GatewayFailed(f"what answers at {url} is no gateway of otrta", "no_answer") from None
    return told


def _on_the_store(settings: Any, action: str, asked: Mapping[str, Any]) -> Any:
    """Open the store as a gateway without a proxy does, and do one thing."""
    import anyio

    from otrta_cli.litellm_config import keep_litellm_quiet

    keep_litellm_quiet()
    from otrta_litellm.desk import Desk
    from otrta_litellm.gateway import Gateway
    from otrta_litellm.router_view import RouterView

    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gateway = Gateway(settings, RouterView(lambda: None), selling=False)

    async def work() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.run)
            answer = await Desk(gateway).do(action, asked)
            tasks.cancel_scope.cancel()
        return answer

    try:
        # as JSON, so that both ways give the same
        return json.loads(json.dumps(anyio.run(work)))
    finally:
        structlog.configure(**logs)


def _first(group: BaseExceptionGroup[OtrtaError]) -> OtrtaError:
    each = group.exceptions[0]
    return _first(each) if isinstance(each, BaseExceptionGroup) else each
