"""A gateway that strangers press: who pays is served, and who is refused keeps the token."""

import json
from pathlib import Path

import anyio
import pytest

from otrta_cli.processes import Running
from otrta_core import PaymentRequest
from otrta_litellm import breaker, redemption
from otrta_litellm.asgi import Message
from otrta_litellm.gate import Gate
from otrta_litellm.gateway import Gateway
from otrta_litellm.limits import Looks
from tests.fault_proxy import Fault, fault_proxy
from tests.integration.purse import Purse
from tests.otrta_litellm.made_up import CHAT, PAID, Caller, answers, left, opened, state_of

pytestmark = pytest.mark.anyio

DEAD = Fault("dead", forwards=0, keeps=None)


async def test_tokens_that_mints_refuse_use_up_an_addresss_budget_and_nobody_elses(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    values = {"refusals_per_minute": 2, "trusted_proxies": 1}
    here, there = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    async with opened(str(tmp_path), mint.url, **values) as gateway:
        for _ in range(2):
            spent = purse.token(PAID)
            purse.spend(spent)
            refused = await Caller(spent, headers=here).call(answers(), gateway)
            assert (refused.status, refused.code) == (400, "token_already_spent")
        good = purse.token(PAID)
        limited = await Caller(good, headers=here).call(answers(), gateway)
        assert (limited.status, limited.code) == (429, "rate_limited")
        assert b"retry-after" in limited.told
        assert purse.states(good) == {"UNSPENT"}
        assert await state_of(gateway, good) is None
        assert (await Caller(good, headers=there).call(answers(), gateway)).sums == (PAID, 110, 0, PAID - 110)
        assert (await left(gateway, good)).status == 200


async def test_strangers_with_worthless_tokens_do_not_shut_out_who_has_paid(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    values = {"refusals_per_minute_in_all": 4, "trusted_proxies": 1}
    payer, new = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    async with opened(str(tmp_path), mint.url, **values) as gateway:
        assert (await Caller(purse.token(PAID), headers=payer).call(answers(), gateway)).status == 200
        for n in range(3):
            spent = purse.token(PAID)
            purse.spend(spent)
            from_there = {"X-Forwarded-For": f"203.0.113.{n}"}
            assert (await Caller(spent, headers=from_there).call(answers(), gateway)).status == 400
        limited = await Caller(purse.token(PAID), headers=new).call(answers(), gateway)
        assert (limited.status, limited.code) == (429, "rate_limited")
        assert (await Caller(purse.token(PAID), headers=payer).call(answers(), gateway)).sums[1] == 110


async def test_who_pays_uses_nothing_up(tmp_path: Path, mint: Running, purse: Purse) -> None:
    values = {"refusals_per_minute": 1, "refusals_per_minute_in_all": 2}
    async with opened(str(tmp_path), mint.url, **values) as gateway:
        for _ in range(5):
            assert (await Caller(purse.token(PAID)).call(answers(), gateway)).sums[1] == 110
        paid = purse.token(PAID)
        await Caller(paid).call(answers(), gateway)
        for _ in range(3):  # a token taken here is refused from the gateway's own books
            assert (await Caller(paid).call(answers(), gateway)).code == "token_already_spent"
        assert (await Caller(purse.token(PAID)).call(answers(), gateway)).status == 200


async def test_a_mint_that_is_away_is_not_asked_until_a_probe_succeeds(
    tmp_path: Path, mint: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redemption, "REDEEM_WITHIN_S", 0.3)
    monkeypatch.setattr(breaker, "FIRST_PROBE_S", 0.0)
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(str(tmp_path), proxy.url) as gateway:
            journalled = [purse.token(PAID) for _ in range(breaker.FAILURES)]
            for token in journalled:
                proxy.spoil("swap|restore|checkstate|info|keysets", *[DEAD] * 50)
                caller = await Caller(token).call(answers(), gateway)
                assert (caller.status, caller.code) == (503, "mint_unreachable")
            later, asked = purse.token(PAID), len(proxy.seen)
            with anyio.fail_after(5):
                refused = await Caller(later).call(answers(), gateway)
            assert (refused.status, refused.code) == (503, "mint_unreachable")
            assert b"retry-after" in refused.told
            assert b"untouched" in refused.content
            assert not [seen for seen in proxy.seen[asked:] if "swap" in seen.path]
            await gateway.guards.probe(await gateway.wallet())
            assert gateway.guards.breakers.away == [proxy.url]
            proxy.reset()
            gateway.guards.breakers.of(proxy.url)._probe_at = 0.0
            await gateway.guards.probe(await gateway.wallet())
            assert gateway.guards.breakers.away == []
            monkeypatch.setattr(redemption, "REDEEM_WITHIN_S", 30.0)
            assert (await Caller(later).call(answers(), gateway)).sums == (PAID, 110, 0, PAID - 110)
            with anyio.fail_after(60):
                for token in journalled:
                    while (found := await left(gateway, token)).status == 202:
                        await gateway._recover_swaps()
                        await gateway._end_calls()
                    assert found.status in (200, 404)
                    if found.status == 200:  # it landed: everything comes back
                        assert json.loads(found.content)["change_msat"] == PAID
                    else:
                        assert purse.states(token) == {"UNSPENT"}


async def test_mints_that_are_away_are_not_asked_for_and_if_all_are_nothing_is(
    tmp_path: Path, mint: Running, fee_mint: Running
) -> None:
    async with opened(str(tmp_path), mint.url, fee_mint.url) as gateway:
        breakers = gateway.guards.breakers

        async def asked() -> Caller:
            return await Caller(None).call(answers(), gateway)

        def mints(caller: Caller) -> set[str]:
            return set(PaymentRequest.parse(caller.told[b"x-cashu"].decode()).mints)

        assert mints(await asked()) == {mint.url, fee_mint.url}
        for _ in range(breaker.FAILURES):
            breakers.of(fee_mint.url).failed()
        assert mints(await asked()) == {mint.url}
        for _ in range(breaker.FAILURES):
            breakers.of(mint.url).failed()
        nothing = await asked()
        assert (nothing.status, nothing.code) == (503, "mint_unreachable")
        assert b"retry-after" in nothing.told
        assert b"x-cashu" not in nothing.told
        breakers.of(fee_mint.url).answered()
        assert mints(await asked()) == {fee_mint.url}


async def test_where_locks_are_required_a_mint_that_is_away_is_asked_for_all_the_same(
    tmp_path: Path, mint: Running
) -> None:
    async with opened(str(tmp_path), mint.url, lock="required") as gateway:
        for _ in range(breaker.FAILURES):
            gateway.guards.breakers.of(mint.url).failed()
        assert (await Caller(None).call(answers(), gateway)).status == 402


async def test_a_token_that_is_sent_again_and_again_does_not_reach_its_mint_each_time(
    tmp_path: Path, mint: Running
) -> None:
    with fault_proxy(mint.port) as proxy, Purse(mint.url, proxy.url) as purse:
        async with opened(str(tmp_path), proxy.url) as gateway:
            gateway.guards.claim_looks = Looks(3, 1000)
            paid = purse.token(PAID)
            served = await Caller(paid).call(answers(), gateway)
            before = len(proxy.seen)
            for _ in range(10):
                assert (await left(gateway, paid)).told[b"x-cashu"] == served.told[b"x-cashu"]
            for _ in range(10):
                again = await Caller(paid).call(answers(), gateway)
                assert (again.code, again.told[b"x-cashu"]) == (
                    "token_already_spent",
                    served.told[b"x-cashu"],
                )
            assert len([seen for seen in proxy.seen[before:] if "checkstate" in seen.path]) == 3


async def test_no_more_of_a_mint_is_held_than_the_operator_wants(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with opened(str(tmp_path), mint.url, max_held_msat=PAID + 200) as gateway:
        assert (await Caller(purse.token(PAID)).call(answers(), gateway)).status == 200
        token = purse.token(PAID)
        await gateway._keep_guards()  # the change is no longer held: 110 msat are
        assert (await Caller(token).call(answers(), gateway)).status == 200
        await gateway._keep_guards()
        third = purse.token(PAID)
        refused = await Caller(third).call(answers(), gateway)
        assert (refused.status, refused.code) == (503, "mint_at_limit")
        assert purse.states(third) == {"UNSPENT"}
        assert await state_of(gateway, third) is None


async def read(gateway: Gateway, *parts: Message, then_silent: bool = False) -> tuple[int, str]:
    """Send the parts of a body, and return status and code of the answer."""
    coming, got = iter(parts), []

    async def receive() -> Message:
        for part in coming:
            return part
        if then_silent:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        got.append(message)

    scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "headers": []}
    await Gate(answers(), gateway)(scope, receive, send)
    return got[0]["status"], json.loads(got[1]["body"])["error"]["code"]


def part(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": b" " * size, "more_body": more}


async def test_a_body_that_comes_too_slowly_is_not_waited_for(tmp_path: Path, mint: Running) -> None:
    async with opened(str(tmp_path), mint.url, body_within_s=1) as gateway:
        with anyio.fail_after(10):
            assert await read(gateway, part(10), then_silent=True) == (408, "request_timeout")
        assert gateway.held.total == 0
        assert gateway.guards.unpaid._all == 0
        assert (await Caller(None).call(answers(), gateway)).status == 402


async def test_a_body_that_is_too_large_or_cut_is_not_kept(tmp_path: Path, mint: Running) -> None:
    async with opened(str(tmp_path), mint.url, max_body_bytes=2000) as gateway:
        assert await read(gateway, part(1500), part(1500)) == (413, "body_too_large")
        assert await read(gateway, part(1500)) == (400, "invalid_request")
        assert gateway.held.total == 0


async def test_calls_that_have_not_paid_are_bounded_and_paid_ones_go_on(
    tmp_path: Path, mint: Running, purse: Purse
) -> None:
    async with opened(str(tmp_path), mint.url, max_unpaid=1, body_within_s=2) as gateway:
        token, running, go_on = purse.token(PAID), anyio.Event(), anyio.Event()
        served = Caller(token)

        async def slow(scope: object, receive: object, send: object) -> None:
            running.set()
            await go_on.wait()
            await answers()(scope, receive, send)  # type: ignore[arg-type]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.call, slow, gateway)
            await running.wait()
            tasks.start_soon(read_silently, gateway)
            while not gateway.guards.unpaid._all:
                await anyio.lowlevel.checkpoint()
            refused = await Caller(purse.token(PAID)).call(answers(), gateway)
            assert (refused.status, refused.code) == (503, "overloaded")
            go_on.set()
        assert served.sums == (PAID, 110, 0, PAID - 110)


async def read_silently(gateway: Gateway) -> None:
    assert await read(gateway, part(1), then_silent=True) == (408, "request_timeout")
