"""`otrta gateway doctor`: what a gateway needs, looked at one by one; nothing is changed."""

import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import anyio
import structlog
from packaging.requirements import Requirement

from otrta_cli.gateway_checks import Check, ask_feeds, ask_mints, good, look_at_port, look_at_store, wrong
from otrta_cli.litellm_config import LitellmConfig, keep_litellm_quiet, read_config
from otrta_core import format_msat
from otrta_litellm.settings import ENV_PREFIX, GatewaySettings, SettingsError, load_settings

CALLBACK: Final = "otrta_litellm.plugin.handler"
INSTALL: Final = "pip install 'otrta[gateway]'"

_OURS: Final = frozenset({"KEY", "KEY_FILE", "URL"})
_LINE: Final = f'callbacks: ["{CALLBACK}"]'


def examine(
    config_path: Path | None, port: int, workers: int = 1, environ: Mapping[str, str] = os.environ
) -> list[Check]:
    """Look at everything, and return what was found.

    Args:
        config_path: LiteLLM's config file; without it only what the environment sets is looked at.
        port: where LiteLLM listens, or is to.
        workers: how many LiteLLM is started with.
        environ: LiteLLM's variables.

    Raises:
        SettingsError: the settings are wrong, so that nothing else can be looked at.
        click.ClickException: the config cannot be read.
    """
    # what LiteLLM and the gateway's own parts say of themselves does not belong here
    logging.disable(logging.CRITICAL)
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return _examine(config_path, port, workers, environ)
    finally:
        structlog.configure(**logs)
        logging.disable(logging.NOTSET)


def _examine(config_path: Path | None, port: int, workers: int, environ: Mapping[str, str]) -> list[Check]:
    config = read_config(config_path, environ)
    settings = _settings(config, environ)
    told = f"{len(settings.mints)} mints, {settings.unit.value}, lock {settings.lock}"
    checks = [good("settings", told), *_programs()]
    if config_path is not None:
        checks += [_callback(config), _key(config, environ)]
    checks += _variables(environ)
    at_port = look_at_port(port)
    checks.append(look_at_store(settings, served=at_port.ok and at_port.told != "free"))
    checks += _workers(settings, workers)
    usd_per_btc, of_rate = anyio.run(ask_feeds, settings)
    checks += of_rate
    checks += anyio.run(ask_mints, settings)
    if config_path is not None:
        checks += _prices(settings, config, usd_per_btc)
    return [*checks, at_port]


def _settings(config: LitellmConfig, environ: Mapping[str, str]) -> GatewaySettings:
    """Read the settings as the plugin will.

    Raises:
        SettingsError: they are wrong.
    """
    if config.otrta is None:
        for section, held in (("litellm_settings", config.litellm), ("general_settings", config.general)):
            if "callback_settings" in held:
                raise SettingsError(f"callback_settings stands in {section}: move it to the top level")
    database = config.general.get("database_url")
    if isinstance(database, str) and not environ.get("DATABASE_URL"):
        environ = {**environ, "DATABASE_URL": database}  # as LiteLLM does before it loads the plugin
    return load_settings(config.otrta, environ)


def _programs() -> Iterator[Check]:
    for name, why in (("litellm", ""), ("httptools", ": without it tokens above 16 kB are cut off")):
        wanted = _wanted_version(name)
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield wrong(name, f"not installed{why}", INSTALL)
            continue
        asked = "" if wanted is None else f", tested are {wanted.specifier}"
        if wanted is None or wanted.specifier.contains(found, prereleases=True):
            yield good(name, f"{found}{asked}")
        else:
            yield wrong(name, f"{found}{asked}", INSTALL)


def _wanted_version(name: str) -> Requirement | None:
    for line in importlib.metadata.requires("otrta") or []:
        requirement = Requirement(line)
        if requirement.name == name:
            return requirement
    return None


def _callback(config: LitellmConfig) -> Check:
    named = config.litellm.get("callbacks") or []
    lines = [str(line) for line in named] if isinstance(named, list) else [str(named)]
    if lines.count(CALLBACK) == 1:
        return good("callback", "named once")
    if CALLBACK in lines:
        return wrong(
            "callback", "named more than once", f"leave one {CALLBACK} in litellm_settings.callbacks"
        )
    near = get_close_matches(CALLBACK, lines, n=1)
    if near:
        return wrong("callback", f"{near[0]} is not it", f"write {CALLBACK} in litellm_settings.callbacks")
    return wrong(
        "callback", "missing, so LiteLLM would serve without a gate", f"add to litellm_settings: {_LINE}"
    )


def _key(config: LitellmConfig, environ: Mapping[str, str]) -> Check:
    if config.general.get("master_key") or environ.get("LITELLM_MASTER_KEY"):
        return good("master key", "set")
    told = "not set, so LiteLLM lets everybody in who sends any key"
    return wrong("master key", told, "set LITELLM_MASTER_KEY, or general_settings.master_key")


def _variables(environ: Mapping[str, str]) -> Iterator[Check]:
    known = {key.upper() for key in GatewaySettings.model_fields}
    known |= {f"{key}_FILE" for key in known} | _OURS
    for name in sorted(environ):
        key = name.removeprefix(ENV_PREFIX)
        if key != name and key not in known:
            near = get_close_matches(key, known, n=1)
            fix = f"did you mean {ENV_PREFIX}{near[0]}?" if near else "docs/gateway.md lists all settings"
            yield wrong("variables", f"no setting reads {name}", fix)


def _workers(settings: GatewaySettings, workers: int) -> Iterator[Check]:
    if workers > 1 and not settings.store_is_shared:
        told = f"a store on SQLite is for one worker, not {workers}"
        yield wrong("workers", told, "start one, or use PostgreSQL")


def _prices(settings: GatewaySettings, config: LitellmConfig, usd_per_btc: Decimal | None) -> Iterator[Check]:
    keep_litellm_quiet()
    import litellm

    from otrta_litellm.price_book import PriceBook
    from otrta_litellm.router_view import RouterView

    if not config.models:
        yield wrong("models", "the config's model_list is empty", "add the models that are to be sold")
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
        yield good(
            f"model {name}",
            f"{format_msat(price.input_msat_per_mtok)} in, {format_msat(price.output_msat_per_mtok)} out "
            f"per million tokens, from {'the table' if found.source == 'config' else 'LiteLLM in USD'}",
        )
    for name in unpriced:
        yield wrong(f"model {name}", "has no price, so it is not sold", _price_fix(settings))


def _price_fix(settings: GatewaySettings) -> str:
    if settings.btc_usd is None:
        return "name it in prices, or set btc_usd to use LiteLLM's USD prices"
    return "name it in prices: LiteLLM knows no whole USD price of it, or there is no rate"
