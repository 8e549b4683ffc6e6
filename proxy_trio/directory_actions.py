"""Wallet actions on the lists of mints and gateways, on prices and on settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from sqlalchemy import Connection, delete, func, select

from otrta_core import CallRequest, InvalidRequest, OtrtaError, Unit, face_value
from otrta_core.requests import PAYABLE_PATHS, Kind
from otrta_wallet import MintNotKnown
from otrta_wallet.mint_url import normalize_mint_url
from otrta_wallet.schema import ProofStatus, operations, proofs, quotes
from otrta_wallet.schema import mints as mints_table
from proxy_trio import calls, reports
from proxy_trio.action_params import (
    GatewayParams,
    LockParams,
    NoParams,
    PlaceByProxyParams,
    QuoteParams,
    UrlParams,
)
from proxy_trio.budget import Window, begins
from proxy_trio.client import Client
from proxy_trio.client_settings import CONFIG_FILE, WALLET_FILE
from proxy_trio.errors import MintInUse
from proxy_trio.gateway_info import GatewayInfo, GatewayKind
from proxy_trio.gateways import GatewayEntry
from proxy_trio.schema import calls as calls_table

_QUOTED_KINDS: Final[frozenset[Kind]] = frozenset({"chat", "embeddings"})
_QUOTED_PATHS: Final = {path: kind for path, kind in PAYABLE_PATHS.items() if kind in _QUOTED_KINDS}


async def mints(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """List the mints, with what is there."""
    shown = await client.wallet.transactions.run(reports.balance)
    return [
        {
            "url": url,
            "units": _units(client, url),
            "available_msat": _sum(shown, url, "available"),
            "pending_msat": _sum(shown, url, "pending"),
            "proxy": client.ways.describe(url),
        }
        for url in client.wallet.mints.urls
    ]


async def mints_add(client: Client, params: PlaceByProxyParams) -> dict[str, Any]:
    """Add a mint after asking it for its keysets."""
    async with _by_way(client, params):
        url = await client.wallet.mints.add(params.url)
    return {"url": url, "units": _units(client, url), "proxy": client.ways.describe(url)}


async def mints_remove(client: Client, params: UrlParams) -> dict[str, Any]:
    """Take a mint off the list; refused while anything of the wallet's is there."""
    url = normalize_mint_url(params.url)
    if url in {normalize_mint_url(named) for named in client.settings.mints}:
        raise MintInUse(f"{url} is in {CONFIG_FILE}: take it out there first.")

    def remove(conn: Connection, _now: float) -> int:
        if _in_use(conn, url):
            raise MintInUse(
                f"The wallet has money or open business at {url}: see `otrta balance`. Empty it first: "
                f"`otrta send AMOUNT --mint {url}`."
            )
        return conn.execute(delete(mints_table).where(mints_table.c.url == url)).rowcount

    if not await client.wallet.transactions.run(remove):
        raise MintNotKnown(f"This wallet does not use {url}: see `otrta mints`.")
    client.wallet.mints.forget(url)
    return {"url": url}


async def mints_info(client: Client, params: UrlParams) -> dict[str, Any]:
    """Ask a mint of the list what it says of itself now."""
    url = normalize_mint_url(params.url)
    info = await client.wallet.mints.client(url).info()
    await client.wallet.mints.refresh(url)
    keysets = client.wallet.mints.keysets(url).values()
    return {
        "url": url,
        "name": info.name,
        "version": info.version,
        "nuts": sorted(info.nuts, key=lambda nut: (len(nut), nut)),
        "keysets": [
            {"id": k.id, "unit": k.unit, "active": k.active, "input_fee_ppk": k.input_fee_ppk}
            for k in sorted(keysets, key=lambda k: (not k.active, k.unit, k.id))
        ],
    }


