"""What a gateway learns from fifty calls of one payer, and what is left on the payer's disk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from otrta_cli.processes import Running
from otrta_core import Token
from proxy_trio.client_settings import ClientSettings
from proxy_trio.schema import CallState
from proxy_trio.swapping import PATIENCE
from tests.integration.customer import FUNDS as FUNDS_BY_DEFAULT
from tests.integration.customer import Customer, customer
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import (
    ANSWER,
    COST_MSAT,
    JSON,
    ScriptedGateway,
    Seen,
    scripted_gateway,
    send,
)
from tests.integration.watching import TRAITS, shared, table

pytestmark = [pytest.mark.integration, pytest.mark.trio]

CALLS = 50
SIDE_BY_SIDE = 5
FUNDS = 60_000
QUICK = ClientSettings.model_validate({"privacy": {"swap_delay_s": 0.5}})
APPS: tuple[dict[str, str], ...] = (
    {"user-agent": "OpenAI/Python 1.2", "x-stainless-os": "Linux", "accept": "application/json"},
    {"user-agent": "curl/8", "accept": "*/*", "cookie": "session=1"},
    {"authorization": "Bearer sk-app", "accept": "text/event-stream", "x-request-id": "7"},
    {"content-type": "application/json; charset=utf-8", "x-forwarded-for": "10.1.2.3", "priority": "u=1"},
    {"x-api-key": "sk-ant", "referer": "http://notes.local/", "accept-language": "de", "traceparent": "00-1"},
)
WHO = {"user": "me@home", "metadata": {"app": "notes"}, "safety_identifier": "u-7", "prompt_cache_key": "k"}


def body(number: int) -> dict[str, Any]:
    """What the n-th call asks; apps say who they are in different ways."""
    who = dict(list(WHO.items())[: number % 5])
    text = f"question {number}" + "?" * (number % 7)
    return {
        "model": "m",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 20 + 37 * (number % 11),
        "stream": number % 3 == 0,
        **who,
    }


async def as_asked(gateway: ScriptedGateway, connection: trio.SocketStream, seen: Seen) -> None:
    """Sell what was asked for, as a stream or plainly."""
    await trade(stream=json.loads(seen.body)["stream"])(gateway, connection, seen)


async def make_calls(app: Customer, numbers: range) -> None:
    """Make calls from several apps, a few at a time, while change is swapped in the background."""
    limit = trio.CapacityLimiter(SIDE_BY_SIDE)

    async def call(number: int) -> None:
        async with limit:
            reply = await app.ask(body(number), headers=APPS[number % len(APPS)])
            assert reply.status_code == 200

    async with trio.open_nursery() as background:
        background.start_soon(app.client.swapper.run)
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(call, number)
        background.cancel_scope.cancel()


async def test_fifty_calls_are_linked_by_no_money_no_connection_and_no_header(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, *[as_asked] * CALLS, claim=remember, keeps_alive=True) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=FUNDS, settings=QUICK) as app,
    ):
        await make_calls(app, range(CALLS))
        seen = gateway.seen
        print(table(seen))  # noqa: T201  # shown by pytest -s: docs/client.md explains it
        assert len(seen) == CALLS
        same = {trait.name: shared(seen, trait) for trait in TRAITS}
        for name in ("connection", "secret", "C", "Y", "memo", "DLEQ"):
            assert not same[name], name
        given = [Token.parse(change) for change in gateway.given.values() if change]
        assert len(given) == CALLS
        from_the_gateway = {
            value for token in given for proof in token.proofs for value in (proof.secret, proof.C)
        }
        paid = {value for each in seen for proof in each.token.proofs for value in (proof.secret, proof.C)}
        assert not paid & from_the_gateway
        assert not any(proof.dleq or proof.witness for each in seen for proof in each.token.proofs)
        assert {len(each.token.memo or "") for each in seen} == {32}
        (lines,) = {
            tuple((n, v) for n, v in each.headers if n not in ("x-cashu", "content-length")) for each in seen
        }
        assert dict(lines).keys() == {"host", "content-type", "accept", "accept-encoding", "x-cashu-change"}
        assert not any(who in json.loads(each.body) for each in seen for who in WHO)
        await app.settled()
        spent = sum(token.amount for token in gateway.taken) - sum(token.amount for token in given)
        assert (await app.total(), await app.pending()) == (FUNDS - spent, [])


async def test_each_calls_change_is_swapped_by_itself(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse, *[trade() for _ in range(4)], claim=remember) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, settings=QUICK) as app,
    ):
        for number in range(1, 5):
            await app.ask({**body(number), "stream": False})
        kept = await app.client.wallet.kept()
        assert len(kept) == 4
        given = [Token.parse(change).amount for change in gateway.given.values()]
        assert sorted(operation.amount for operation in kept) == sorted(given)
        await app.settled()
        assert await app.client.wallet.kept() == []


async def test_the_change_of_several_calls_shares_a_swap_where_the_user_wants_it(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    settings = ClientSettings.model_validate({"privacy": {"merge_change": True}})
    posts: list[str] = []
    async with (
        scripted_gateway(purse, *[trade() for _ in range(3)], claim=remember) as gateway,
        customer(
            tmp_path,
            gateway.url,
            mint=mint.url,
            settings=settings,
            between=lambda transport: Listening(transport, posts),
        ) as app,
    ):
        for number in range(1, 4):
            await app.ask({**body(number), "stream": False})
        assert len(await app.client.wallet.kept()) == 3
        posts.clear()
        assert await app.client.swapper.swap_now()
        assert posts.count("/v1/swap") == 1
        await app.settled()
        assert {call.state for call in await app.paid()} == {CallState.DONE}
        assert (await app.total(), await app.pending()) == (FUNDS_BY_DEFAULT - 3 * COST_MSAT, [])


async def test_false_change_that_shares_a_swap_is_found_out_and_the_rest_is_taken(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async def cheat(gateway: ScriptedGateway, connection: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        real = await gateway.money(paid.amount - COST_MSAT)
        made_up = replace(real, proofs=tuple(replace(proof, secret="0" * 64) for proof in real.proofs[:1]))
        await send(connection, 200, {**JSON, "X-Cashu": made_up.encode()}, ANSWER)

    settings = ClientSettings.model_validate({"privacy": {"merge_change": True}})
    async with (
        scripted_gateway(purse, trade(), cheat, trade(), claim=remember) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, settings=settings) as app,
    ):
        for number in range(1, 4):
            await app.client.gateways.trust(gateway.url)
            await app.ask({**body(number), "stream": False})
        for _ in range(PATIENCE):
            await app.client.swapper.swap_now()
        await app.settled()
        states = sorted(call.state for call in await app.paid())
        assert states == [CallState.DISPUTED, CallState.DONE, CallState.DONE]
        lost = gateway.taken[1].amount - COST_MSAT
        available = (await app.balance())["available_msat"]
        assert available == FUNDS_BY_DEFAULT - 3 * COST_MSAT - lost


class Listening(httpx.AsyncBaseTransport):
    """Notes the paths of POSTs."""

    def __init__(self, carries: httpx.AsyncBaseTransport, posts: list[str]) -> None:
        self._carries = carries
        self._posts = posts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self._posts.append(request.url.path)
        return await self._carries.handle_async_request(request)

    async def aclose(self) -> None:
        await self._carries.aclose()
