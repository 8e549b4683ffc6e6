"""Tokens that are locked to a gateway before they are needed: made, paid with, and taken back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from otrta_cli.processes import Running
from otrta_core import read_lock, schnorr
from proxy_trio import locked_pool
from proxy_trio.locked_pool import in_pools
from proxy_trio.schema import CallState
from tests.integration.customer import FUNDS, Customer, customer
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import (
    COST_MSAT,
    MIN_LOCK_S,
    ScriptedGateway,
    answer,
    scripted_gateway,
)

pytestmark = [pytest.mark.integration, pytest.mark.trio]


@dataclass
class Counting(httpx.AsyncBaseTransport):
    """Counts what goes out, by the port that it goes to."""

    carries: httpx.AsyncBaseTransport
    ports: list[int | None]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.ports.append(request.url.port)
        return await self.carries.handle_async_request(request)

    async def aclose(self) -> None:
        await self.carries.aclose()


@dataclass
class Scene:
    """A client, a gateway that takes locked tokens, and how often each was asked."""

    app: Customer
    gateway: ScriptedGateway
    ports: list[int | None] = field(default_factory=list)

    async def locked(self) -> list[int]:
        """The amounts in the pool."""
        return sorted(t.amount for _, t, _ in await self.app.db.run(lambda conn, _now: in_pools(conn)))


@asynccontextmanager
async def scene(
    home: Path, mint: Running, purse: Purse, *scripts: Any, on: bool = True
) -> AsyncIterator[Scene]:
    ports: list[int | None] = []
    async with (
        scripted_gateway(purse, *scripts, claim=remember, locks=True) as gateway,
        customer(home, gateway.url, mint=mint.url, between=lambda t: Counting(t, ports)) as app,
    ):
        if on:
            await app.client.gateways.set_lock(gateway.url, on=True)
        yield Scene(app, gateway, ports)


async def test_a_call_is_paid_with_a_token_that_was_locked_before_and_no_mint_is_asked(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with scene(tmp_path, mint, purse, trade(), trade()) as it:
        assert (await it.app.ask()).status_code == 200
        assert await it.app.client.pool.fill()
        assert await it.locked() == [1024, 1024]
        it.ports.clear()
        assert (await it.app.ask()).status_code == 200
        assert mint.port not in it.ports
        first, second = (seen.token for seen in it.gateway.seen)
        assert [read_lock(proof.secret) for proof in first.proofs] == [None] * len(first.proofs)
        (proof,) = second.proofs
        lock = read_lock(proof.secret)
        assert lock is not None
        assert lock.data == schnorr.public_key(it.gateway.lock_key)
        assert lock.refund == (it.app.client.wallet.lock_keys.public,)
        assert (lock.locktime or 0) > it.app.db.now() + MIN_LOCK_S
        assert proof.dleq is not None
        assert first.memo != second.memo
        await it.app.settled()
        assert await it.app.total() == FUNDS - 2 * COST_MSAT
        assert {call.state for call in await it.app.paid()} == {CallState.DONE}


async def test_nothing_is_locked_unless_it_was_switched_on(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with scene(tmp_path, mint, purse, trade(), trade(), on=False) as it:
        for _ in range(2):
            await it.app.ask()
            await it.app.client.pool.fill()
        assert await it.locked() == []
        tokens = [seen.token for seen in it.gateway.seen]
        assert not any(read_lock(proof.secret) or proof.dleq for token in tokens for proof in token.proofs)


async def test_what_is_locked_is_told_as_pending_and_counts_in_the_balance(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with scene(tmp_path, mint, purse, trade()) as it:
        await it.app.ask()
        await it.app.client.pool.fill()
        await it.app.settled()
        lines = await it.app.pending()
        assert [(line["gateway"], line["paid_msat"]) for line in lines] == [(it.gateway.url, 1024)] * 2
        assert all("locked to this gateway" in line["reason"] for line in lines)
        balance = await it.app.balance()
        assert (balance["pending_msat"], balance["total_msat"]) == (2048, FUNDS - COST_MSAT)
        assert await it.app.act("sent") == []  # the user sent none of them


async def test_a_locked_token_that_never_left_goes_back_into_the_pool(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with customer(tmp_path, mint=mint.url) as app:
        async with scripted_gateway(purse, trade(), claim=remember, locks=True) as gateway:
            await app.client.gateways.add(gateway.url)
            await app.client.gateways.set_lock(gateway.url, on=True)
            await app.ask()
            await app.client.pool.fill()
        it = Scene(app, gateway)
        before = await it.locked()
        assert (await app.ask()).status_code == 502
        assert await it.locked() == before == [1024, 1024]
        assert (await app.paid())[0].state is CallState.REFUNDED


async def test_a_locked_token_that_is_refused_is_given_back_by_the_change_route(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    refuse = answer(400, {"error": {"code": "lock_not_accepted", "message": "no"}})
    async with scene(tmp_path, mint, purse, trade(), refuse) as it:
        await it.app.ask()
        await it.app.client.pool.fill()

        async def give_back(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Any) -> None:
            if seen.token.proofs[0].Y not in gateway.given:
                await trade(0, says=False)(gateway, stream, seen)
            else:
                await remember(gateway, stream, seen)

        it.gateway.claim = give_back
        assert (await it.app.ask()).status_code == 400
        await it.app.settled()
        await it.app.settled()
        assert await it.app.total() == FUNDS - COST_MSAT
        assert {call.state for call in await it.app.paid()} == {CallState.DONE}


async def test_a_token_whose_lock_is_over_is_taken_back_with_our_own_key(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locked_pool, "_MARGIN_S", 0)
    async with scene(tmp_path, mint, purse, trade()) as it:
        it.gateway.info["lock"]["min_lock_s"] = 0
        await it.app.client.gateways.info(it.gateway.url, fresh=True)
        it.app.client.pool._spare_s = 2
        await it.app.ask()
        await it.app.client.pool.fill()
        assert await it.locked() == [1024, 1024]
        with trio.fail_after(20):
            while await it.locked():
                await it.app.client.pool.take_back()
                await trio.sleep(0.2)
        await it.app.settled()
        assert (await it.app.balance())["available_msat"] == FUNDS - COST_MSAT
        assert await it.app.pending() == []


async def test_a_small_wallet_is_not_locked_away(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with scene(tmp_path, mint, purse, trade()) as it:
        await it.app.ask({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 900})
        await it.app.client.pool.fill()
        assert await it.locked() == []  # a token would be 8192 of 10,000


async def test_our_gateway_takes_what_was_locked_for_it(
    tmp_path: Path, mint: Running, gateway: Running
) -> None:
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    async with customer(tmp_path, gateway.url, mint=mint.url) as app:
        await app.client.gateways.set_lock(gateway.url, on=True)
        before: set[str] = set()
        for number in range(3):
            assert (await app.ask(body)).status_code == 200
            assert await app.client.pool.fill()
            after = {t.id for _, t, _ in await app.db.run(lambda conn, _now: in_pools(conn))}
            assert len(after) == 2
            assert number == 0 or len(before - after) == 1  # one of them paid
            before = after
        await app.settled()
        assert await app.total() == FUNDS - 3 * COST_MSAT
        assert {call.state for call in await app.paid()} == {CallState.DONE}
