"""A network that fails between a client and its gateway, or its mint: nothing is lost, whatever it does."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio

from otrta_cli.processes import Running
from otrta_wallet.custody import HELD_S
from otrta_wallet.executor import LANDS_WITHIN_S
from proxy_trio import wallet_payer
from proxy_trio.call_recovery import SILENCE_S
from proxy_trio.schema import CallState
from proxy_trio.settings import ForwardSettings
from tests.fault_proxy import FAULTS, Fault, FaultProxy, fault_proxy
from tests.integration.counting import assert_all_there, nothing_open
from tests.integration.customer import HI, Customer, customer
from tests.integration.honest import remember, trade
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import COST_MSAT, Script, ScriptedGateway, answer, scripted_gateway
from tests.long_summary import Ledger

pytestmark = [pytest.mark.integration, pytest.mark.trio]

LONG = os.environ.get("OTRTA_LONG") == "1"
PPK = 100
HASTY_S = 0.6
HOUR_S = 3600.0
NO_LIMIT = {key: value for key, value in HI.items() if key != "max_tokens"}
PARTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
AWAY = Fault("away", forwards=0, keeps=None)


@dataclass(frozen=True)
class Spot:
    """Where something goes wrong: whose network, which requests, and what is done.

    Attributes:
        script: what the gateway does with a call.
    """

    name: str
    network: str
    path: str
    script: Script
    parts: tuple[int, ...] = PARTS
    body: dict[str, Any] = field(default_factory=lambda: dict(HI))

    def __str__(self) -> str:
        return self.name


SPOTS: Final = (
    Spot("call", "gateway", r"/chat/completions$", trade(ppk=PPK)),
    Spot("change-route", "gateway", r"/change$", trade(says=False, ppk=PPK)),
    Spot("swap-of-change", "mint", r"/swap$", trade(ppk=PPK)),
    Spot(
        "streamed-call",
        "gateway",
        r"/chat/completions$",
        trade(stream=True, ppk=PPK),
        body={**HI, "stream": True},
    ),
    Spot("swap-first", "mint", r"/swap$", trade(ppk=PPK), parts=(4096,)),
    Spot("taking-back", "mint", r"/swap$", answer(503, {"error": {"message": "away"}})),
    Spot(
        "state-of-a-token",
        "mint",
        r"/checkstate$",
        trade(None, ppk=PPK),
        parts=(*PARTS, 4096),
        body=NO_LIMIT,
    ),
)


def cases() -> list[Any]:
    """Every fault at every spot in a long run; otherwise each fault at one of them."""
    pairs = list(product(FAULTS, SPOTS))
    if not LONG:
        pairs = [(fault, SPOTS[number % len(SPOTS)]) for number, fault in enumerate(FAULTS)]
    return [pytest.param(fault, spot, id=f"{spot}-{fault}") for fault, spot in pairs]


@pytest.fixture(scope="module")
def mint_network(fee_mint: Running) -> Iterator[FaultProxy]:
    with fault_proxy(fee_mint.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def gateway_network() -> Iterator[FaultProxy]:
    with fault_proxy(1) as proxy:
        yield proxy


@pytest.fixture
def networks(mint_network: FaultProxy, gateway_network: FaultProxy) -> Iterator[dict[str, FaultProxy]]:
    """What is between a client and the two that it talks to."""
    found = {"mint": mint_network, "gateway": gateway_network}
    for network in found.values():
        network.reset()
    yield found
    for network in found.values():
        network.reset()


@pytest.fixture(scope="module")
def purse(mint_network: FaultProxy, fee_mint: Running) -> Iterator[Purse]:
    """Makes tokens of the mint by the name under which the client knows it."""
    with Purse(fee_mint.url, named=mint_network.url) as purse:
        yield purse


@dataclass
class Scene:
    """A client with money, its gateway, and the clock."""

    app: Customer
    gateway: ScriptedGateway
    had: int
    ahead_s: float = 0.0

    def later(self) -> None:
        """Let so much time pass that what was posted has landed or never will."""
        self.ahead_s += LANDS_WITHIN_S + 1

    async def ask(self, body: dict[str, Any]) -> httpx.Response | None:
        """Make a call; None where its answer does not come whole."""
        with suppress(httpx.RemoteProtocolError):
            return await self.app.ask(body)
        return None


@asynccontextmanager
async def scene(
    home: Path,
    networks: dict[str, FaultProxy],
    purse: Purse,
    *scripts: Script,
    parts: tuple[int, ...] = PARTS,
    idle_s: float = 30,
) -> AsyncIterator[Scene]:
    async with scripted_gateway(purse, *scripts, claim=remember) as gateway:
        networks["gateway"].upstream_port = int(gateway.url.rpartition(":")[2])
        found: Scene | None = None
        async with customer(
            home,
            networks["gateway"].url,
            mint=networks["mint"].url,
            funds=0,
            forward=ForwardSettings(idle_s=idle_s, stop_s=0.5),
            clock=lambda: time.time() + (found.ahead_s if found else 0),
        ) as app:
            if parts:
                await app.keep_as_it_is(await gateway.money(sum(parts), parts=parts))
            found = Scene(app, gateway, sum(parts))
            yield found


@pytest.mark.parametrize(("fault", "spot"), cases())
async def test_no_fault_loses_money(
    fault: Fault, spot: Spot, tmp_path: Path, networks: dict[str, FaultProxy], purse: Purse, ledger: Ledger
) -> None:
    network = networks[spot.network]
    idle_s = HASTY_S if fault.silent_s else 30
    async with scene(
        tmp_path, networks, purse, spot.script, spot.script, parts=spot.parts, idle_s=idle_s
    ) as it:
        network.spoil(spot.path, fault)
        await it.ask(spot.body)
        await it.app.client.recover_once(at_once=True)
        await it.app.client.swapper.swap_now()
        assert network.met == [fault]
        await trio.to_thread.run_sync(network.wait_until_landed)
        await nothing_open(it.app, it.later)
        it.ahead_s += HELD_S + 1
        await nothing_open(it.app, it.later)
        # a refusal that somebody between the two made up costs nothing, so what was charged is disputed
        made_up = (
            "call" in spot.name and fault.answer is not None and fault.answer[0] >= 400 and fault.forwards
        )
        disputed_msat = COST_MSAT if made_up and it.gateway.taken else 0
        await assert_all_there(it.app, purse, it.gateway, it.had, disputed_msat=disputed_msat)
        ledger.add(calls=1, faults=1, msat_in=it.had, msat_out=it.had)


def away(network: FaultProxy, path: str = "") -> None:
    """Have nobody answer behind this network, or on these paths, until it is reset."""
    network.spoil(path, *[AWAY] * 1_000)


@pytest.fixture(autouse=True)
def hasty_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that does not wait for long for a payment to come back from a gateway that failed."""
    monkeypatch.setattr(wallet_payer, "BACK_WITHIN_S", 0.3)


