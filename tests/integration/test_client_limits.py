"""What leaves this machine: no more money than the budgets allow, and nothing that says who is asking."""

from pathlib import Path

import pytest

from otrta_cli.processes import Running
from proxy_trio.client_settings import ClientSettings
from tests.integration.customer import CHAT, FUNDS, HI, QUOTE_MSAT, CallState, customer, error_code
from tests.integration.purse import Purse
from tests.integration.scripted_gateway import ask, scripted_gateway, sell

pytestmark = [pytest.mark.integration, pytest.mark.trio]


async def test_a_request_beyond_its_budget_is_refused_with_what_is_left(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=3_000_000) as app,
    ):
        reply = await app.ask({**HI, "max_tokens": 200_000})
        assert (reply.status_code, error_code(reply)) == (402, "budget_exceeded")
        error = reply.json()["error"]
        assert (error["left_msat"], error["required_msat"]) == (1_000_000, 1_000_050)
        assert {"message", "type", "param", "code"} <= error.keys()
        assert (gateway.seen, await app.total()) == ([], 3_000_000)


async def test_the_default_budget_of_a_day_is_ten_requests_of_the_largest_size(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    body = {**HI, "max_tokens": 190_000}
    async with (
        scripted_gateway(purse, *[sell(950_050, body=b"{}")] * 10) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=12_000_000) as app,
    ):
        for _ in range(10):
            assert (await app.ask(body)).status_code == 200
            await app.settled()
        spent = 10 * 950_050
        reply = await app.ask(body)
        assert (reply.status_code, error_code(reply)) == (402, "budget_exceeded")
        error = reply.json()["error"]
        assert error["left_msat"] == 10_000_000 - spent
        assert error["renews_at"] % 86_400 == 0
        assert "It renews at midnight" in error["message"]
        assert 0 < int(reply.headers["Retry-After"]) <= 86_400
        assert len(gateway.seen) == 10


async def test_money_on_its_way_counts_against_the_day_until_it_is_back(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    settings = ClientSettings.model_validate({"budgets": {"per_day_sat": 1}})
    async with (
        scripted_gateway(purse, sell(), sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, settings=settings) as app,
    ):
        for _ in range(2):  # each may cost 550 msat, and costs little
            assert (await app.ask()).status_code == 200
            await app.settled()


async def test_proofs_at_hand_that_are_too_large_for_the_budget_are_swapped(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    settings = ClientSettings.model_validate({"budgets": {"per_request_sat": 6}})
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=0, settings=settings) as app,
    ):
        token = purse.token(8192, parts=[8192])
        await app.act("receive", token=token.encode())
        await app.act("send", amount_msat=8192 - 4096 - 2048 - 1)  # leaves too few small ones
        reply = await app.ask({**HI, "max_tokens": 800})
        assert reply.status_code == 200
        assert gateway.seen[0].token.amount <= 6000


async def test_what_a_402_asks_is_paid_within_the_budget_only(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, ask(1_000_001)) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=3_000_000) as app,
    ):
        reply = await app.ask({**HI, "max_tokens": 150_000})
        assert (reply.status_code, error_code(reply)) == (402, "budget_exceeded")
        await app.settled()
        assert (len(gateway.seen), await app.total()) == (1, 3_000_000)


async def test_an_empty_wallet_says_what_is_needed(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url, funds=100) as app,
    ):
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (402, "wallet_empty")
        error = reply.json()["error"]
        assert (error["required_msat"], error["available_msat"]) == (QUOTE_MSAT, 100)
        assert "otrta invoice" in error["message"]
        assert gateway.seen == []


async def test_a_gateway_of_other_mints_is_told_apart_from_an_empty_wallet(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse) as gateway,
        customer(tmp_path, mint=mint.url) as app,
    ):
        gateway.info["mints"][0]["url"] = "https://other.example"
        await app.client.gateways.add(gateway.url)
        reply = await app.ask()
        assert error_code(reply) == "wallet_empty"
        assert "https://other.example" in reply.json()["error"]["message"]


async def test_without_a_gateway_the_app_is_told_how_to_add_one(tmp_path: Path, mint: Running) -> None:
    async with customer(tmp_path, mint=mint.url, funds=0) as app:
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (502, "gateway_unreachable")
        assert "otrta gateways add" in reply.json()["error"]["message"]


