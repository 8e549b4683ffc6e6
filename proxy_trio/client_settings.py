"""The client's settings: flag > ``OTRTA_*`` > ``$OTRTA_HOME/config.toml`` > default.

Each setting is also a variable: ``budgets.per_day_sat`` is ``OTRTA_BUDGETS_PER_DAY_SAT``. A name or a value
that is not understood is an error, never a default: nothing is paid under budgets that nobody set.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from otrta_core import OtrtaError
from proxy_trio.bodies import REMOVED_FIELDS
from proxy_trio.budget import Limits
from proxy_trio.model_names import is_pattern
from proxy_trio.move_plan import MoveRules
from proxy_trio.ways import Ways

CONFIG_FILE = "config.toml"
WALLET_FILE = "wallet.sqlite3"
SERVE_FILE = "serve.json"
"""Which process serves this home, and on which port."""
TOKEN_FILE = "local.token"  # noqa: S105  # a name
"""What the guard asks of whoever calls a wallet action."""
DEFAULT_PORT = 8402
DEFAULT_HOST = "127.0.0.1"
MAX_LIMIT_SAT: Final = 10**12
UNLIMITED_WORD: Final = "unlimited"
ANY_WORD: Final = "any"

_DIGITS = re.compile(r"[0-9]{1,15}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


class SettingsInvalid(OtrtaError):
    """A setting is wrong; the message names its key."""

    code = "settings_invalid"


def _limit(value: Any) -> Any:
    """Take a whole number of sat, or the word: neither true, nor 1.5, nor anything that is left out."""
    if value == UNLIMITED_WORD:
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_LIMIT_SAT:
        raise PydanticCustomError(
            "limit", f'must be a whole number of sat from 0 to {MAX_LIMIT_SAT}, or "{UNLIMITED_WORD}"'
        )
    return value


def _models(value: Any) -> Any:
    names = value
    if value == ANY_WORD:
        return value
    if (
        not isinstance(names, list | tuple)
        or len(names) > 1000
        or not all(isinstance(name, str) and is_pattern(name) for name in names)
    ):
        raise PydanticCustomError(
            "models", f'must be "{ANY_WORD}", or a list of models\' names, in which * stands for anything'
        )
    return tuple(names)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if value == "localhost" else value))
    except ValueError:
        raise PydanticCustomError("address", "must be an IP address, such as 127.0.0.1") from None


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise PydanticCustomError("origin", "must be such as http://localhost:3000, without a path")
    return value


Limit = Annotated[int | Literal["unlimited"], BeforeValidator(_limit)]
Models = Annotated[tuple[str, ...] | Literal["any"], BeforeValidator(_models)]
Host = Annotated[str, AfterValidator(_address)]
Origin = Annotated[str, AfterValidator(_origin)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class BudgetSettings(_Model):
    """The most that may leave for calls, in sat; ``"unlimited"`` where there is to be no limit.

    Attributes:
        per_request_sat: for one call.
        per_hour_sat: from one full hour to the next.
        per_day_sat: from midnight to midnight, in this machine's time zone.
        per_month_sat: from the first of a month to the next.
        models: that may be paid for: ``"any"``, or a list of names, in which * stands for anything.
        approve_above_sat: a call that may cost more waits until the user approves it.
        approval_wait_s: how long a call is held open for that.
        approval_minutes: how long an approval, or a denial, holds for the same call made again.
    """

    per_request_sat: Limit = 1_000
    per_hour_sat: Limit = "unlimited"
    per_day_sat: Limit = 10_000
    per_month_sat: Limit = "unlimited"
    models: Models = "any"
    approve_above_sat: Limit = "unlimited"
    approval_wait_s: Seconds = 60.0
    approval_minutes: Annotated[int, Field(ge=1, le=1440)] = 10


class PrivacySettings(_Model):
    """What keeps calls apart.

    Attributes:
        strip_fields: taken out of bodies.
        swap_delay_s: how long change waits for its swap, at most.
        merge_change: whether the change of several calls shares a swap, which shows that they are related.
        call_circuits: whether each connection to a gateway gets a Tor circuit of its own.
    """

    strip_fields: tuple[str, ...] = REMOVED_FIELDS
    swap_delay_s: Seconds = 8.0
    merge_change: bool = False
    call_circuits: bool = False


class MoveSettings(_Model):
    """When value is moved to another of the wallet's mints, because a gateway takes only that one.

    Attributes:
        enabled: whether that is done without being told to.
        float_sat: how much is moved at a time, so that not each call needs a move.
        max_fee_ppm: the most that a move may cost, in millionths of what arrives.
        max_fee_sat: the most that a move may cost, however large it is.
    """

    enabled: bool = True
    float_sat: Annotated[int, Field(ge=0, le=10**9)] = 100
    max_fee_ppm: Annotated[int, Field(ge=0, le=1_000_000)] = 30_000
    max_fee_sat: Annotated[int, Field(ge=0, le=10**9)] = 10


class ClientSettings(_Model):
    """What a user may set in config.toml.

    Attributes:
        port: where ``otrta serve`` listens.
        host: the address it listens on; one that other machines reach makes keys a must.
        hosts: further names that apps may call it by, in their Host header.
        origins: web pages that may call it, beside its own.
        require_keys: serve only apps that have a key of ``otrta keys add``.
        gateways: gateways that may be paid, beside those added by ``otrta gateways add``.
        mints: mints that may hold money, beside those added by ``otrta mints add``.
        budgets: the most that may leave.
        proxy: the SOCKS proxy of all gateways and mints that have none of their own.
        proxies: the proxy, or ``direct``, by the URL of a gateway or a mint.
        privacy: what keeps calls apart.
        moves: of value between mints.
    """

    port: Annotated[int, Field(ge=1, le=65_535)] = DEFAULT_PORT
    host: Host = DEFAULT_HOST
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.\[\]:-]{1,255}$")], ...] = ()
    origins: tuple[Origin, ...] = ()
    require_keys: bool = False
    gateways: tuple[str, ...] = ()
    mints: tuple[str, ...] = ()
    proxy: str | None = None
    proxies: dict[str, str] = {}
    budgets: BudgetSettings = BudgetSettings()
    privacy: PrivacySettings = PrivacySettings()
    moves: MoveSettings = MoveSettings()

    @property
    def move_rules(self) -> MoveRules:
        """What moves between mints may cost, in msat."""
        moves = self.moves
        return MoveRules(
            enabled=moves.enabled,
            float_msat=moves.float_sat * 1000,
            max_fee_ppm=moves.max_fee_ppm,
            max_fee_msat=moves.max_fee_sat * 1000,
        )

    @field_validator("proxy")
    @classmethod
    def _can_be_read(cls, value: str | None) -> str | None:
        _check_ways(value, {})
        return value

    @field_validator("proxies")
    @classmethod
    def _can_all_be_read(cls, value: dict[str, str]) -> dict[str, str]:
        _check_ways(None, value)
        return value

    def ways(self) -> Ways:
        """Return by which way gateways and mints are reached."""
        return Ways(self.proxy, self.proxies, apart=self.privacy.call_circuits)

    @property
    def limits(self) -> Limits:
        """The budgets of all calls together, in msat."""
        budgets = self.budgets
        return Limits(
            per_request_msat=as_msat(budgets.per_request_sat),
            per_hour_msat=as_msat(budgets.per_hour_sat),
            per_day_msat=as_msat(budgets.per_day_sat),
            per_month_msat=as_msat(budgets.per_month_sat),
        )

    @property
    def is_private(self) -> bool:
        """Whether only this machine can call."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def keys_required(self) -> bool:
        """Whether only apps with a key are served: asked for, or because other machines can call."""
        return self.require_keys or not self.is_private