async def test_a_gateway_that_is_gone_for_an_hour_with_our_money_is_named_and_gives_it_back_later(
    tmp_path: Path, networks: dict[str, FaultProxy], purse: Purse, ledger: Ledger
) -> None:
    async with scene(tmp_path, networks, purse, trade(says=False, ppk=PPK)) as it:
        away(networks["gateway"], r"/(change|refund)$")
        await it.ask(dict(HI))
        away(networks["gateway"])
        began = it.ahead_s
        while it.ahead_s < began + SILENCE_S:
            await it.app.client.recover_once(at_once=True)
            (line,) = await it.app.pending()
            assert (line["gateway"], line["state"]) == (networks["gateway"].url, "awaiting_change")
            assert line["reason"]
            assert (await it.app.balance())["total_msat"] == it.had
            it.ahead_s += HOUR_S / 4
        await it.app.client.recover_once(at_once=True)
        (line,) = await it.app.pending()
        assert (line["state"], line["paid_msat"]) == ("disputed", it.gateway.taken[0].amount)
        networks["gateway"].reset()
        await nothing_open(it.app, it.later)
        (paid,) = await it.app.paid()
        assert paid.state is CallState.DONE
        await assert_all_there(it.app, purse, it.gateway, it.had)
        ledger.add(calls=1, faults=1, msat_in=it.had, msat_out=it.had)


