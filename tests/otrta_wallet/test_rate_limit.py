"""Mints that say "too many requests": how long they are left alone, and that it costs nothing but time."""

import json
import time

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otrta_cli.processes import free_port, start_mint
from otrta_core import Token
from otrta_wallet import MintUnreachable, rate_limit
from otrta_wallet.errors import MintBusy
from otrta_wallet.mint_client import MintClient, MintInfo, new_http_client
from otrta_wallet.rate_limit import LONGEST_S, WAIT_S, RateLimit, retry_after_s
from tests.fault_proxy import Fault
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, top_up
from tests.otrta_wallet.test_mint_client import reply, scripted_mint
from tests.parts import kept_running

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
BUSY = Fault("429-before-it", forwards=0, answer=(429, b'{"detail": "Rate limit exceeded."}'))
BUSY_AFTER = Fault("429-after-the-commit", answer=(429, b'{"detail": "Rate limit exceeded."}'))


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "999999999999"}, 999_999_999_999.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:20 GMT"}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "Tue, 14 Nov 2023 22:14:10 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "today"}, 60.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "9" * 13}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:14:20 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT" + " " * 100 + "x"}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers, wanted):
    assert retry_after_s(headers, NOW) == wanted


@given(st.text(max_size=80))
def test_no_header_makes_it_fail(text):
    read = retry_after_s({"retry-after": text, "date": text}, NOW)
    assert read is None or read >= 0


@pytest.fixture
def pauses(monkeypatch):
    """The pauses as they are in use, not the short ones of the other tests."""
    monkeypatch.setattr(rate_limit, "PAUSES_S", (1.0, 4.0, 16.0, 64.0))


@pytest.mark.usefixtures("pauses")
def test_pauses_grow_until_the_mint_answers_and_all_fit_into_one_calls_patience():
    limit, now, waited = RateLimit(), 100.0, []
    for _ in range(6):
        limit.limited(now, now, None)
        waited.append(limit.wait_s(now))
        now += limit.wait_s(now)
    assert waited == [1, 4, 16, 64, 64, 64]
    assert sum(rate_limit.PAUSES_S) < WAIT_S
    assert limit.wait_s(now) == 0
    limit.answered(now)
    limit.limited(now, now, None)
    assert limit.wait_s(now) == 1


@pytest.mark.usefixtures("pauses")
def test_of_calls_that_were_under_way_together_only_one_counts():
    limit = RateLimit()
    for sent_at in (9.0, 9.5, 9.9, 9.0):
        limit.limited(sent_at, 10.0, None)
    assert limit.wait_s(10.0) == 1
    limit.answered(9.8)  # one that slipped through before the mint had enough
    limit.limited(11.0, 11.0, None)
    assert limit.wait_s(11.0) == 4


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(("asked", "wait"), [(0.0, 1.0), (7.0, 7.0), (1e12, LONGEST_S)])
def test_the_mints_own_word_is_believed_within_bounds(asked, wait):
    limit = RateLimit()
    limit.limited(0.0, 0.0, asked)
    assert limit.wait_s(0.0) == wait


@pytest.mark.usefixtures("pauses")
def test_a_short_word_does_not_end_a_longer_pause():
    limit = RateLimit()
    limit.limited(0.0, 0.0, 50.0)
    limit.limited(0.0, 1.0, 2.0)
    assert limit.wait_s(1.0) == 49


@pytest.fixture
async def http():
    async with new_http_client(timeout_s=2.0) as client:
        yield client


@pytest.mark.anyio
async def test_a_question_is_asked_until_the_mint_has_time(http):
    too_many = [reply(b"", 429)] * 3 + [reply(b"", 503, "Retry-After: 0")] * 2
    with scripted_mint(*too_many, reply({"name": "m"})) as mint:
        assert (await MintClient(mint.url, http).info()).name == "m"
        assert len(mint.requests) == 6


