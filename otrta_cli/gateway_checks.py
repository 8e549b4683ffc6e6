"""What a gateway leans on, looked at for the doctor: its store, its mints, the feeds of its rate."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
from filelock import FileLock, Timeout
from sqlalchemy import inspect, make_url, text

from otrta_cli.processes import port_taken
from otrta_core import OtrtaError
from otrta_litellm.feeds import Feed, ask_all
from otrta_litellm.rates import RateState, after_poll
from otrta_litellm.schema import VERSION_TABLE
from otrta_litellm.settings import GatewaySettings
from otrta_wallet.database import open_engine, sqlite_path
from otrta_wallet.mint_client import MintClient, MintInfo, new_http_client

MINT_WITHIN_S: Final = 15.0
STORE_WITHIN_S: Final = 5
MOST_SKEW_S: Final = 60.0
"""How far the clocks of mint and gateway may be apart: locktimes are of an hour and more."""

_NEEDED_NUTS: Final = {"7": "token state check", "9": "restore"}
_LOCK_NUTS: Final = ("10", "11", "12")


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is as it should be, what was found, and what to do about it."""

    what: str
    ok: bool
    told: str
    fix: str = ""


def good(what: str, told: str) -> Check:
    """Something that is as it should be."""
    return Check(what, True, told)


def wrong(what: str, told: str, fix: str) -> Check:
    """Something that is not, and what to do about it."""
    return Check(what, False, told, fix)


def look_at_store(settings: GatewaySettings, *, served: bool) -> Check:
    """Look whether the store can be used; nothing is made or changed. ``served``: a gateway runs here."""
    path = sqlite_path(settings.store_url)
    return _postgres(settings.store_url) if path is None else _sqlite(path, served=served)


def _sqlite(path: Path, *, served: bool) -> Check:
    there = next((p for p in (path, *path.parents) if p.exists()), path)
    if there.is_dir() is (there == path):
        return wrong("store", f"{there} is no {'file' if there == path else 'directory'}", "correct store")
    for needed in {there, path.parent if path.parent.exists() else there}:
        if not os.access(needed, os.W_OK | (os.X_OK if needed.is_dir() else 0)):
            return wrong("store", f"{needed} cannot be written to", "let LiteLLM's user own it")
    if not path.exists():
        return good("store", f"{path}, made at the first start")
    locked = _is_locked(Path(f"{path}.lock"))
    if locked and not served:
        return wrong(
            "store",
            f"another process has {path} open",
            "stop it; if it is the gateway, say where it listens by --port",
        )
    try:
        tables = _tables(path, in_use=locked)
    except sqlite3.DatabaseError:
        return wrong("store", f"{path} is no SQLite database", "name another directory, or restore a back-up")
    if tables and VERSION_TABLE not in tables:
        return wrong("store", f"{path} belongs to something else", "name a database of the gateway's own")
    return good("store", f"{path}{', open in the running gateway' if locked else ''}")


def _tables(path: Path, *, in_use: bool) -> set[str]:
    # a database that nobody writes to is read without the files that SQLite would put beside it
    mode = "mode=ro" if in_use else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, timeout=STORE_WITHIN_S)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _postgres(url: str) -> Check:
    in_time = make_url(url).update_query_dict({"connect_timeout": str(STORE_WITHIN_S)})
    try:
        engine = open_engine(in_time)
        with engine.begin() as conn:
            schema = conn.execute(text("SELECT current_schema()")).scalar_one()
            may = conn.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar_one()
            tables = inspect(conn).get_table_names()
        engine.dispose()
    except OtrtaError as error:
        return wrong("store", error.message, "correct store")
    except Exception as error:  # the driver's text may show the password
        found = f"PostgreSQL cannot be used ({type(error).__name__})"
        return wrong("store", found, "look whether it runs, and at user, password and database in store")
    if any(name.startswith("LiteLLM_") for name in tables):
        return wrong("store", "LiteLLM keeps its own tables there", "make a database of the gateway's own")
    if schema is None or not may:
        return wrong("store", "this user may not make tables there", "let the user own its database")
    return good("store", "PostgreSQL answers")


