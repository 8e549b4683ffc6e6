"""The callback that LiteLLM's config names: ``callbacks: ["otrta_litellm.plugin.handler"]``.

LiteLLM imports this module while it starts. Importing it reads the settings, puts the gate before the whole
proxy and starts the gateway; anything wrong stops the start with one line.
"""

import asyncio
import contextlib

import litellm

from otrta_core import OtrtaError
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from otrta_litellm.observer import Observer
from otrta_litellm.router_view import RouterView
from otrta_litellm.settings import SettingsError, load_settings
from otrta_litellm.wiring import WiringError, install, refuse_start, run_at_shutdown
from otrta_wallet import WalletBusy

_tasks: set[asyncio.Task[None]] = set()


def _start() -> None:
    try:
        settings = load_settings((litellm.callback_settings or {}).get("otrta"))
        gateway = Gateway(settings, RouterView.of_proxy())
        install(lambda app: Gate(app, gateway))
        run_at_shutdown(_stop)
    except (SettingsError, WiringError) as error:
        refuse_start(str(error))
    _tasks.add(asyncio.get_running_loop().create_task(_run(gateway)))


async def _run(gateway: Gateway) -> None:
    try:
        await gateway.run()
    except WalletBusy:
        refuse_start(
            "another process has the gateway's store open: stop it, and start LiteLLM with one worker only"
        )
    except OtrtaError as error:
        refuse_start(error.message)
    except Exception as error:
        kind = type(error).__name__
        refuse_start(f"the gateway's store cannot be used ({kind}): check callback_settings.otrta.store")


async def _stop() -> None:
    for task in _tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


_start()
handler = Observer()