@pytest.mark.anyio
async def test_a_503_without_a_time_is_no_pause(http):
    with scripted_mint(reply(b"", 503)) as mint:
        client = MintClient(mint.url, http)
        with pytest.raises(Exception, match="HTTP 503") as caught:
            await client.info()
        assert not isinstance(caught.value, MintBusy)
        assert len(mint.requests) == 3


@pytest.mark.anyio
async def test_all_calls_to_a_mint_wait_for_the_end_of_its_pause(http):
    with scripted_mint(reply(b"", 429, "Retry-After: 1"), reply({"states": []})) as mint:
        client, began = MintClient(mint.url, http), time.monotonic()
        with pytest.raises(MintBusy):
            await client.swap([], [])
        assert await client.check_state([]) == {}
        with pytest.raises(Exception, match="not what the specs say"):
            await client.swap([], [])
        assert 1 <= time.monotonic() - began < 10
        assert len(mint.requests) == 2


@pytest.mark.anyio
async def test_after_a_longer_pause_than_a_call_has_patience_for_nothing_is_sent(http):
    with scripted_mint(reply(b"", 429, "Retry-After: 600"), reply({"name": "m"})) as mint:
        client = MintClient(mint.url, http)
        with pytest.raises(MintBusy):
            await client.swap([], [])
        with anyio.fail_after(5):
            for call in (client.swap([], []), client.info()):
                with pytest.raises(MintUnreachable, match="left alone for"):
                    await call
        assert len(mint.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [BUSY, BUSY_AFTER], ids=str)
async def test_a_mint_that_is_busy_for_long_costs_only_time(far_alice, far_bob, network, fault):
    await top_up(far_alice, network.url, 100)
    token = Token.parse((await far_alice.send(network.url, 60, "msat")).token)
    network.seen.clear()
    network.spoil("^/v1/swap$", *[fault] * 6)
    network.spoil("^/v1/(checkstate|restore)$", *[BUSY] * 4)
    assert (await far_bob.receive(token)).state == "done"
    posted = [seen.body for seen in network.seen if seen.path == "/v1/swap"]
    assert len(set(posted)) == 1
    assert len(posted) == (7 if fault is BUSY else 1)
    await far_alice.recover()
    assert await accounted_for(far_alice, far_bob) == 100
    await assert_really_there(far_alice, far_bob)


class ManyAddresses(httpx.AsyncHTTPTransport):
    """Sends from what the mint takes for one address, and from the next one once that was refused."""

    def __init__(self):
        super().__init__()
        self.refused = []

    async def handle_async_request(self, request):
        request.headers["CF-Connecting-IP"] = f"192.0.2.{len(self.refused)}"
        response = await super().handle_async_request(request)
        if response.status_code == 429:
            self.refused.append(request.url.path)
        return response


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_mint_with_a_real_rate_limit_is_used_to_the_msat(parts_home, open_wallet):
    limits = {
        "MINT_RATE_LIMIT": "TRUE",
        "MINT_RATE_LIMIT_PROXY_TRUST": "TRUE",
        "MINT_GLOBAL_RATE_LIMIT_PER_MINUTE": "4",
        "MINT_TRANSACTION_RATE_LIMIT_PER_MINUTE": "2",
    }
    log, transport = parts_home / "logs/limited-mint.log", ManyAddresses()
    home = parts_home / "limited-mint"
    with kept_running(log, lambda: start_mint(home, free_port(), log=log, env=limits)) as mint:
        async with (
            httpx.AsyncClient(transport=transport) as http,
            open_wallet("alice", http=http) as alice,
            open_wallet("bob", http=http) as bob,
        ):
            for wallet in (alice, bob):
                await wallet.mints.add(mint.url)
            await top_up(alice, mint.url, 1_000)
            for _ in range(6):
                await bob.receive(Token.parse((await alice.send(mint.url, 48, "msat")).token))
            assert await available(bob) == 6 * 48
            await alice.recover()
            assert await accounted_for(alice, bob) == 1_000
            await assert_really_there(alice, bob)
    assert "/v1/swap" in transport.refused


