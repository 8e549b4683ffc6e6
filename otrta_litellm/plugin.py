"""The callback that LiteLLM's config names: ``callbacks: ["otrta_litellm.plugin.handler"]``.

LiteLLM imports this module while it starts. Importing it reads the settings, puts the gate before the whole
proxy and starts the gateway; anything wrong stops the start with one line.
"""

import asyncio
import contextlib
import os
from typing import Final

import litellm

from otrta_core import OtrtaError
from otrta_litellm import logs
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from otrta_litellm.observer import Observer
from otrta_litellm.router_view import RouterView
from otrta_litellm.setting_faults import name_of
from otrta_litellm.settings import SettingsError, load_settings
from otrta_litellm.supervisor import end_with_supervisor, refuse_start
from otrta_litellm.wiring import WiringError, install, keys_to_hide, master_key, run_at_shutdown
from otrta_wallet import WalletBusy

STORE: Final = name_of(["store"])
OR_POSTGRES: Final = "or use PostgreSQL"

_tasks: set[asyncio.Task[None]] = set()


def _start() -> None:
    end_with_supervisor()
    try:
        settings = load_settings((litellm.callback_settings or {}).get("otrta"))
        logs.configure(settings.log_format, settings.log_level, keys_to_hide)
        if not settings.store_is_shared and _workers() > 1:
            raise SettingsError(
                f"{STORE} on SQLite is for one process: start LiteLLM with one worker, {OR_POSTGRES}"
            )
        gateway = Gateway(settings, RouterView.of_proxy())
        install(lambda app: Gate(app, gateway, master_key))
        run_at_shutdown(_stop)
    except (SettingsError, WiringError) as error:
        refuse_start(str(error))
    _tasks.add(asyncio.get_running_loop().create_task(_run(gateway)))


async def _run(gateway: Gateway) -> None:
    try:
        await gateway.run()
    except WalletBusy:
        refuse_start(
            f"{STORE} is open in another process: stop that one, start LiteLLM with one worker, {OR_POSTGRES}"
        )
    except SettingsError as error:
        refuse_start(error.message)
    except OtrtaError as error:
        refuse_start(f"{STORE}: {error.message}")
    except Exception as error:
        refuse_start(f"{STORE} cannot be used ({type(error).__name__}): look at its rights and its disk")


def _workers() -> int:
    """How many processes LiteLLM's command was told to start, or 1 where it was not it that started this."""
    told = os.environ.get("NUM_WORKERS", "")
    return int(told) if told.isdecimal() else 1


async def _stop() -> None:
    for task in _tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


_start()
handler = Observer()
