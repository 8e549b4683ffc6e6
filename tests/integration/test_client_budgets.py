"""Budgets, keys, the pause and approvals, as an app meets them: with money of a real mint, over HTTP."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from otrta_cli.processes import Running
from proxy_trio import calls
from proxy_trio.client_settings import WALLET_FILE, ClientSettings
from tests.integration.customer import HI, QUOTE_MSAT, Customer, customer, error_code, until
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import ScriptedGateway, answer, scripted_gateway, sell

pytestmark = [pytest.mark.integration, pytest.mark.trio]

FUNDS = 100_000
DEAR = {**HI, "max_tokens": 400}
DEAR_MSAT = 2_050


def under(**settings: Any) -> ClientSettings:
    return ClientSettings.model_validate(settings)


@asynccontextmanager
async def shop(
    home: Path, mint: Running, purse: Purse, settings: ClientSettings, sales: int = 8
) -> AsyncIterator[tuple[Customer, ScriptedGateway]]:
    """A gateway that sells a few calls, and an app in front of a wallet that could pay for many."""
    async with (
        scripted_gateway(purse, *[sell()] * sales) as gateway,
        customer(home, gateway.url, mint=mint.url, funds=FUNDS, settings=settings) as app,
    ):
        yield app, gateway


async def spent(app: Customer) -> int:
    """What all calls have spent, by the same books that budgets are reckoned from."""
    return (await app.db.run(lambda conn, _now: calls.spent_since(conn, [0.0])))[0]


async def test_many_calls_at_once_never_go_beyond_a_budget(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    replies: list[httpx.Response] = []
    async with shop(tmp_path, mint, purse, under(budgets={"per_day_sat": 2})) as (app, gateway):

        async def ask() -> None:
            replies.append(await app.ask())
            assert await spent(app) <= 2_000

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(ask)
        await app.until_no_call_runs()
        codes = [reply.status_code for reply in replies]
        assert codes.count(200) == len(gateway.seen) >= 1
        assert {error_code(reply) for reply in replies if reply.status_code != 200} == {"budget_exceeded"}
        # what came back can be spent again: one after the other, more of them pass
        before = len(gateway.seen)
        assert (await app.ask()).status_code == 200
        await app.settled()
        assert len(gateway.seen) == before + 1
        assert await spent(app) == 110 * (before + 1)
        assert await app.total() == FUNDS - 110 * (before + 1)


async def test_what_is_disputed_counts_as_spent(tmp_path: Path, mint: Running, purse: Purse) -> None:
    settings = under(budgets={"per_hour_sat": 1})
    async with (
        scripted_gateway(purse, sell(540), sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS, settings=settings) as app,
    ):
        assert (await app.ask()).status_code == 200
        assert (await app.settled()).state == "disputed"
        await app.act("gateways_trust", url=gateway.url)
        reply = await app.ask()
        error = reply.json()["error"]
        assert (error["code"], error["budget"], error["left_msat"]) == ("budget_exceeded", "hour", 460)
        assert 0 < int(reply.headers["Retry-After"]) <= 3600


async def test_keys_are_asked_for_told_apart_and_kept_here(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with shop(tmp_path, mint, purse, under()) as (app, gateway):
        made = await app.act("keys_add", name="cursor", limits={"per_day_msat": 700}, models=["m"])
        key = made["key"]
        # any value will do for an app without a key, but not a wrong key of ours
        assert (await app.ask(headers={"Authorization": "Bearer sk-dummy"})).status_code == 200
        for given in (key[:-1], key + "x", "sk-otrta-app-", f"{key} {key}"):
            reply = await app.ask(headers={"Authorization": f"Bearer {given}"})
            assert (reply.status_code, error_code(reply)) == (401, "invalid_api_key")
        assert (await app.ask(headers={"x-api-key": key})).status_code == 200
        await app.settled()
        assert [entry["key"] for entry in await app.act("history", limit=2)] == ["cursor", None]
        # 590 msat are left of its budget, and one call may cost 550
        assert (await app.ask(headers={"Authorization": f"bearer {key}"})).status_code == 200
        await app.settled()
        reply = await app.ask(headers={"api-key": key})
        assert (reply.status_code, error_code(reply)) == (402, "budget_exceeded")
        assert reply.json()["error"]["key"] == "cursor"
        assert (await app.ask()).status_code == 200

        settings = app.client.settings.model_copy(update={"require_keys": True})
        app.client.put_in_force(settings)
        for path in ("/v1/chat/completions", "/v1/models", "/v1/nothing", "/models"):
            reply = await app.http.post(path, json=dict(HI), headers={"Authorization": "Bearer sk-dummy"})
            assert (reply.status_code, error_code(reply)) == (401, "invalid_api_key")
        reply = await app.http.post("/v1/messages", json=dict(HI))
        assert (reply.status_code, reply.json()["type"]) == (401, "error")
        assert (await app.http.get("/health")).status_code == 200
        await app.act("keys_set", name="cursor", limits={"per_day_msat": None})
        assert (await app.ask(headers={"x-api-key": key})).status_code == 200
        await app.act("keys_remove", name="cursor")
        assert (await app.ask(headers={"x-api-key": key})).status_code == 401
        sent = json.dumps([(seen.headers, seen.body.decode()) for seen in gateway.seen])
        assert "sk-" not in sent
        assert key[-20:] not in sent


async def test_a_key_moves_no_money_but_for_calls(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with shop(tmp_path, mint, purse, under(), sales=0) as (app, _gateway):
        key = (await app.act("keys_add", name="a"))["key"]
        for action in ("send", "pay", "balance", "keys", "keys_add", "approve", "config_set", "seed"):
            reply = await app.http.post(
                f"/_otrta/{action}",
                json={"amount_msat": 1},
                headers={"Authorization": f"Bearer {key}", "x-api-key": key},
            )
            assert (reply.status_code, error_code(reply)) == (401, "local_token_required")
        assert await app.total() == FUNDS


async def test_a_pause_a_budget_of_nothing_and_a_model_on_no_list_let_nothing_leave(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with shop(tmp_path, mint, purse, under(), sales=1) as (app, gateway):
        await app.act("pause")
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (402, "spending_paused")
        assert "otrta config resume" in reply.json()["error"]["message"]
        await app.act("resume")
        for values, status, code in (
            ({"budgets.per_day_sat": 0}, 402, "budget_exceeded"),
            ({"budgets.per_day_sat": None, "budgets.per_request_sat": 0}, 402, "budget_exceeded"),
            ({"budgets.per_request_sat": None, "budgets.models": ["gpt-*"]}, 403, "model_not_allowed"),
        ):
            await app.act("config_set", values=values)
            reply = await app.ask()
            assert (reply.status_code, error_code(reply)) == (status, code)
        assert gateway.seen == []
        await app.act("config_set", values={"budgets.models": "any"})
        assert (await app.ask()).status_code == 200


async def test_a_store_that_cannot_be_read_lets_nothing_leave(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with shop(tmp_path, mint, purse, under()) as (app, gateway):
        # without the table that says who asks, as after a broken repair by hand
        with sqlite3.connect(tmp_path / WALLET_FILE) as books:
            books.execute("ALTER TABLE calls RENAME COLUMN paid_msat TO paid")
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (500, "internal_error")
        with sqlite3.connect(tmp_path / WALLET_FILE) as books:
            books.execute("ALTER TABLE calls RENAME COLUMN paid TO paid_msat")
        assert (gateway.seen, await app.total()) == ([], FUNDS)


async def waiting(app: Customer) -> dict[str, Any]:
    """The one call that waits for approval, as soon as there is one."""

    async def is_there() -> bool:
        return bool(await app.act("approvals"))

    await until(is_there)
    (told,) = await app.act("approvals")
    return dict(told)


APPROVE = {"approve_above_sat": 1, "approval_wait_s": 20}


async def test_a_dear_call_is_held_until_the_user_has_said_yes(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    replies: list[httpx.Response] = []
    async with shop(tmp_path, mint, purse, under(budgets=APPROVE)) as (app, gateway):
        assert (await app.ask()).status_code == 200  # below the threshold

        async def ask() -> None:
            replies.append(await app.ask(DEAR))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            told = await waiting(app)
            assert (told["model"], told["amount_msat"], told["key"]) == ("m", DEAR_MSAT, None)
            assert len(gateway.seen) == 1
            await app.act("approve", id=told["id"])
        assert replies[0].status_code == 200
        assert gateway.seen[1].token.amount == DEAR_MSAT  # what was approved, and not a token of twice that
        await app.settled()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await app.act("deny", id=(await waiting(app))["id"])
        assert (replies[1].status_code, error_code(replies[1])) == (403, "approval_denied")
        reply = await app.ask(DEAR)
        assert error_code(reply) == "approval_denied"
        assert await app.total() == FUNDS - 2 * 110


async def test_what_nobody_approves_is_told_how_and_the_same_call_passes_later_even_after_a_restart(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    settings = under(budgets={**APPROVE, "approval_wait_s": 0})
    async with scripted_gateway(purse, answer(500), sell()) as gateway:
        async with customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS, settings=settings) as app:
            for _ in range(2):  # an app that tries again asks no second time
                reply = await app.ask(DEAR)
                error = reply.json()["error"]
                assert (reply.status_code, error["code"]) == (402, "approval_required")
                assert f"otrta pending approve {error['approval_id']}" in error["message"]
            assert (await waiting(app))["id"] == error["approval_id"]
            assert gateway.seen == []
        async with customer(tmp_path, mint=mint.url, funds=0, settings=settings) as app:
            await app.act("approve", id=error["approval_id"])
            assert (await app.ask({**DEAR, "max_tokens": 401})).status_code == 402  # more than was approved
            # refused, so all of it comes back: the approval was not used up
            assert (await app.ask(DEAR)).status_code == 500
            assert (await app.settled()).state == "refunded"
            assert (await app.ask({**DEAR, "max_tokens": 399})).status_code == 200
            assert (await app.ask({**DEAR, "max_tokens": 399})).status_code == 402
            await app.settled()
            assert await app.total() == FUNDS - 110


async def test_an_app_that_left_while_its_call_was_held_pays_nothing(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with shop(tmp_path, mint, purse, under(budgets=APPROVE), sales=0) as (app, gateway):
        with trio.move_on_after(30) as asking:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app.ask, DEAR)
                told = await waiting(app)
                asking.cancel()
        await app.act("approve", id=told["id"])
        await app.until_no_call_runs()
        assert (gateway.seen, await app.total()) == ([], FUNDS)


async def test_an_empty_wallet_is_told_before_anybody_is_asked(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse) as gateway,
        customer(
            tmp_path, gateway.url, mint=mint.url, funds=QUOTE_MSAT, settings=under(budgets=APPROVE)
        ) as app,
    ):
        assert error_code(await app.ask(DEAR)) == "wallet_empty"
        assert await app.act("approvals") == []
