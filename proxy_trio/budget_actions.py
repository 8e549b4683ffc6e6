"""Wallet actions on budgets and settings, on the pause switch, on apps' keys and on approvals."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from proxy_trio import app_keys, approvals, config_file, spending
from proxy_trio.action_params import (
    ApprovalParams,
    ConfigKeyParams,
    ConfigSetParams,
    KeyNameParams,
    KeyParams,
    NoParams,
)
from proxy_trio.app_keys import AppKey
from proxy_trio.approvals import Approval
from proxy_trio.budget import Account, Limits, Line
from proxy_trio.client import Client
from proxy_trio.client_settings import as_msat


async def budgets(client: Client, _params: NoParams) -> dict[str, Any]:
    """Tell every limit with what was spent of it, what is left and when it renews."""
    settings = client.settings

    def read(conn: Connection, now: float) -> dict[str, Any]:
        account = spending.account_of(conn, now, None, settings.limits)
        models = settings.budgets.models
        return {
            "paused_since": spending.paused_since(conn),
            "models": None if models == "any" else list(models),
            "approve_above_msat": as_msat(settings.budgets.approve_above_sat),
            "require_keys": settings.keys_required,
            "limits": list(_lines(account, now)),
            "keys": [_key(conn, now, key) for key in app_keys.every(conn)],
        }

    return await client.wallet.transactions.run(read)


async def pause(client: Client, _params: NoParams) -> dict[str, Any]:
    """Let nothing leave for calls any more. What is on its way ends as it would."""
    return {"paused_since": await client.wallet.transactions.run(spending.pause)}


async def resume(client: Client, _params: NoParams) -> dict[str, Any]:
    """Let calls be paid again."""
    await client.wallet.transactions.run(spending.resume)
    return {"paused_since": None}


async def config_get(client: Client, params: ConfigKeyParams) -> dict[str, Any]:
    """Tell the value of one setting that is in force."""
    return {"key": params.key, "value": config_file.setting(client.settings, params.key)}


async def config_set(client: Client, params: ConfigSetParams) -> dict[str, Any]:
    """Write settings into config.toml; those of budgets hold at once."""
    in_force = config_file.put_settings(client.home, params.values, os.environ)
    client.put_in_force(in_force)
    return config_file.changed(list(params.values), in_force, os.environ)


async def keys(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """List the apps' keys, with their limits and what was spent of them."""

    def read(conn: Connection, now: float) -> list[dict[str, Any]]:
        return [_key(conn, now, key) for key in app_keys.every(conn)]

    return await client.wallet.transactions.run(read)


async def keys_add(client: Client, params: KeyParams) -> dict[str, Any]:
    """Make a key; it is told this once."""

    def write(conn: Connection, now: float) -> dict[str, Any]:
        models = None if params.models in (None, "any") else params.models
        key, text = app_keys.add(
            conn,
            now,
            name=params.name,
            limits=Limits(**params.limits.model_dump()),
            models=models,
            expires_at=params.expires_at(now, None),
        )
        return {**_key(conn, now, key), "key": text}

    told = await client.wallet.transactions.run(write)
    await client.keys.load()
    return told


async def keys_set(client: Client, params: KeyParams) -> dict[str, Any]:
    """Change limits, models or end of a key; what is not named stays."""

    def write(conn: Connection, now: float) -> dict[str, Any]:
        known = app_keys.load(conn, params.name)
        limits = replace(known.limits, **params.limits.model_dump(exclude_unset=True))
        models = known.models if params.models is None else params.models
        key = app_keys.change(
            conn,
            params.name,
            limits=limits,
            models=None if models == "any" else models,
            expires_at=params.expires_at(now, known.expires_at),
        )
        return _key(conn, now, key)

    told = await client.wallet.transactions.run(write)
    await client.keys.load()
    return told


async def keys_remove(client: Client, params: KeyNameParams) -> dict[str, Any]:
    """Take a key away: its app is refused from now on."""
    key = await client.wallet.transactions.run(app_keys.remove, params.name)
    await client.keys.load()
    return {"name": key.name}


async def keys_rotate(client: Client, params: KeyNameParams) -> dict[str, Any]:
    """Put another key in the place of one, with its budgets and what it has spent; it is told this once."""

    def write(conn: Connection, now: float) -> dict[str, Any]:
        key, text = app_keys.rotate(conn, params.name)
        return {**_key(conn, now, key), "key": text}

    told = await client.wallet.transactions.run(write)
    await client.keys.load()
    return told


async def approvals_(client: Client, _params: NoParams) -> list[dict[str, Any]]:
    """List the calls that wait for approval, oldest first."""

    def read(conn: Connection, _now: float) -> list[dict[str, Any]]:
        names = app_keys.names(conn)
        return [_approval(approval, names) for approval in approvals.waiting(conn)]

    return await client.wallet.transactions.run(read)


async def approve(client: Client, params: ApprovalParams) -> dict[str, Any]:
    """Let a call that waits be paid, or the same one when it is made again."""
    return await _decide(client, params.id, approve=True)


async def deny(client: Client, params: ApprovalParams) -> dict[str, Any]:
    """Refuse a call that waits, and the same one when it is made again soon."""
    return await _decide(client, params.id, approve=False)


async def _decide(client: Client, approval_id: str, *, approve: bool) -> dict[str, Any]:
    approval = await client.approvals.decide(approval_id, approve=approve)
    names = await client.wallet.transactions.run(lambda conn, _now: app_keys.names(conn))
    return {**_approval(approval, names), "holds_minutes": client.settings.budgets.approval_minutes}


def _key(conn: Connection, now: float, key: AppKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "models": None if key.models is None else list(key.models),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "expired": key.expires_at is not None and now >= key.expires_at,
        "limits": list(_lines(spending.account_of(conn, now, key, key.limits), now)),
    }


def _lines(account: Account, now: float) -> Iterator[dict[str, Any]]:
    for line in account.lines(now):
        if account.key is not None or line.name != "total":
            yield _line(line)


def _line(line: Line) -> dict[str, Any]:
    return {
        "window": line.name,
        "limit_msat": line.limit_msat,
        "spent_msat": None if line.name == "request" else line.spent_msat,
        "left_msat": line.left_msat,
        "renews_at": line.renews_at,
    }


def _approval(approval: Approval, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": approval.id,
        "state": approval.state.value,
        "key": names.get(approval.key_id or ""),
        "model": approval.model,
        "gateway": approval.gateway,
        "amount_msat": approval.amount_msat,
        "since": approval.asked_at,
    }
