"""`otrta gateway doctor`: what a gateway needs, looked at one by one; nothing is changed."""

import importlib.metadata
import logging
import os
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
from packaging.requirements import Requirement
from sqlalchemy import text

from otrta_cli.litellm_config import LitellmConfig, read_config
from otrta_cli.processes import port_taken
from otrta_core import OtrtaError, format_msat
from otrta_litellm.feeds import Feed, ask_all
from otrta_litellm.rates import RateState, after_poll
from otrta_litellm.settings import ENV_PREFIX, GatewaySettings, load_settings
from otrta_wallet.database import open_engine, sqlite_path
from otrta_wallet.mint_client import MintClient, new_http_client

CALLBACK: Final = "otrta_litellm.plugin.handler"
MINT_WITHIN_S: Final = 15.0

_NEEDED_NUTS: Final = {"7": "token state check", "9": "restore"}
_OURS: Final = frozenset({"KEY", "KEY_FILE", "URL"})

Check = dict[str, Any]


def examine(config_path: Path | None, port: int, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """Look at everything, and return what was found.

    Raises:
        SettingsError: the settings are wrong, so that nothing else can be looked at.
        click.ClickException: the config cannot be read.
    """
    logging.disable(logging.CRITICAL)  # what LiteLLM says of itself does not belong here
    try:
        return _examine(config_path, port, environ)
    finally:
        logging.disable(logging.NOTSET)


def _examine(config_path: Path | None, port: int, environ: Mapping[str, str]) -> list[Check]:
    config = read_config(config_path, environ)
    settings = load_settings(config.otrta, environ)
    told = f"{len(settings.mints)} mints, {settings.unit.value}, lock {settings.lock}"
    checks = [_check("settings", True, told)]
    checks += _programs()
    if config_path is not None:
        checks.append(_callback(config))
        checks.append(_key(config, environ))
    checks += _variables(environ)
    checks.append(_store(settings))
    usd_per_btc, of_rate = anyio.run(_rate, settings)
    checks += of_rate
    checks += anyio.run(_mints, settings)
    if config_path is not None:
        checks += _prices(settings, config, usd_per_btc)
    checks.append(_port(port))
    return checks


def _check(what: str, ok: bool, told: str) -> Check:
    return {"what": what, "ok": ok, "told": told}


def _programs() -> Iterator[Check]:
    for name, why in (("litellm", ""), ("httptools", "without it tokens above 16 kB are cut off")):
        wanted = _wanted_version(name)
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield _check(
                name, False, f"not installed: pip install 'otrta[gateway]'{f' ({why})' if why else ''}"
            )
            continue
        ok = wanted is None or wanted.specifier.contains(found, prereleases=True)
        asked = "" if wanted is None else f", tested are {wanted.specifier}"
        yield _check(name, ok, f"{found}{asked}")


def _wanted_version(name: str) -> Requirement | None:
    for line in importlib.metadata.requires("otrta") or []:
        requirement = Requirement(line)
        if requirement.name == name:
            return requirement
    return None


def _callback(config: LitellmConfig) -> Check:
    named = config.litellm.get("callbacks") or []
    count = named.count(CALLBACK) if isinstance(named, list) else int(named == CALLBACK)
    told = "named once" if count == 1 else f'add to litellm_settings: callbacks: ["{CALLBACK}"], once'
    return _check("callback", count == 1, told)


def _key(config: LitellmConfig, environ: Mapping[str, str]) -> Check:
    key = config.general.get("master_key") or environ.get("LITELLM_MASTER_KEY")
    told = "set" if key else "set general_settings.master_key: LiteLLM lets everybody in without one"
    return _check("master key", bool(key), told)


def _variables(environ: Mapping[str, str]) -> Iterator[Check]:
    known = {key.upper() for key in GatewaySettings.model_fields}
    known |= {f"{key}_FILE" for key in known} | _OURS
    unread = sorted(
        name for name in environ if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX) not in known
    )
    if unread:
        yield _check("variables", False, f"{', '.join(unread)}: no setting reads this")


def _store(settings: GatewaySettings) -> Check:
    path = sqlite_path(settings.store_url)
    if path is not None:
        there = next((p for p in (path, *path.parents) if p.exists()), path)
        if not os.access(there, os.W_OK):
            return _check("store", False, f"{there} cannot be written to: let LiteLLM's user own it")
        return _check("store", True, f"{path}{'' if path.exists() else ', made at the first start'}")
    try:
        engine = open_engine(settings.store_url)
        with engine.begin() as conn:
            conn.execute(text("SELECT 1"))
        engine.dispose()
    except OtrtaError as error:
        return _check("store", False, error.message)
    except Exception as error:  # the driver's text may show the password
        return _check("store", False, f"PostgreSQL cannot be used ({type(error).__name__}): look at its URL")
    return _check("store", True, "PostgreSQL answers")


