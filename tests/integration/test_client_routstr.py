"""A Routstr node is a gateway: its prices are read, it is paid what it wants, and its change is kept."""

from pathlib import Path

import pytest

from otrta_cli.processes import Running
from proxy_trio import call_recovery
from proxy_trio.routstr import with_slack
from tests.integration.customer import FUNDS, HI, QUOTE_MSAT, CallState, customer
from tests.integration.purse import Purse
from tests.integration.routstr_node import COST_MSAT, STREAM, routstr_node

pytestmark = [pytest.mark.integration, pytest.mark.trio]


@pytest.mark.parametrize("unit", ["msat", "sat"])
async def test_a_call_is_paid_by_the_prices_of_the_node_and_its_change_is_kept(
    unit: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        routstr_node(purse) as node,
        customer(tmp_path, node.url, mint=mint.url, unit=unit) as app,
    ):
        assert (await app.ask()).status_code == 200
        (seen,) = node.seen
        assert "x-cashu-change" not in dict(seen.headers)
        factor = 1000 if unit == "sat" else 1
        assert seen.token.amount * factor >= QUOTE_MSAT
        paid = await app.settled()
        cost = COST_MSAT if unit == "msat" else 1000
        assert (paid.state, await app.total(), await app.pending()) == (
            CallState.DONE,
            FUNDS * factor - cost,
            [],
        )
        assert node.claims == []


async def test_change_of_a_stream_comes_in_the_header(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        routstr_node(purse) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        reply = await app.ask({**HI, "stream": True})
        assert (reply.status_code, reply.content) == (200, STREAM)
        assert (await app.settled()).state is CallState.DONE
        assert await app.total() == FUNDS - COST_MSAT


async def test_without_a_limit_the_node_gets_what_its_model_could_cost_and_gives_the_rest_back(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    body = {name: value for name, value in HI.items() if name != "max_tokens"}
    async with (
        routstr_node(purse, asks=5002) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        assert (await app.ask(body)).status_code == 200
        assert len(node.seen) == 1
        assert (await app.settled()).state is CallState.DONE
        assert await app.total() == FUNDS - COST_MSAT


async def test_what_its_402_wants_is_paid_once_with_the_token_taken_back(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        routstr_node(purse, asks=1000) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 200
        first, second = node.seen
        assert first.token.amount < 1000 <= second.token.amount
        await app.settled()
        assert (await app.pending(), await app.total()) == ([], FUNDS - COST_MSAT)


@pytest.mark.parametrize(("failing", "status"), [("upstream", 500), ("redeem", 503)])
async def test_a_failed_call_costs_nothing(
    failing: str, status: int, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        routstr_node(purse, failing=failing) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == status
        paid = await app.settled()
        assert (paid.state in (CallState.DONE, CallState.REFUNDED), paid.change_token) == (True, None)
        assert (await app.pending(), await app.total()) == ([], FUNDS)


async def test_change_that_did_not_come_is_fetched_with_the_token(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        routstr_node(purse, failing="silent") as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 200
        assert (await app.settled()).state is CallState.DONE
        assert dict(node.claims[0].headers)["x-cashu"] == dict(node.seen[0].headers)["x-cashu"]
        assert (await app.pending(), await app.total()) == ([], FUNDS - COST_MSAT)


async def test_a_node_that_took_the_money_and_has_no_refund_is_waited_for_and_then_disputed(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        routstr_node(purse, failing="refund") as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 502
        assert (await app.settled()).state is CallState.AWAITING_CHANGE
        monkeypatch.setattr(call_recovery, "SILENCE_S", 0.0)
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, paid.paid_msat)


async def test_change_that_the_node_has_swept_is_disputed(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        routstr_node(purse, failing="silent", swept=True) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        await app.ask({**HI, "max_tokens": 900})
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (
            CallState.DISPUTED,
            paid.paid_msat - with_slack(COST_MSAT + 1),
        )
        assert "taken back its change" in (paid.reason or "")


async def test_a_rate_that_moved_a_little_is_no_dispute(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        routstr_node(purse, cost=COST_MSAT + 5) as node,
        customer(tmp_path, node.url, mint=mint.url) as app,
    ):
        await app.ask()
        assert (await app.settled()).state is CallState.DONE
        assert await app.total() == FUNDS - COST_MSAT - 5
        info = await app.act("gateways_info", url=node.url)
        assert (info["kind"], info["models"][0]["output_msat_per_mtok"]) == ("routstr", 5_000_000)
