"""The same words are the same money in every wallet (NUT-09, NUT-13)."""

from dataclasses import replace

import pytest

from otrta_core import Keyset, Proof, derive_blinding_factor, derive_secret
from otrta_wallet.outputs import make_outputs, make_proofs
from otrta_wallet.seed import new_words, seed_of
from tests.otrta_wallet.reckoning import available, top_up

pytestmark = pytest.mark.anyio

KEYSETS = {
    "v1": "009a1f293253e41e",
    "v2": "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a",
}
COUNTERS = [0, 1, 299, 2**31 - 1]


@pytest.mark.parametrize("version", KEYSETS)
@pytest.mark.parametrize("counter", COUNTERS)
async def test_secrets_and_blinding_factors_are_derived_alike(node, version, counter):
    seed, keyset = seed_of(new_words()), KEYSETS[version]
    theirs = node.call("derive", seed=seed.hex(), keyset=keyset, counter=counter)
    assert theirs["secret"] == derive_secret(seed, keyset, counter)
    assert theirs["r"] == derive_blinding_factor(seed, keyset, counter).hex()


@pytest.mark.parametrize("stranger", ["cashu_ts", "nutshell"])
async def test_a_stranger_finds_what_we_had_by_our_words(request, ours, mint, stranger):
    await top_up(ours, mint.url, 700)
    await ours.send(mint.url, 333, "msat")  # swapped, so that some of the seed's e-cash is spent
    await ours.reclaim((await ours.transfers())[0].id)
    assert await available(ours) == 700
    theirs = request.getfixturevalue(stranger)("msat", await ours.words())
    theirs.restore()
    assert theirs.balance() == 700
    theirs.receive(theirs.send(699, 4))  # and it can be spent
    assert theirs.balance() == 700


async def found_by_words(wallet, mint_url: str, words: str, keyset: Keyset) -> list[Proof]:
    """The e-cash that the first hundred of a seed's secrets are worth now."""
    seed, client = seed_of(words), wallet.mints.client(mint_url)
    outputs = make_outputs(seed, keyset.id, 0, [(1, None)] * 100)
    signed = await client.restore([output.message() for output in outputs])
    known = [replace(o, amount=signed[o.blinded].amount) for o in outputs if o.blinded in signed]
    proofs = make_proofs(seed, {keyset.id: keyset}, known, [signed[o.blinded] for o in known])
    states = await client.check_state([proof.Y for proof in proofs])
    return [proof for proof in proofs if states[proof.Y] == "UNSPENT"]


@pytest.mark.parametrize("stranger", ["cashu_ts", "nutshell"])
async def test_our_derivation_finds_what_a_stranger_has(request, ours, mint, stranger):
    words = new_words()
    theirs = request.getfixturevalue(stranger)("msat", *([words] if stranger == "cashu_ts" else []))
    theirs.top_up(700)
    if stranger == "nutshell":
        words = theirs.words()
    theirs.receive(theirs.send(333, 4))
    keyset = await ours.mints.active_keyset(mint.url, "msat")
    proofs = await found_by_words(ours, mint.url, words, keyset)
    assert sum(proof.amount for proof in proofs) == theirs.balance() == 700