def listing_nut19(ttl):
    """A fault that has the mint say that it repeats its answers."""
    nut19 = {"ttl": ttl, "cached_endpoints": [{"method": "POST", "path": "/v1/swap"}]}

    def twist(body):
        info = json.loads(body)
        return json.dumps(info | {"nuts": info["nuts"] | {"19": nut19}}).encode()

    return Fault("lists-nut-19", twist=twist)


DROPPED = Fault("reply-dropped", keeps=None)
NEVER_THERE = Fault("request-dropped", forwards=0, keeps=None)


@pytest.mark.anyio
@pytest.mark.parametrize("ttl", [None, 3600])
@pytest.mark.parametrize("fault", [DROPPED, NEVER_THERE], ids=str)
async def test_where_answers_are_kept_the_same_bytes_are_posted_before_anything_is_asked(
    far_alice, network, fault, ttl
):
    await top_up(far_alice, network.url, 100)
    transfer = await far_alice.send(network.url, 60, "msat")
    network.spoil("^/v1/info$", listing_nut19(ttl))
    await far_alice.mints.info(network.url, max_age_s=0)
    network.keeps_answers = True
    network.seen.clear()
    network.spoil("^/v1/swap$", fault)
    assert (await far_alice.reclaim(transfer.id)).state == "done"
    assert [seen.path for seen in network.seen] == ["/v1/swap", "/v1/swap"]
    assert len({seen.body for seen in network.seen}) == 1
    assert await available(far_alice) == 100
    await assert_really_there(far_alice)


@pytest.mark.anyio
async def test_a_mint_that_only_says_that_it_keeps_answers_loses_nothing(far_alice, network):
    await top_up(far_alice, network.url, 100)
    transfer = await far_alice.send(network.url, 60, "msat")
    network.spoil("^/v1/info$", listing_nut19(None))
    await far_alice.mints.info(network.url, max_age_s=0)
    network.spoil("^/v1/swap$", DROPPED)
    assert (await far_alice.reclaim(transfer.id)).state == "done"
    assert await available(far_alice) == 100
    await assert_really_there(far_alice)


@pytest.mark.anyio
@pytest.mark.parametrize("after_s", [0, 3601])
async def test_a_post_of_an_earlier_life_is_repeated_while_its_answer_is_kept(
    far_alice, network, clock, after_s
):
    await top_up(far_alice, network.url, 100)
    transfer = await far_alice.send(network.url, 60, "msat")
    network.spoil("^/v1/swap$", DROPPED)
    network.spoil("^/v1/checkstate$", *[DROPPED] * 3)
    with pytest.raises(Exception, match="not known yet"):
        await far_alice.reclaim(transfer.id)
    network.spoil("^/v1/info$", listing_nut19(3600))
    await far_alice.mints.info(network.url, max_age_s=0)
    clock.ahead_s += after_s
    network.seen.clear()
    assert (await far_alice.recover()).finished == 1
    asked = [seen.path for seen in network.seen if seen.path != "/v1/info"]
    assert asked[0] == ("/v1/checkstate" if after_s else "/v1/swap")
    assert await available(far_alice) == 100


@pytest.mark.parametrize(
    "nut19",
    [
        None,
        [],
        {"ttl": 10},
        {"cached_endpoints": [{"method": "GET", "path": "/v1/swap"}]},
        {"ttl": -1, "cached_endpoints": [{"method": "POST", "path": "/v1/swap"}]},
        {"ttl": 60, "cached_endpoints": [{"method": "POST", "path": "/v1/melt/bolt11"}]},
    ],
)
def test_what_is_not_listed_in_form_is_not_kept(nut19):
    assert MintInfo(nuts={"19": nut19}).answers_kept_s("/v1/swap") == 0