async def ask_feeds(settings: GatewaySettings) -> tuple[Decimal | None, list[Check]]:
    """Ask the feeds of the rate; returns the rate, where there is one, and what was found."""
    rate = settings.btc_usd
    if rate is None:
        return None, []
    if rate.fixed is not None:
        return Decimal(rate.fixed), [good("rate", f"{rate.fixed} USD for a bitcoin, fixed")]
    async with new_http_client() as http:
        silent, readings = [], []
        for each in rate.feeds:
            found = await ask_all([Feed(each.format, each.address)], http, rate.every_s, time.time)
            readings += found
            if not found:
                silent.append(each.format)
    found_rate = after_poll(RateState(), readings, rate.rules, time.time()).rate
    told = f"{len(readings)} of {len(rate.feeds)} feeds answer"
    if silent:
        told += f", not {', '.join(silent)}"
    if found_rate is not None:
        return found_rate.usd, [good("rate", f"{told}: {found_rate.usd} USD for a bitcoin")]
    fix = "let this machine reach them over https" if silent else "look at max_jump and min_feeds"
    return None, [wrong("rate", f"{told}, and they give no rate", f"{fix}, or set btc_usd.fixed")]


async def ask_mints(settings: GatewaySettings) -> list[Check]:
    """Ask the mints, one after the other."""
    checks, offered = [], set[str]()
    for url in settings.mints:
        check, units = await _mint(settings, url)
        checks.append(check)
        offered |= units
    if offered and settings.unit.value not in offered:
        have = " and ".join(sorted(offered))
        told = f"no mint has {settings.unit.value}, so a 402 names none"
        checks.append(wrong("unit", told, f"set unit to {have}, or name a mint that has it"))
    return checks


async def _mint(settings: GatewaySettings, url: str) -> tuple[Check, set[str]]:
    dates: list[str] = []

    async def note(response: httpx.Response) -> None:
        dates.append(response.headers.get("date", ""))

    async with new_http_client() as http:
        http.event_hooks = {"response": [note]}
        client = MintClient(url, http)
        try:
            with anyio.fail_after(MINT_WITHIN_S):
                info = await client.info()
                keysets = await client.keysets()
        except (OtrtaError, TimeoutError) as error:
            reason = error.message if isinstance(error, OtrtaError) else "it did not answer in time"
            fix = "start it, or correct mints; callers get 503 until it answers"
            return wrong(url, reason, fix), set()
    fees = {k.unit: k.input_fee_ppk or 0 for k in keysets if k.active and k.unit in ("msat", "sat")}
    units = ", ".join(f"{unit} (fee {fee} ppk)" for unit, fee in sorted(fees.items()))
    if not fees:
        return wrong(url, "it has neither sat nor msat", "take it out of mints"), set()
    faults = list(_faults(settings, fees, info, dates))
    if faults:
        return wrong(url, f"{units}; {faults[0][0]}", faults[0][1]), set(fees)
    return good(url, units), set(fees)


def _faults(
    settings: GatewaySettings, fees: dict[str, int], info: MintInfo, dates: list[str]
) -> Iterator[tuple[str, str]]:
    """What is wrong with a mint, and what to do, the worst first."""
    missing = [f"NUT-{nut} ({what})" for nut, what in _NEEDED_NUTS.items() if not _has(info, nut)]
    if missing:
        yield f"it lacks {' and '.join(missing)}, without which money can be lost", "take it out of mints"
    if min(fees.values()) > settings.max_fee_ppk:
        yield "above max_fee_ppk, so it is not offered", "raise max_fee_ppk, or take it out of mints"
    if settings.lock == "required" and not info.supports(*_LOCK_NUTS):
        yield "it keeps no locks (NUT-10, 11, 12), which lock: required needs", "set lock to accepted"
    skew = _skew_s(dates)
    if skew is not None and abs(skew) > MOST_SKEW_S:
        side = "behind" if skew > 0 else "before"
        yield f"this machine's clock is {abs(skew):.0f} s {side} the mint's", "let both keep time by NTP"


def _has(info: Any, nut: str) -> bool:
    told = getattr(info, "nuts", {}).get(nut)
    return told is not None and getattr(told, "supported", True) is not False


def _skew_s(dates: list[str]) -> float | None:
    """How far the mint's clock is before this one's, by its last answer; None where it does not say."""
    try:
        return parsedate_to_datetime(dates[-1]).timestamp() - time.time()
    except (ValueError, IndexError, TypeError):
        return None


def look_at_port(port: int) -> Check:
    """Look who listens where LiteLLM is to listen, or does."""
    what = f"port {port}"
    if not port_taken(port):
        return good(what, "free")
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(trust_env=False, timeout=5) as http:
            told = http.get(f"{url}/v1/cashu/info").json()
        serves = isinstance(told, dict) and told.get("name") == "otrta"
    except (httpx.HTTPError, ValueError):
        serves = False
    if serves:
        return good(what, "a gateway serves there")
    return wrong(
        what, f"something else listens at {urlsplit(url).netloc}", "stop it, or name LiteLLM's --port"
    )
