"""The client's settings: flag > ``OTRTA_*`` > ``$OTRTA_HOME/config.toml`` > default."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from otrta_core import OtrtaError
from proxy_trio.bodies import REMOVED_FIELDS
from proxy_trio.budget import Budgets

CONFIG_FILE = "config.toml"
WALLET_FILE = "wallet.sqlite3"
SERVE_FILE = "serve.json"
"""Which process serves this home, and on which port."""
TOKEN_FILE = "local.token"  # noqa: S105  # a name
"""What the guard asks of whoever calls a wallet action."""
DEFAULT_PORT = 8402


class SettingsInvalid(OtrtaError):
    """A setting is wrong; the message names its key."""

    code = "settings_invalid"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Budgets(_Model):
    per_request_sat: Annotated[int, Field(ge=0, le=10**12)] = 1_000
    per_day_sat: Annotated[int, Field(ge=0, le=10**12)] = 10_000


class _Privacy(_Model):
    strip_fields: tuple[str, ...] = REMOVED_FIELDS
    swap_delay_s: Annotated[float, Field(ge=0, le=3600)] = 8.0


class ClientSettings(_Model):
    """What a user may set in config.toml.

    Attributes:
        port: where ``otrta serve`` listens, on 127.0.0.1.
        gateways: gateways that may be paid, beside those added by ``otrta gateways add``.
        mints: mints that may hold money, beside those added by ``otrta mints add``.
        budgets: the most that may leave.
        privacy: what is taken out of bodies, and how long (at most) change waits for its swap.
    """

    port: Annotated[int, Field(ge=1, le=65_535)] = DEFAULT_PORT
    gateways: tuple[str, ...] = ()
    mints: tuple[str, ...] = ()
    budgets: _Budgets = _Budgets()
    privacy: _Privacy = _Privacy()

    @property
    def limits(self) -> Budgets:
        """The budgets in msat."""
        return Budgets(self.budgets.per_request_sat * 1000, self.budgets.per_day_sat * 1000)


def client_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of wallet and settings: ``OTRTA_HOME``, else the platform's."""
    home = environ.get("OTRTA_HOME")
    return Path(home).expanduser() if home else Path(platformdirs.user_data_dir("otrta"))


def load_client_settings(home: Path, environ: Mapping[str, str] = os.environ) -> ClientSettings:
    """Read the settings of a home.

    Raises:
        SettingsInvalid: the file is not TOML, or a key is unknown or has a wrong value.
    """
    path = home / CONFIG_FILE
    values: dict[str, Any] = {}
    if path.exists():
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SettingsInvalid(f"{path} cannot be read: {error}") from None
    values |= _from_environment(environ)
    try:
        return ClientSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(f"{key} in {path} or the environment: {first['msg']}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (port := environ.get("OTRTA_PORT")) is not None:
        found["port"] = port
    for key in ("gateways", "mints"):
        if (text := environ.get(f"OTRTA_{key.upper()}")) is not None:
            found[key] = [url.strip() for url in text.split(",") if url.strip()]
    return found
