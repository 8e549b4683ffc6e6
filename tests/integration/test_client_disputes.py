"""A gateway that keeps more than it may is found out, shown with the sum, and not paid any more."""

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from otrta_cli.processes import Running
from otrta_core import Proof, Token
from proxy_trio import call_recovery
from tests.integration.customer import FUNDS, HI, QUOTE_MSAT, CallState, customer, error_code
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import (
    ANSWER,
    COST_MSAT,
    JSON,
    Script,
    ScriptedGateway,
    Seen,
    answer,
    give_change,
    scripted_gateway,
    sell,
    send,
    take,
    then,
)

pytestmark = [pytest.mark.integration, pytest.mark.trio]

SHORT_MSAT = 100


def sell_with(change: str) -> Script:
    """Take the token and give a text as its change."""
    return then(take, answer(200, ANSWER, {**JSON, "X-Cashu": change}))


def forge(token: Token) -> Token:
    """The same amounts with secrets that no mint has signed."""
    forged = [Proof(p.amount, p.id, secrets.token_hex(32), p.C) for p in token.proofs]
    return replace(token, proofs=tuple(forged))


async def foreign(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = await gateway.money(paid.amount - COST_MSAT)
    await send(stream, 200, {**JSON, "X-Cashu": replace(change, mint="http://127.0.0.1:9").encode()}, ANSWER)


async def other_unit(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = await gateway.money(paid.amount - COST_MSAT, "sat")
    await send(stream, 200, {**JSON, "X-Cashu": change.encode()}, ANSWER)


async def forged(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = forge(await gateway.money(paid.amount - COST_MSAT))
    await send(stream, 200, {**JSON, "X-Cashu": change.encode()}, ANSWER)


async def spent(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
    paid = await gateway.take(seen)
    change = await gateway.money(paid.amount - COST_MSAT)
    await trio.to_thread.run_sync(gateway.purse.spend, change)
    await send(stream, 200, {**JSON, "X-Cashu": change.encode()}, ANSWER)


KEEPS_ALL: dict[str, Script] = {
    "no-change": then(take, answer(200, ANSWER)),
    "garbage": sell_with("cashuBgarbage"),
    "of-another-mint": foreign,
    "of-another-unit": other_unit,
    "forged": forged,
    "spent-already": spent,
}


@pytest.mark.parametrize("name", KEEPS_ALL)
async def test_a_payment_without_change_that_is_worth_anything_is_disputed(
    name: str, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, KEEPS_ALL[name], sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        assert (await app.ask()).status_code == 200
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, paid.paid_msat - COST_MSAT)
        (shown,) = await app.pending()
        assert (shown["state"], shown["gateway"]) == ("disputed", gateway.url)
        assert shown["reason"]
        balance = await app.balance()
        assert balance["available_msat"] == FUNDS - paid.paid_msat
        assert balance["pending_msat"] == paid.missing_msat

        refused = await app.ask()
        assert (refused.status_code, error_code(refused)) == (502, "gateway_unreachable")
        assert len(gateway.seen) == 1
        await app.act("gateways_trust", url=gateway.url)
        assert (await app.ask()).status_code == 200


async def test_short_change_is_kept_and_the_rest_disputed(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell(COST_MSAT + SHORT_MSAT)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, SHORT_MSAT)
        balance = await app.balance()
        assert balance["available_msat"] == FUNDS - COST_MSAT - SHORT_MSAT
        assert balance["pending_msat"] == SHORT_MSAT
        assert "too little" in (await app.pending())[0]["reason"]


async def test_a_dispute_does_not_end_by_being_looked_at_again(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        # less than what the usage allows, but not less than what the quote would have allowed
        scripted_gateway(purse, sell(QUOTE_MSAT), claim=give_change(QUOTE_MSAT)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask({**HI, "max_tokens": 200})
        for _ in range(3):
            paid = await app.settled()
            assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, QUOTE_MSAT - COST_MSAT)


async def test_what_an_answer_proved_is_held_against_change_that_comes_later(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(
            purse, then(take, answer(200, ANSWER)), claim=give_change(COST_MSAT + SHORT_MSAT)
        ) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, SHORT_MSAT)


@pytest.mark.parametrize(("cost", "state"), [(1050, CallState.DONE), (1051, CallState.DISPUTED)])
async def test_without_usage_the_quote_is_all_that_can_be_held_against_a_gateway(
    cost: int, state: CallState, tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell(cost, body=b"{}")) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=0) as app,
    ):
        token = await gateway.money(2048, parts=[1024, 1024])  # so that more than the quote is paid
        await app.keep_as_it_is(token)
        await app.ask({**HI, "max_tokens": 200})
        paid = await app.settled()
        assert (paid.paid_msat, paid.state) == (2048, state)


async def test_a_forged_change_does_not_cost_the_token_that_was_never_taken(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        change = forge(await gateway.money(seen.token.amount - COST_MSAT))
        await send(stream, 200, {**JSON, "X-Cashu": change.encode()}, ANSWER)

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        assert (paid.state, await app.total()) == (CallState.REFUNDED, FUNDS)
        assert (await app.act("gateways"))[0]["trusted"] is False


async def test_the_change_of_another_call_is_no_change(tmp_path: Path, mint: Running, purse: Purse) -> None:
    given: list[Token] = []

    async def twice(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        given[:] = given or [await gateway.money(paid.amount - COST_MSAT)]
        await send(stream, 200, {**JSON, "X-Cashu": given[0].encode()}, ANSWER)

    async with (
        scripted_gateway(purse, twice, twice) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        await app.ask()
        paid = await app.settled()
        second, first = await app.paid()
        assert {first.state, second.state} == {CallState.DONE, CallState.DISPUTED}
        balance = await app.balance()
        assert balance["available_msat"] == FUNDS - COST_MSAT - paid.paid_msat


async def test_change_that_is_given_after_all_ends_the_dispute(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, then(take, answer(200, ANSWER))) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        assert (await app.settled()).state is CallState.DISPUTED
        gateway.claim = give_change()
        assert (await app.settled()).state is CallState.DONE
        balance = await app.balance()
        assert (balance["available_msat"], balance["pending_msat"]) == (FUNDS - COST_MSAT, 0)
        assert (await app.act("gateways"))[0]["trusted"] is False


async def test_a_dispute_is_lost_when_its_time_is_over(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted_gateway(purse, then(take, answer(200, ANSWER))) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        monkeypatch.setattr(call_recovery, "CLAIM_WINDOW_S", 0.0)
        assert (await app.settled()).state is CallState.LOST
        (lost,) = [entry for entry in await app.act("history") if entry["kind"] == "call"]
        assert (lost["state"], lost["lost_msat"]) == ("lost", paid.paid_msat - COST_MSAT)
        assert lost["amount_msat"] == -paid.paid_msat
        assert (await app.pending(), (await app.balance())["pending_msat"]) == ([], 0)


async def test_a_gateway_that_is_silent_about_a_taken_token_is_disputed_in_the_end(
    tmp_path: Path, mint: Running, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted_gateway(purse, then(take, answer(200, ANSWER)), claim=answer(202)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        assert (await app.settled()).state is CallState.AWAITING_CHANGE
        assert [shown["state"] for shown in await app.pending()] == ["awaiting_change"]
        assert (await app.balance())["pending_msat"] >= QUOTE_MSAT
        monkeypatch.setattr(call_recovery, "SILENCE_S", 0.0)
        paid = await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, paid.paid_msat - COST_MSAT)


async def test_a_gateway_that_is_added_anew_is_still_not_paid(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, then(take, answer(200, ANSWER))) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        await app.settled()
        await app.act("gateways_remove", url=gateway.url)
        added = await app.act("gateways_add", url=gateway.url)
        assert (added["trusted"], bool(added["distrusted_for"])) == (False, True)
        assert error_code(await app.ask()) == "gateway_unreachable"


async def test_of_change_that_is_spent_in_part_the_rest_is_kept(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        paid = await gateway.take(seen)
        change = await gateway.money(paid.amount - COST_MSAT)
        largest = max(change.proofs, key=lambda proof: proof.amount)
        await trio.to_thread.run_sync(purse.spend, replace(change, proofs=(largest,)))
        await send(stream, 200, {**JSON, "X-Cashu": change.encode()}, ANSWER)

    async with (
        scripted_gateway(purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.ask()
        paid = await app.settled()
        await app.settled()
        assert (paid.state, paid.missing_msat) == (CallState.DISPUTED, 256)
        balance = await app.balance()
        assert balance["available_msat"] == FUNDS - COST_MSAT - 256
        assert balance["pending_msat"] == 256


async def test_change_that_a_swap_would_eat_counts_as_given(
    tmp_path: Path, fee_mint: Running, fee_purse: Purse
) -> None:
    async def script(gateway: ScriptedGateway, stream: trio.SocketStream, seen: Seen) -> None:
        fee = (len(seen.token.proofs) * 100 + 999) // 1000
        await sell(seen.token.amount - fee - 1, body=b"{}", fee=fee)(gateway, stream, seen)

    async with (
        scripted_gateway(fee_purse, script) as gateway,
        customer(tmp_path, gateway.url, mint=fee_mint.url) as app,
    ):
        body = {name: value for name, value in HI.items() if name != "max_tokens"}
        await app.ask(body)
        paid = await app.settled()
        assert (paid.state, paid.change_msat) == (CallState.DONE, 1)
        assert (paid.change_token or "").startswith("dust cashuB")
