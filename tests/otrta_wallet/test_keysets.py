"""Keysets that come, go, rotate and lie, while money is on its way."""

import json
import time
from dataclasses import replace

import pytest

from otrta_cli.processes import free_port
from otrta_core import KeysetError, Token
from otrta_wallet import MintRefused, MintUnreachable, OutcomeUnknown, WalletError
from otrta_wallet.executor import LANDS_WITHIN_S
from tests.fault_proxy import Fault, fault_proxy
from tests.otrta_wallet.lightning import LIGHTNING_FEE, offer
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, top_up

pytestmark = pytest.mark.anyio


@pytest.fixture
def network(mint):
    with fault_proxy(mint.port) as proxy:
        yield proxy


async def active_keyset(wallet, mint):
    return (await wallet.mints.active_keyset(mint, "msat")).id


async def test_a_rotation_is_not_noticed_by_any_operation(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    async with open_wallet("alice") as alice, open_wallet("bob") as bob:
        for wallet in (alice, bob):
            await wallet.mints.add(mint.url)
        before = await active_keyset(alice, mint.url)
        await top_up(alice, mint.url, 1_000)
        quote = await alice.request_invoice(mint.url, 1_000, "msat")
        to_take_back = await alice.send(mint.url, 100, "msat")
        to_receive = Token.parse((await alice.send(mint.url, 200, "msat")).token)
        to_redeem = Token.parse((await alice.send(mint.url, 50, "msat")).token)
        kept = await bob.transactions.run(bob.keep, await bob.inspect(to_redeem), None)
        rotate()
        forget_when_it_was_asked(alice, bob)
        assert await alice.claim_quote(quote.id) == 1_000
        assert (await alice.reclaim(to_take_back.id)).amount == 100
        assert (await bob.receive(to_receive)).amount == 200
        assert (await bob.redeem(kept.id)).state == "done"
        await alice.recover()
        assert await active_keyset(alice, mint.url) != before
        assert await active_keyset(bob, mint.url) == await active_keyset(alice, mint.url)
        assert await accounted_for(alice, bob) == 2_000
        await assert_really_there(alice, bob)


async def test_a_payment_whose_blanks_are_of_a_retired_keyset_gets_new_ones(
    open_wallet, rotating_mint, fee_mint
):
    mint, rotate = rotating_mint
    async with open_wallet("alice") as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 10_000)
        quote_id = await offer(alice, mint.url, fee_mint.url)
        rotate()
        forget_when_it_was_asked(alice)
        assert (await alice.melt(quote_id)).fee == LIGHTNING_FEE
        assert await available(alice) == 10_000 - 1_000 - LIGHTNING_FEE
        assert await accounted_for(alice) == 10_000
        await assert_really_there(alice)


async def test_a_rotation_while_the_wallet_was_dead_frees_the_inputs(open_wallet, rotating_mint):
    mint, rotate = rotating_mint
    ahead_s = 0.0
    async with open_wallet("alice", clock=lambda: time.time() + ahead_s) as alice:
        await alice.mints.add(mint.url)
        await top_up(alice, mint.url, 1_000)
        transfer = await alice.send(mint.url, 100, "msat")
        with fault_proxy(mint.port) as network:  # nothing of the swap reaches the mint
            alice.mints.client(mint.url).url = network.url
            network.spoil("/v1/(swap|checkstate)", *[Fault("dropped", forwards=0, keeps=None)] * 4)
            with pytest.raises(OutcomeUnknown):
                await alice.reclaim(transfer.id)
        alice.mints.client(mint.url).url = mint.url
        rotate()
        forget_when_it_was_asked(alice)
        assert (await alice.recover()).open == 1
        ahead_s = LANDS_WITHIN_S + 1
        assert (await alice.recover()).failed == 1
        assert (await alice.reclaim(transfer.id)).amount == 100
        assert await available(alice) == 1_000
        await assert_really_there(alice)


def forget_when_it_was_asked(*wallets):
    """As if the list of keysets were older than it is in a test."""
    for wallet in wallets:
        wallet.mints._refreshed_at.clear()


def relisted(change):
    """A fault that changes the mint's list of keysets."""

    def twist(body):
        return json.dumps({"keysets": change(json.loads(body)["keysets"])}).encode()

    return Fault("lie", twist=twist)


