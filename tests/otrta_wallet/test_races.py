"""Several tasks at one wallet, and tasks that are cancelled at every step."""

import os
from itertools import count

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from otrta_core import Token
from otrta_wallet import MintRefused, OutcomeUnknown, TokenPending, TokenSpent, journal
from tests.fault_proxy import Fault
from tests.otrta_wallet.conftest import wallet_in
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

LONG = os.environ.get("OTRTA_LONG") == "1"
REFUSED = Fault("refused", forwards=0, answer=(400, b'{"detail": "no", "code": 11000}'))


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.fixture
def bob(far_bob):
    return far_bob


async def all_at_once(*calls):
    """Run calls side by side and return what each returned or raised."""
    ends = [None] * len(calls)

    async def run(number, call):
        try:
            ends[number] = await call()
        except (MintRefused, OutcomeUnknown, TokenPending, TokenSpent) as error:
            ends[number] = error

    async with anyio.create_task_group() as tasks:
        for number, call in enumerate(calls):
            tasks.start_soon(run, number, call)
    return ends


def posts(network, path):
    return sum(seen.path == path for seen in network.seen)


async def test_a_quote_claimed_by_many_is_minted_once_and_all_hear_of_it(alice, network):
    quote = await alice.request_invoice(network.url, 100, "msat")
    await alice.mints.client(network.url).mint_quote(quote.id)  # pays it
    ends = await all_at_once(*[lambda: alice.claim_quote(quote.id)] * 4)
    assert ends == [100] * 4
    assert await available(alice) == 100
    assert posts(network, "/v1/mint/bolt11") == 1


async def test_a_kept_token_redeemed_by_many_is_swapped_once_and_all_hear_of_it(alice, bob, network):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    operation = await bob.transactions.run(bob.keep, await bob.inspect(token), None)
    ends = await all_at_once(*[lambda: bob.redeem(operation.id)] * 4)
    assert [end.state for end in ends] == ["done"] * 4
    assert posts(network, "/v1/swap") == 1
    assert await available(bob) == 60


async def test_a_token_received_by_many_is_taken_once(alice, bob, network):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    ends = await all_at_once(*[lambda: bob.receive(token)] * 4)
    assert sum(not isinstance(end, Exception) for end in ends) == 1
    assert sum(isinstance(end, TokenPending | TokenSpent) for end in ends) == 3
    assert await available(bob) == 60


async def test_a_token_is_taken_back_once(alice, network):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    ends = await all_at_once(*[lambda: alice.reclaim(transfer.id)] * 3)
    assert sum(isinstance(end, TokenSpent) for end in ends) == 2
    assert await available(alice) == 100


async def test_sends_side_by_side_never_share_a_proof(alice, bob, network):
    await top_up(alice, network.url, 5_000)
    amounts = [1, 3, 100, 100, 512, 512, 999]
    calls = [lambda amount=amount: alice.send(network.url, amount, "msat") for amount in amounts]
    transfers = await all_at_once(*calls)
    assert [transfer.amount for transfer in transfers] == amounts
    tokens = [Token.parse(transfer.token) for transfer in transfers]
    secrets = [proof.secret for token in tokens for proof in token.proofs]
    assert len(set(secrets)) == len(secrets)
    await all_at_once(*[lambda token=token: bob.receive(token) for token in tokens])
    assert await available(bob) == sum(amounts)
    await alice.recover()
    assert await accounted_for(alice, bob) == 5_000
    await assert_really_there(alice, bob)


async def test_recovery_beside_calls_disturbs_none_of_them(alice, bob, network):
    await top_up(alice, network.url, 5_000)
    errors = []

    async def recover_for_ever(wallet):
        while True:
            await wallet.recover()
            await checkpoint()

    async with anyio.create_task_group() as background:
        background.start_soon(recover_for_ever, alice)
        background.start_soon(recover_for_ever, bob)
        for amount in (1, 2, 4):
            calls = [
                lambda amount=amount: give_and_take(alice, bob, network.url, amount),
                lambda: top_up(alice, network.url, 8),
            ]
            errors += [end for end in await all_at_once(*calls) if isinstance(end, Exception)]
        background.cancel_scope.cancel()
    assert errors == []
    await alice.recover()
    assert await accounted_for(alice, bob) == 5_000 + 3 * 8
    assert (await available(bob), await pending(bob)) == (7, 0)
    await assert_really_there(alice, bob)


async def give_and_take(alice, bob, mint, amount):
    transfer = await alice.send(mint, amount, "msat")
    await bob.receive(Token.parse(transfer.token))


