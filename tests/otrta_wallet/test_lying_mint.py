"""A mint that answers wrongly: nothing false is stored, and the right answer still finishes the operation."""

import json
from dataclasses import replace
from itertools import cycle

import pytest

from otrta_core import Token
from otrta_wallet import MintRefused, OutcomeUnknown, TokenSpent
from tests.fault_proxy import LOCKED, Fault
from tests.otrta_wallet.reckoning import accounted_for, assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

BUSY = Fault("busy", forwards=0, answer=LOCKED)


@pytest.fixture
def alice(far_alice):
    return far_alice


@pytest.fixture
def bob(far_bob):
    return far_bob


def with_signatures(change):
    """A fault that changes the list of signatures in the mint's reply."""

    def twist(body):
        reply = json.loads(body)
        reply["signatures"] = change(reply["signatures"])
        return json.dumps(reply).encode()

    return Fault("lie", twist=twist)


def first_changed(**fields):
    return lambda signatures: [signatures[0] | fields, *signatures[1:]]


LIES = {
    "one-missing": lambda signatures: signatures[1:],
    "one-too-many": lambda signatures: [*signatures, signatures[0]],
    "none": lambda signatures: [],
    "another-amount": first_changed(amount=1 << 40),
    "another-keyset": first_changed(id="00" + "00" * 7),
    "anothers-signature": lambda signatures: [signatures[0] | {"C_": signatures[1]["C_"]}, *signatures[1:]],
    "swapped-round": lambda signatures: signatures[::-1],
    "no-point": first_changed(C_="02" + "00" * 32),
    "bad-dleq": first_changed(dleq={"e": "11" * 32, "s": "22" * 32}),
    "dleq-of-nothing": first_changed(dleq={"e": "00", "s": "00"}),
}


@pytest.mark.parametrize(
    ("anyio_backend", "lie"), list(zip(cycle(["asyncio", "trio"]), LIES.values(), strict=False)), ids=LIES
)
async def test_a_false_signature_is_not_stored_and_the_right_one_is_asked_for_again(alice, network, lie):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    network.spoil("/v1/swap", with_signatures(lie))
    assert (await alice.reclaim(transfer.id)).state == "done"
    assert len(network.met) == 1
    assert await available(alice) == 100
    await assert_really_there(alice)


async def test_a_mint_that_keeps_lying_leaves_the_operation_open(alice, network):
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    bad = with_signatures(LIES["bad-dleq"])
    network.spoil("/v1/swap", bad)
    network.spoil("/v1/restore", bad, with_signatures(LIES["another-amount"]))
    with pytest.raises(OutcomeUnknown) as caught:
        await alice.reclaim(transfer.id)
    assert (await alice.recover()).open == 1
    [operation] = await alice.open_operations()
    assert operation.id == caught.value.operation_id
    assert (await available(alice), await pending(alice)) == (40, 60)
    assert (await alice.recover()).finished == 1
    assert await available(alice) == 100


async def test_a_signature_without_dleq_is_taken(alice, network):
    """NUT-12 is optional; the mint could as well sign with a key that it does not publish."""
    await top_up(alice, network.url, 100)
    transfer = await alice.send(network.url, 60, "msat")
    network.spoil("/v1/swap", with_signatures(lambda signed: [s | {"dleq": None} for s in signed]))
    await alice.reclaim(transfer.id)
    assert await available(alice) == 100
    await assert_really_there(alice)


async def test_an_invoice_for_another_amount_is_not_kept(alice, network):
    for changed in ({"amount": 99}, {"unit": "sat"}):
        network.spoil(
            "/v1/mint/quote",
            Fault("lie", twist=lambda body, c=changed: json.dumps(json.loads(body) | c).encode()),
        )
        with pytest.raises(Exception, match="another amount"):
            await alice.request_invoice(network.url, 100, "msat")


async def test_an_invoice_given_twice_is_not_kept_twice(alice, network):
    first = await alice.request_invoice(network.url, 100, "msat")
    again = {"quote": first.id}
    network.spoil(
        "/v1/mint/quote", Fault("lie", twist=lambda body: json.dumps(json.loads(body) | again).encode())
    )
    with pytest.raises(Exception, match="given before"):
        await alice.request_invoice(network.url, 100, "msat")
    assert await alice.claim_quote(first.id) == 100


async def test_proofs_of_one_mint_under_the_name_of_another_are_refused(alice, bob, network, fee_mint):
    await alice.mints.add(fee_mint.url)
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    with pytest.raises(Exception, match="not one of this mint's"):
        await alice.receive(replace(token, mint=fee_mint.url))


async def test_the_same_keysets_under_a_second_url_are_refused(alice, network, mint):
    with pytest.raises(Exception, match="two mints claim"):
        await alice.mints.add(mint.url)
    assert alice.mints.urls == [network.url]
    await top_up(alice, network.url, 100)


async def test_spent_as_seen_by_a_mint_that_lies_about_states(alice, bob, network):
    """The mint takes the inputs and says that somebody else spent them: watched where it was not answered."""
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    network.spoil("/v1/swap", Fault("dropped", keeps=None))
    network.spoil("/v1/restore", Fault("none-signed", answer=(200, b'{"outputs": [], "signatures": []}')))
    with pytest.raises(TokenSpent):
        await bob.receive(token)
    assert await available(bob) == 0
    assert (await bob.recover()).finished == 1
    assert await available(bob) == 60
    await alice.recover()
    assert await accounted_for(alice, bob) == 100


async def test_our_own_money_spent_as_the_mint_says_is_looked_for_again(alice, network):
    await top_up(alice, network.url, 100)
    network.spoil("/v1/swap", Fault("refused", answer=LOCKED))
    network.spoil("/v1/restore", Fault("none-signed", answer=(200, b'{"outputs": [], "signatures": []}')))
    with pytest.raises(TokenSpent):
        await alice.hold_exact(network.url, 50, "msat", "debt:somebody")
    assert await accounted_for(alice) < 100
    assert (await alice.recover()).finished == 1
    assert await accounted_for(alice) == 100
    await assert_really_there(alice)


async def test_a_refusal_without_a_reason_is_not_taken_for_an_answer(alice, bob, network):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    network.spoil("^/v1/swap$", BUSY, BUSY)
    await bob.receive(token)
    assert network.met == [BUSY, BUSY]
    assert (await available(alice), await available(bob)) == (40, 60)
    await assert_really_there(bob)


async def test_a_mint_that_never_gives_a_reason_is_believed_in_the_end(alice, bob, network):
    await top_up(alice, network.url, 100)
    token = Token.parse((await alice.send(network.url, 60, "msat")).token)
    network.spoil("^/v1/swap$", BUSY, BUSY, BUSY)
    with pytest.raises(MintRefused, match="locked"):
        await bob.receive(token)
    assert (await available(bob), await pending(bob)) == (0, 0)
    assert await bob.open_operations() == []
    await bob.receive(token)
    assert await available(bob) == 60