def with_host(settings: ClientSettings, host: str) -> ClientSettings:
    """Return settings under which the proxy listens on an address.

    Raises:
        SettingsInvalid: it is no IP address.
    """
    try:
        return ClientSettings.model_validate({**settings.model_dump(), "host": host})
    except ValidationError:
        raise SettingsInvalid(f"--host must be an IP address, such as {DEFAULT_HOST}") from None


def as_msat(limit: int | str) -> int | None:
    """Return a limit in msat; None for ``"unlimited"``."""
    return limit * 1000 if isinstance(limit, int) else None


def _check_ways(default: str | None, by_url: Mapping[str, str]) -> None:
    try:
        Ways(default, by_url)
    except OtrtaError as error:
        raise PydanticCustomError("proxy", error.message) from None


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
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise SettingsInvalid(f"{path} cannot be read: {error}") from None
    return settings_of(values, path, environ)


def settings_of(
    values: Mapping[str, Any], path: Path, environ: Mapping[str, str] = os.environ
) -> ClientSettings:
    """Check what a config.toml holds, under what the environment says.

    Raises:
        SettingsInvalid: names the key, and where it was set.
    """
    told = from_environment(environ)
    merged = dict(values)
    for key, value in told.items():
        section, _, name = key.rpartition(".")
        if not section:
            merged[name] = value
        elif isinstance(merged.get(section, {}), dict):
            merged[section] = {**merged.get(section, {}), name: value}
    try:
        return ClientSettings.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # behind a list's number or a choice's name there is nothing that a user has written
        parts = [str(part) for part in first["loc"]]
        key = next((name for name in (".".join(parts[:2]), parts[0]) if name in SETTINGS), ".".join(parts))
        where = f"{variable(key)} in the environment" if key in told else f"{key} in {path}"
        if first["type"] == "extra_forbidden":
            raise SettingsInvalid(
                f"{where} is no setting of otrta. There are: {', '.join(SETTINGS)}"
            ) from None
        raise SettingsInvalid(f"{where}: {first['msg']}") from None


def variable(key: str) -> str:
    """Return the environment variable of a setting."""
    return f"OTRTA_{key.replace('.', '_').upper()}"


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the environment holds, by key, not yet checked.

    Raises:
        SettingsInvalid: a variable looks like a budget and is none.
    """
    found: dict[str, Any] = {}
    for key in SETTINGS:
        if (text := environ.get(variable(key))) is not None:
            found[key] = _split(text) if key in LISTS and text != ANY_WORD else text
    for name in environ:
        if name.startswith("OTRTA_BUDGETS_") and name not in {variable(key) for key in found}:
            raise SettingsInvalid(f"{name} in the environment is no setting of otrta")
    return found


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Return the keys of all settings, and whether each is a list."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", isinstance(field.default, tuple) or name == "models"


SETTINGS: Final[tuple[str, ...]] = tuple(key for key, _ in _leaves(ClientSettings))
"""The keys of all settings, as ``otrta config set`` takes them."""
LISTS: Final[frozenset[str]] = frozenset(key for key, is_list in _leaves(ClientSettings) if is_list)
