"""Strangers' wallets take our tokens, and we take theirs: in every form, and to the last unit."""

import os

import pytest

from otrta_core import Token
from tests.interop.strangers import CashuTs, Refused
from tests.otrta_wallet.reckoning import assert_really_there, available, pending, top_up

pytestmark = pytest.mark.anyio

LONG = os.environ.get("OTRTA_LONG") == "1"
FORMS = [(unit, version, dleq) for unit in ("msat", "sat") for version in (3, 4) for dleq in (False, True)]
SAMPLE = [("msat", 4, False), ("sat", 3, True)]


@pytest.fixture(params=["cashu_ts", "nutshell"])
def stranger(request):
    """Makes wallets of one kind, by unit."""
    return request.getfixturevalue(request.param)


def cases():
    """All forms with cashu-ts, which is quick; with Nutshell a sample, except in a long run."""
    forms = {"cashu_ts": FORMS, "nutshell": FORMS if LONG else SAMPLE}
    return [(kind, *form) for kind in forms for form in forms[kind]]


@pytest.mark.parametrize(("stranger", "unit", "version", "dleq"), cases(), indirect=["stranger"])
async def test_a_token_goes_there_and_another_comes_back(stranger, ours, mint, unit, version, dleq):
    theirs = stranger(unit)
    await top_up(ours, mint.url, 1_000, unit)
    sent = await ours.send(mint.url, 333, unit, memo="für alles", with_dleq=dleq)

    theirs.receive(Token.parse(sent.token).encode(version))
    await ours.recover()
    assert (await available(ours, unit), await pending(ours, unit)) == (667, 0)
    assert await ours.transfers() == []

    text = theirs.send(111, version, dleq=dleq)
    token = Token.parse(text)
    assert text.startswith("cashuA" if version == 3 else "cashuB")
    assert (token.unit, token.amount) == (unit, 111)
    assert all((proof.dleq is not None) == dleq for proof in token.proofs)
    done = await ours.receive(token)
    assert (done.state, done.amount, done.fee) == ("done", 111, 0)
    assert (await available(ours, unit), theirs.balance()) == (778, 222)
    await assert_really_there(ours)


@pytest.mark.parametrize("stranger", ["cashu_ts", "nutshell"] if LONG else ["cashu_ts"], indirect=True)
async def test_a_token_is_taken_by_one_only(stranger, ours, mint):
    theirs = stranger("msat")
    await top_up(ours, mint.url, 1_000)
    sent = await ours.send(mint.url, 500, "msat")
    await ours.reclaim(sent.id)
    with pytest.raises(Refused):
        theirs.receive(sent.token)
    assert (theirs.balance(), await available(ours)) == (0, 1_000)


async def test_a_stranger_who_wants_dleq_proofs_finds_ours_to_hold(cashu_ts, ours, mint):
    theirs = cashu_ts("msat")
    await top_up(ours, mint.url, 1_000)
    bare = await ours.send(mint.url, 100, "msat")
    proven = await ours.send(mint.url, 100, "msat", with_dleq=True)
    with pytest.raises(Refused, match="DLEQ"):
        theirs.receive(bare.token, require_dleq=True)
    theirs.receive(proven.token, require_dleq=True)
    assert theirs.balance() == 100


@pytest.mark.parametrize("version", [3, 4])
async def test_texts_mean_the_same_to_both(node, cashu_ts, ours, mint, version):
    theirs = cashu_ts("msat")
    await top_up(ours, mint.url, 300)
    token = Token.parse((await ours.send(mint.url, 255, "msat", memo="ein Mémo 🥜")).token)
    read = node.call("decode", token=token.encode(version), keysets=[theirs.keyset])
    assert (read["mint"], read["unit"], read["memo"]) == (token.mint, token.unit, token.memo)
    assert read["amount"] == token.amount
    assert read["secrets"] == [proof.secret for proof in token.proofs]

    theirs.top_up(100)
    text = theirs.send(63, version, memo="ein Mémo 🥜")
    ours_reads = Token.parse(text)
    assert (ours_reads.mint, ours_reads.memo, ours_reads.amount) == (mint.url, "ein Mémo 🥜", 63)
    assert [p.secret for p in ours_reads.proofs] == node.call("decode", token=text, keysets=[theirs.keyset])[
        "secrets"
    ]


async def test_input_fees_are_counted_alike(node, open_wallet, fee_mint):
    """A token costs its receiver the same fee, whoever that is, and what it says beforehand."""
    theirs = CashuTs(node, fee_mint.url, "msat")
    async with open_wallet("ours") as ours:
        await ours.mints.add(fee_mint.url)
        await top_up(ours, fee_mint.url, 4_096)
        sent = Token.parse((await ours.send(fee_mint.url, 1_023, "msat")).token)
        worth = (await ours.inspect(sent)).net
        theirs.receive(sent.encode())
        assert theirs.balance() == worth < 1_023

        back = Token.parse(theirs.send(worth, 4))
        incoming = await ours.inspect(back)
        before = await available(ours)
        assert (await ours.receive(back)).fee == incoming.fee > 0
        assert await available(ours) == before + incoming.net