async def _rate(settings: GatewaySettings) -> tuple[Decimal | None, list[Check]]:
    rate = settings.btc_usd
    if rate is None:
        return None, []
    if rate.fixed is not None:
        return Decimal(rate.fixed), [_check("rate", True, f"{rate.fixed} USD for a bitcoin, fixed")]
    async with new_http_client() as http:
        feeds = [Feed(each.format, each.address) for each in rate.feeds]
        readings = await ask_all(feeds, http, rate.every_s, time.time)
    found = after_poll(RateState(), readings, rate.rules, time.time()).rate
    told = f"{len(readings)} of {len(rate.feeds)} feeds answer"
    if found is None:
        return None, [_check("rate", False, f"{told}, and they do not agree on a fresh rate")]
    return found.usd, [_check("rate", True, f"{told}: {found.usd} USD for a bitcoin")]


async def _mints(settings: GatewaySettings) -> list[Check]:
    async with new_http_client() as http:
        return [await _mint(settings, url, http) for url in settings.mints]


async def _mint(settings: GatewaySettings, url: str, http: httpx.AsyncClient) -> Check:
    client = MintClient(url, http)
    try:
        with anyio.fail_after(MINT_WITHIN_S):
            info = await client.info()
            keysets = await client.keysets()
    except (OtrtaError, TimeoutError) as error:
        reason = error.message if isinstance(error, OtrtaError) else "it did not answer in time"
        return _check(url, False, reason)
    fees = {k.unit: k.input_fee_ppk or 0 for k in keysets if k.active and k.unit in ("msat", "sat")}
    units = ", ".join(f"{unit} (fee {fee} ppk)" for unit, fee in sorted(fees.items()))
    if not fees:
        return _check(url, False, "it has neither sat nor msat")
    if min(fees.values()) > settings.max_fee_ppk:
        return _check(url, False, f"{units}: above max_fee_ppk, so it is not offered")
    missing = [f"NUT-{nut} ({what})" for nut, what in _NEEDED_NUTS.items() if not _has(info, nut)]
    if missing:
        return _check(
            url, False, f"{units}; it lacks {' and '.join(missing)}, without which money can be lost"
        )
    if settings.unit.value not in fees:
        return _check(url, False, f"{units}, not {settings.unit.value}: a 402 does not name it; see unit")
    return _check(url, True, units)


def _has(info: Any, nut: str) -> bool:
    told = getattr(info, "nuts", {}).get(nut)
    return told is not None and getattr(told, "supported", True) is not False


def _prices(settings: GatewaySettings, config: LitellmConfig, usd_per_btc: Decimal | None) -> Iterator[Check]:
    import litellm

    from otrta_litellm.price_book import PriceBook
    from otrta_litellm.router_view import RouterView

    if not config.models:
        yield _check("models", False, "the config's model_list is empty")
        return
    lists = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "model_group_alias")
    router = litellm.Router(
        model_list=config.models, **{name: config.router[name] for name in lists if name in config.router}
    )
    view = RouterView(lambda: router)
    book = PriceBook(settings, view)
    rate = None if usd_per_btc is None else book.msat_per_usd(usd_per_btc)
    unpriced = []
    for name in view.model_names():
        found = book.priced(name, rate)
        if found is None or found.price is None:
            unpriced.append(name)
            continue
        price = found.price
        yield _check(
            f"model {name}",
            True,
            f"{format_msat(price.input_msat_per_mtok)} in, {format_msat(price.output_msat_per_mtok)} out "
            f"per million tokens, from {'the table' if found.source == 'config' else 'LiteLLM in USD'}",
        )
    for name in unpriced:
        yield _check(
            f"model {name}", False, "has no price, so it is not sold: name it in prices, or set btc_usd"
        )


def _port(port: int) -> Check:
    if not port_taken(port):
        return _check(f"port {port}", True, "free")
    try:
        with httpx.Client(trust_env=False, timeout=5) as http:
            told = http.get(f"http://127.0.0.1:{port}/v1/cashu/info").json()
        serves = isinstance(told, dict) and told.get("name") == "otrta"
    except (httpx.HTTPError, ValueError):
        serves = False
    return _check(
        f"port {port}", serves, "a gateway serves there" if serves else "something else listens there"
    )