async def test_the_cheapest_gateway_that_sells_the_model_is_paid(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell()) as dear,
        scripted_gateway(purse, sell(50, body=b"{}")) as cheap,
        scripted_gateway(purse) as without,
        customer(tmp_path, mint=mint.url) as app,
    ):
        cheap.info["models"][0]["output_msat_per_mtok"] = 1_000_000
        without.info["models"] = []
        for gateway in (without, dear, cheap):
            await app.client.gateways.add(gateway.url)
        assert (await app.ask()).status_code == 200
        assert [len(gateway.seen) for gateway in (without, dear, cheap)] == [0, 0, 1]
        assert (await app.settled()).state is CallState.DONE


async def test_a_gateway_sees_the_allowed_headers_and_nothing_that_names_the_caller(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        told = {
            "User-Agent": "OpenAI/Python 1.2.3",
            "Authorization": "Bearer sk-secret",
            "Cookie": "session=1",
            "X-Stainless-OS": "Linux",
            "X-Cashu": "cashuBmine",
            "OpenAI-Organization": "org",
            "Accept": "application/json",
            "anthropic-version": "2023-06-01",
        }
        await app.ask({**HI, "user": "alice", "metadata": {"a": 1}}, headers=told)
        seen = gateway.seen[0]
        assert sorted(name for name, _ in seen.headers) == [
            "accept",
            "accept-encoding",
            "anthropic-version",
            "content-length",
            "content-type",
            "host",
            "x-cashu",
            "x-cashu-change",
        ]
        assert dict(seen.headers)["accept-encoding"] == "identity"
        assert seen.token.mint == mint.url
        assert all(proof.dleq is None for proof in seen.token.proofs)
        assert b"alice" not in seen.body
        assert b"metadata" not in seen.body


async def test_a_body_goes_on_byte_for_byte(tmp_path: Path, mint: Running, purse: Purse) -> None:
    raw = b'{ "model":"m",  "messages":[{"role":"user","content":"h\\u00e9"}], "max_tokens": 10 }'
    async with (
        scripted_gateway(purse, sell(10, body=b"{}")) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        await app.http.post(CHAT, content=raw, headers={"Content-Type": "application/json"})
        assert gateway.seen[0].body == raw


async def test_two_payments_share_no_secret_and_each_has_a_memo_of_its_own(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell(), sell()) as gateway,
        customer(tmp_path, gateway.url, mint=mint.url) as app,
    ):
        for _ in range(2):
            await app.ask()
            await app.settled()
        first, second = (seen.token for seen in gateway.seen)
        assert len(first.memo or "") == len(second.memo or "") == 32
        assert first.memo != second.memo
        assert not {p.secret for p in first.proofs} & {p.secret for p in second.proofs}


async def test_a_call_that_is_free_is_shown_the_smallest_token(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse, sell(0, body=b"{}")) as gateway,
        customer(tmp_path, mint=mint.url) as app,
    ):
        gateway.info["models"] = [{"id": "m"}]
        await app.client.gateways.add(gateway.url)
        assert (await app.ask()).status_code == 200
        assert gateway.seen[0].token.amount == 1
        assert (await app.settled()).state is CallState.DONE
        assert await app.total() == FUNDS


async def test_a_gateway_that_takes_few_proofs_gets_few(tmp_path: Path, mint: Running, purse: Purse) -> None:
    async with (
        scripted_gateway(purse, sell()) as gateway,
        customer(tmp_path, mint=mint.url, funds=0) as app,
    ):
        gateway.info["limits"] = {"max_proofs": 4}
        await app.client.gateways.add(gateway.url)
        await app.keep_as_it_is(await gateway.money(1280, parts=[64] * 20))
        assert (await app.ask({**HI, "max_tokens": 102})).status_code == 200
        assert [proof.amount for proof in gateway.seen[0].token.proofs] == [16, 32, 512]
        assert (await app.settled()).state is CallState.DONE


async def test_a_call_that_needs_more_proofs_than_a_gateway_takes_is_refused_here(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with (
        scripted_gateway(purse) as gateway,
        customer(tmp_path, mint=mint.url) as app,
    ):
        gateway.info["limits"] = {"max_proofs": 1}
        await app.client.gateways.add(gateway.url)
        reply = await app.ask()
        assert (reply.status_code, error_code(reply)) == (402, "wallet_empty")
        assert "smaller tokens" in reply.json()["error"]["message"]
        assert (gateway.seen, await app.total()) == ([], FUNDS)
