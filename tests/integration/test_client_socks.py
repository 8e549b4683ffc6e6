"""Gateways and mints behind a SOCKS proxy: names are its business, and nothing goes around it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from otrta_cli.processes import Running
from otrta_core import OtrtaError
from proxy_trio.client_settings import ClientSettings
from proxy_trio.schema import CallState
from proxy_trio.settings import ForwardSettings
from tests.integration.customer import FUNDS, Customer, customer, error_code
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import COST_MSAT, ScriptedGateway, scripted_gateway
from tests.integration.socks_server import NAME, SocksServer, socks_server

pytestmark = [pytest.mark.integration, pytest.mark.trio]

GATEWAY, MINT = "gateway.test", "mint.test"  # no name server knows them, and tests may ask none


@pytest.fixture(scope="module")
def named_purse(mint: Running) -> Iterator[Purse]:
    """Makes tokens of a mint that is known by a name."""
    with Purse(mint.url, named=f"http://{MINT}") as purse:
        yield purse


@dataclass
class Scene:
    """A client that reaches both by the proxy."""

    app: Customer
    gateway: ScriptedGateway
    socks: SocksServer


@asynccontextmanager
async def scene(
    home: Path, mint: Running, purse: Purse, calls: int, *, users: bool = True, **settings: Any
) -> AsyncIterator[Scene]:
    async with (
        scripted_gateway(purse, *[trade() for _ in range(calls)], claim=remember) as gateway,
        socks_server({GATEWAY: int(gateway.url.rpartition(":")[2]), MINT: mint.port}) as socks,
    ):
        socks.users = users
        chosen = ClientSettings.model_validate({"proxy": socks.url, **settings})
        async with customer(
            home,
            f"http://{GATEWAY}",
            mint=purse.url,
            settings=chosen,
            forward=ForwardSettings(connect_s=0.5, stop_s=0.5),
            own_ways=True,
        ) as app:
            yield Scene(app, gateway, socks)


async def test_all_that_a_paid_call_needs_goes_through_the_proxy_by_name(
    tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 2) as it:
        for _ in range(2):
            assert (await it.app.ask()).status_code == 200
            await it.app.settled()
        assert await it.app.total() == FUNDS - 2 * COST_MSAT
        assert {(asked.kind, asked.host, asked.port) for asked in it.socks.asked} == {
            (NAME, GATEWAY, 80),
            (NAME, MINT, 80),
        }


async def test_each_place_is_asked_for_under_a_name_of_its_own(
    tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 2) as it:
        for _ in range(2):
            await it.app.ask()
        await it.app.settled()
        (for_gateway,), (for_mint,) = set(it.socks.names_of(GATEWAY)), set(it.socks.names_of(MINT))
        assert for_gateway != for_mint
        assert len(it.socks.names_of(GATEWAY)) >= 3  # the info and two calls, each by a connection of its own


async def test_each_call_can_have_a_circuit_of_its_own(
    tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 3, privacy={"call_circuits": True}) as it:
        for _ in range(3):
            await it.app.ask()
        names = it.socks.names_of(GATEWAY)
        assert len(set(names)) == len(names) >= 4


async def test_a_proxy_without_users_is_used_too(tmp_path: Path, mint: Running, named_purse: Purse) -> None:
    async with scene(tmp_path, mint, named_purse, 1, users=False) as it:
        assert (await it.app.ask()).status_code == 200


@pytest.mark.parametrize("trouble", ["silent", "refuses", "gone"])
async def test_nothing_goes_around_a_proxy_that_does_not_work(
    trouble: str, tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 1) as it:
        if trouble == "gone":
            await it.app.client.ways.put(it.app.db, f"http://{GATEWAY}", "socks5h://127.0.0.1:1")
        it.socks.silent = trouble == "silent"
        it.socks.ports = {} if trouble == "refuses" else it.socks.ports
        reply = await it.app.ask()
        assert (reply.status_code, error_code(reply)) == (502, "gateway_unreachable")
        assert it.gateway.seen == []
        (paid,) = await it.app.paid()
        assert (paid.state, await it.app.total()) == (CallState.REFUNDED, FUNDS)
        assert await it.app.pending() == []


async def test_a_way_that_is_set_holds_after_a_start_and_goes_before_the_settings(
    tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 1) as it:
        await it.app.client.ways.put(it.app.db, f"http://{GATEWAY}", "socks5h://me:word@127.0.0.1:9")
        assert it.app.client.ways.describe(f"http://{GATEWAY}/v1") == "socks5h://127.0.0.1:9"
    async with scene(tmp_path, mint, named_purse, 1) as it:
        assert it.app.client.ways.describe(f"http://{GATEWAY}") == "socks5h://127.0.0.1:9"
        await it.app.client.ways.put(it.app.db, f"http://{GATEWAY}", None)
        assert (await it.app.ask()).status_code == 200


async def test_a_place_that_is_added_by_a_proxy_is_reached_by_it_and_one_that_cannot_be_added_keeps_its_way(
    tmp_path: Path, mint: Running, named_purse: Purse
) -> None:
    async with scene(tmp_path, mint, named_purse, 1) as it:
        added = await it.app.act("gateways_add", url=f"http://{GATEWAY}", proxy=it.socks.url)
        assert added["proxy"] == it.socks.url
        with pytest.raises(OtrtaError):
            await it.app.act("gateways_add", url=f"http://{GATEWAY}", proxy="socks5h://me:word@127.0.0.1:1")
        assert [entry["proxy"] for entry in await it.app.act("gateways")] == [it.socks.url]
        assert (await it.app.ask()).status_code == 200
        assert [place["proxy"] for place in await it.app.act("mints")] == [it.socks.url]
        told = await it.app.act("gateways_lock", url=f"http://{GATEWAY}", on=True)
        assert told == {"url": f"http://{GATEWAY}", "locks": True}