async def test_keysets_of_forms_no_longer_or_not_yet_used_are_passed_over(open_wallet, network):
    strange = [
        {"id": "I2yN+iRYfkzT", "unit": "sat", "active": True},
        {"id": "02" + "ab" * 32, "unit": "msat", "active": True},
        {"id": "../../v1/info", "unit": "msat", "active": True},
    ]
    network.spoil("/v1/keysets", relisted(lambda listed: [*strange, *listed]))
    async with open_wallet() as wallet:
        await wallet.mints.add(network.url)
        await top_up(wallet, network.url, 10)


async def test_a_keyset_that_is_not_listed_any_more_makes_no_new_ecash(open_wallet, network):
    async with open_wallet() as wallet:
        await wallet.mints.add(network.url)
        await top_up(wallet, network.url, 10)
        network.spoil("/v1/keysets", *[relisted(lambda listed: [])] * 2)
        await wallet.mints.refresh(network.url)
        with pytest.raises(WalletError, match="makes no new e-cash in msat"):
            await active_keyset(wallet, network.url)
        assert await available(wallet) == 10
        transfer = await wallet.send(network.url, 10, "msat")
        assert (await wallet.reclaim(transfer.id)).amount == 10  # listed again, so asked again


@pytest.mark.parametrize("changed", [{"input_fee_ppk": 5_000}, {"final_expiry": 2_000_000_000}])
async def test_a_fee_that_is_not_in_the_keysets_id_is_refused(open_wallet, network, changed):
    async with open_wallet() as wallet:
        await wallet.mints.add(network.url)
        network.spoil("/v1/keysets", relisted(lambda listed: [entry | changed for entry in listed]))
        with pytest.raises(KeysetError):
            await wallet.mints.refresh(network.url)
        assert wallet.mints.units(network.url) == {"sat": 0, "msat": 0}


@pytest.mark.parametrize(
    ("path", "fault", "error"),
    [
        ("/v1/info", Fault("500", answer=(500, b"")), OutcomeUnknown),
        ("/v1/info", Fault("404", answer=(404, b"")), MintRefused),
        ("/v1/keysets", Fault("500", answer=(500, b"")), OutcomeUnknown),
        ("/v1/keys/", Fault("other", answer=(200, b'{"keysets": []}')), KeysetError),
    ],
)
async def test_a_mint_that_could_not_be_added_stays_unknown(open_wallet, network, path, fault, error):
    async with open_wallet() as wallet:
        network.spoil(path, *[fault] * 3)
        with pytest.raises(error):
            await wallet.mints.add(network.url)
        assert wallet.mints.urls == []
        with pytest.raises(WalletError):
            await wallet.request_invoice(network.url, 1, "msat")


async def test_a_mint_that_is_away_can_be_added_for_later(open_wallet, mint):
    url = f"http://127.0.0.1:{free_port()}"
    async with open_wallet() as wallet:
        with pytest.raises(MintUnreachable):
            await wallet.mints.add(url)
        assert await wallet.mints.add(url + "/", offline_ok=True) == url
        with pytest.raises(MintUnreachable):
            await wallet.request_invoice(url, 1, "msat")
    async with open_wallet() as wallet:
        assert wallet.mints.urls == [url]


async def test_strangers_make_us_ask_for_keysets_once_a_minute_only(alice, counting_http, open_wallet, mint):
    await top_up(alice, mint.url, 100)
    token = Token.parse((await alice.send(mint.url, 60, "msat")).token)
    http, calls = counting_http
    async with open_wallet("carol", http=http) as carol:
        await carol.mints.add(mint.url)
        calls.clear()
        unknown = "00" + "ef" * 7
        forged = Token(mint.url, "msat", tuple(replace(p, id=unknown) for p in token.proofs))
        for _ in range(5):
            with pytest.raises(KeysetError):
                await carol.inspect(forged)
        assert calls == []
        carol.mints._refreshed_at.clear()
        for _ in range(5):
            with pytest.raises(KeysetError):
                await carol.inspect(forged)
        assert calls == [f"{mint.url}/v1/keysets"]


async def test_short_keyset_ids_are_read_as_the_full_ones(alice, bob, mint):
    await top_up(alice, mint.url, 100)
    text = (await alice.send(mint.url, 60, "msat")).token
    full = Token.parse(text)
    short = Token(full.mint, full.unit, tuple(replace(p, id=p.id[:16]) for p in full.proofs))
    assert (await bob.receive(short)).amount == 60
    await assert_really_there(bob)