async def gateways(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """List the gateways, and which of them are not paid any more."""
    return [_entry(client, entry) for entry in await client.gateways.entries()]


async def gateways_add(client: Client, params: GatewayParams) -> dict[str, Any]:
    """Add a gateway after asking for its info."""
    kind = None if params.kind is None else GatewayKind(params.kind)
    async with _by_way(client, params):
        entry = await client.gateways.add(params.url, kind=kind)
    return _entry(client, entry)


async def gateways_remove(client: Client, params: UrlParams) -> dict[str, Any]:
    """Take a gateway off the list; payments that are open there stay and are settled."""
    return {"url": await client.gateways.remove(params.url)}


async def gateways_trust(client: Client, params: UrlParams) -> dict[str, Any]:
    """Let a gateway be paid again."""
    return {"url": await client.gateways.trust(params.url)}


async def gateways_lock(client: Client, params: LockParams) -> dict[str, Any]:
    """Say whether a gateway is paid with tokens that are locked to its key."""
    url = await client.gateways.set_lock(params.url, on=params.on)
    return {"url": url, "locks": params.on}


@asynccontextmanager
async def _by_way(client: Client, params: PlaceByProxyParams) -> AsyncIterator[None]:
    """Set the way to a place; where it cannot be added, the way that held before holds again."""
    if params.proxy is None:
        yield
        return
    before = client.ways.set_for(params.url)
    await client.ways.put(client.wallet.transactions, params.url, params.proxy)
    try:
        yield
    except BaseException:
        with trio.CancelScope(shield=True):
            await client.ways.put(client.wallet.transactions, params.url, before)
        raise


async def gateways_info(client: Client, params: UrlParams) -> dict[str, Any]:
    """Ask a gateway, of the list or not, for mints, limits and prices."""
    url, info = await client.gateways.look_at(params.url)
    return {
        "url": url,
        "name": info.name,
        "kind": info.kind,
        "unit": info.unit,
        "mints": [mint.model_dump() for mint in info.mints],
        "rounding": info.rounding,
        "default_output_tokens": info.default_output_tokens,
        "limits": info.limits.model_dump(),
        "models": [{"id": name, **price.to_dict()} for name, price in sorted(info.models.items())]
        or [{"id": name} for name in sorted(info.listed or ())],
    }


async def quote(client: Client, params: QuoteParams) -> dict[str, Any]:
    """Tell what a request could cost at each gateway that may be paid. Nothing is sent but for info."""
    kind = _QUOTED_PATHS.get(params.path)
    if kind is None:
        raise InvalidRequest(f"{params.path} has no price. These have: {', '.join(_QUOTED_PATHS)}.")
    call = CallRequest.parse(kind, params.body)
    quotes_ = []
    for entry in await client.gateways.entries():
        if entry.distrusted_for is not None:
            continue
        try:
            info = await client.gateways.info(entry.url)
            quotes_.append({"gateway": entry.url, **_quote(client, info, call)})
        except OtrtaError as error:
            quotes_.append({"gateway": entry.url, "error": error.message})
    return {
        "model": call.model,
        "output_limit": call.output_limit,
        "prompt_tokens_at_most": call.prompt_tokens,
        "quotes": quotes_,
    }


async def config(client: Client, _params: NoParams) -> dict[str, Any]:
    """Tell the settings in force."""

    def spent_today(conn: Connection, now: float) -> int:
        return calls.spent_since(conn, [begins(Window.DAY, now)])[0]

    spent = await client.wallet.transactions.run(spent_today)
    limit_msat = client.settings.limits.per_day_msat
    return {
        "home": str(client.home),
        "config_file": str(client.home / CONFIG_FILE),
        "wallet_file": str(client.home / WALLET_FILE),
        **client.settings.model_dump(mode="json"),
        "spent_today_msat": spent,
        "left_today_msat": None if limit_msat is None else max(0, limit_msat - spent),
    }


def _units(client: Client, url: str) -> dict[str, dict[str, int]]:
    units = client.wallet.mints.units(url)
    return {unit: {"input_fee_ppk": fee_ppk} for unit, fee_ppk in sorted(units.items())}


def _sum(shown: dict[str, Any], url: str, word: str) -> int:
    return sum(Unit.parse(row["unit"]).to_msat(row[word]) for row in shown["mints"] if row["url"] == url)


def _in_use(conn: Connection, url: str) -> bool:
    """Tell whether a mint holds proofs of ours, or something there is not over."""
    open_calls = calls_table.c.state.in_(reports.NOT_SETTLED)
    rows = (
        select(func.count()).where(proofs.c.mint == url, proofs.c.status != ProofStatus.SPENT),
        select(func.count()).where(operations.c.mint == url, operations.c.state.in_(("stored", "prepared"))),
        select(func.count()).where(quotes.c.mint == url, quotes.c.state.in_(("open", "minting"))),
        select(func.count()).where(calls_table.c.mint == url, open_calls),
    )
    return any(conn.execute(query).scalar_one() for query in rows)


def _entry(client: Client, entry: GatewayEntry) -> dict[str, Any]:
    return {
        "url": entry.url,
        "name": entry.name,
        "kind": entry.kind,
        "trusted": entry.distrusted_for is None,
        "distrusted_for": entry.distrusted_for,
        "locks": entry.locks,
        "proxy": client.ways.describe(entry.url),
    }


def _quote(client: Client, info: GatewayInfo, call: CallRequest) -> dict[str, Any]:
    quoted = info.quote(call)
    if quoted is None and not info.gives_change and (info.listed is None or call.model in info.listed):
        return {"error": "it tells its price only when it is asked for the call"}
    if quoted is None:
        return {"error": f"it does not sell {call.model}"}
    units = info.units_by_mint()
    shared = [url for url in client.wallet.mints.urls if url in units]
    fees_ppk = [fee for url in shared for fee in client.wallet.mints.fee_ppk(url).values()]
    return {
        "quote_msat": quoted.pay_msat,
        "with_fee_msat": face_value(quoted.pay_msat, max(fees_ppk, default=0)),
        "mints": shared,
    }