async def test_a_gateway_that_is_gone_for_an_hour_before_it_took_the_money_keeps_none_of_it(
    tmp_path: Path, networks: dict[str, FaultProxy], purse: Purse, ledger: Ledger
) -> None:
    async with scene(tmp_path, networks, purse) as it:
        await it.app.client.gateways.info(networks["gateway"].url)
        away(networks["gateway"])
        assert (await it.app.ask(dict(HI))).status_code == 502
        await nothing_open(it.app, it.later)
        (paid,) = await it.app.paid()
        assert paid.state is CallState.REFUNDED
        await assert_all_there(it.app, purse, it.gateway, it.had)
        ledger.add(calls=1, faults=1, msat_in=it.had, msat_out=it.had)


async def test_a_mint_that_is_gone_for_an_hour_holds_up_no_call_that_proofs_at_hand_pay(
    tmp_path: Path, networks: dict[str, FaultProxy], purse: Purse, ledger: Ledger
) -> None:
    refuse = answer(503, {"error": {"message": "away"}})
    scripts = trade(ppk=PPK), refuse, trade(ppk=PPK)
    async with scene(tmp_path, networks, purse, *scripts, parts=(*PARTS, 1024)) as it:
        away(networks["mint"])
        statuses = [(await it.app.ask(dict(HI))).status_code for _ in range(3)]
        assert statuses == [200, 503, 200]
        for _ in range(4):
            await it.app.client.recover_once(at_once=True)
            await it.app.client.swapper.swap_now()
            spent = sum(call.spent_msat for call in await it.app.paid() if call.state is CallState.DONE)
            assert await it.app.total() == it.had - spent
            (line,) = await it.app.pending()
            assert (line["state"], line["gateway"]) == ("awaiting_change", networks["gateway"].url)
            assert "HTTP 503" in line["reason"]
            it.ahead_s += HOUR_S / 4
        networks["mint"].reset()
        await nothing_open(it.app, it.later)
        states = [call.state for call in await it.app.paid()]
        assert states == [CallState.DONE, CallState.REFUNDED, CallState.DONE]
        await assert_all_there(it.app, purse, it.gateway, it.had)
        ledger.add(calls=3, faults=1, msat_in=it.had, msat_out=it.had)


async def test_a_client_that_starts_with_everybody_gone_waits_and_loses_nothing(
    tmp_path: Path, networks: dict[str, FaultProxy], purse: Purse, ledger: Ledger
) -> None:
    async with scene(tmp_path, networks, purse, trade(says=False, ppk=PPK)) as it:

        async def never(*_: object) -> None:
            raise RuntimeError

        it.app.client.payer.on_end = never  # type: ignore[method-assign]  # as when it is killed before
        away(networks["gateway"], r"/(change|refund)$")
        await it.ask(dict(HI))
        taken, given, had = it.gateway.taken, it.gateway.given, it.had
    for network in networks.values():
        away(network)
    async with scene(tmp_path, networks, purse, parts=()) as it:
        it.gateway.taken, it.gateway.given, it.had = taken, given, had
        for _ in range(3):
            assert await it.app.client.recover_once(at_once=True) == 1
            (line,) = await it.app.pending()
            assert (line["state"], await it.app.total()) == ("awaiting_change", had)
            it.ahead_s += HOUR_S / 3 - 1
        for network in networks.values():
            network.reset()
        await nothing_open(it.app, it.later)
        await assert_all_there(it.app, purse, it.gateway, it.had)
        ledger.add(calls=1, kills=1, faults=1, msat_in=had, msat_out=had)