async def test_an_operation_that_was_closed_meanwhile_is_not_posted_again(alice, network):
    """Recovery works on a list that it read before: what is on it may have ended since."""
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    network.spoil("/v1/swap", REFUSED)
    with pytest.raises(MintRefused) as first:
        await alice.reclaim(transfer.id)
    [failed] = await alice.transactions.run(operations_for, transfer.id)
    asked = len(network.seen)
    with pytest.raises(MintRefused) as again:
        await alice.carry_out(failed)
    assert again.value.message == first.value.message
    assert len(network.seen) == asked
    done = await alice.reclaim(transfer.id)
    assert await alice.carry_out(done) == done
    assert await available(alice) == 100


def operations_for(conn, _now, reference):
    return journal.by_reference(conn, reference)


class CancellingTransport(httpx.AsyncHTTPTransport):
    """Cancels a scope at the n-th request, before it is sent or after it was answered."""

    def __init__(self):
        super().__init__()
        self.scope, self.left, self.answered = None, 0, False

    def cancel_at(self, scope, number, answered):
        self.scope, self.left, self.answered = scope, number, answered

    async def handle_async_request(self, request):
        self.left -= 1
        if self.scope is not None and self.left == 0 and not self.answered:
            self.scope.cancel()
            await checkpoint()
        response = await super().handle_async_request(request)
        if self.scope is not None and self.left == 0:
            self.scope.cancel()
        return response


CANCELLED = [
    pytest.param(
        backend, name, answered, id=f"{name}-{'after-it-was-answered' if answered else 'unsent'}-{backend}"
    )
    for number, name in enumerate(["mint", "send", "receive", "reclaim", "redeem"])
    for answered in (False, True)
    for backend in (["asyncio", "trio"] if LONG else [("asyncio", "trio")[(number + answered) % 2]])
]


@pytest.mark.parametrize(("anyio_backend", "name", "answered"), CANCELLED)
async def test_a_cancelled_call_loses_nothing_wherever_it_was(
    tmp_path, store_with_mint, mint, name, answered
):
    transport = CancellingTransport()
    async with (
        httpx.AsyncClient(transport=transport) as http,
        wallet_in(tmp_path, store_with_mint, "alice", http=http) as alice,
        wallet_in(tmp_path, store_with_mint, "bob", http=http) as bob,
    ):
        await top_up(alice, mint.url, 200)
        minted = 200
        for number in count(1):
            if name == "mint":
                minted += 10
            start = await begin(name, alice, bob, mint.url)
            with anyio.CancelScope() as scope:
                transport.cancel_at(scope, number, answered)
                await start()
            transport.cancel_at(None, 0, answered)
            await alice.recover()
            await bob.recover()
            assert await alice.open_operations() == await bob.open_operations() == []
            for operation in await bob.kept():
                await bob.redeem(operation.id)
            await alice.recover()
            assert await accounted_for(alice, bob) == minted
            if not scope.cancelled_caught:
                break
        assert number > 1
        await assert_really_there(alice, bob)


async def begin(name, alice, bob, mint):
    if name == "mint":
        quote = await alice.request_invoice(mint, 10, "msat")
        return lambda: alice.claim_quote(quote.id)
    if name == "send":
        while await alice.transfer_at_hand(mint, 4, "msat", exact=True) is not None:
            pass
        return lambda: alice.send(mint, 4, "msat")
    transfer = await alice.send(mint, 10, "msat")
    if name == "receive":
        return lambda: bob.receive(Token.parse(transfer.token))
    if name == "reclaim":
        return lambda: alice.reclaim(transfer.id)
    kept = await bob.transactions.run(bob.keep, await bob.inspect(Token.parse(transfer.token)), None)
    return lambda: bob.redeem(kept.id)


async def test_the_post_of_a_cancelled_call_is_not_taken_for_a_strangers(alice, bob, network):
    """The mint says PENDING: of a token that others know too, but that we are spending ourselves."""
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    network.spoil("/v1/swap", Fault("slow", silent_s=0.5))
    scope = anyio.CancelScope()

    async def first():
        with scope:
            await bob.receive(token)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.to_thread.run_sync(network.met_one.wait)
        [prepared] = await bob.open_operations()
        scope.cancel()
        [end] = await all_at_once(lambda: bob.carry_out(prepared))
    assert isinstance(end, OutcomeUnknown) or end.state == "done"
    await anyio.to_thread.run_sync(network.reset)  # by now the mint has ended what it was doing
    await bob.recover()
    assert await available(bob) == 60
    await assert_really_there(alice, bob)
