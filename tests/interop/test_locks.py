"""Tokens locked to a stranger's key and to ours: each side opens what the other locked (NUT-11, NUT-28)."""

import os
import time
from dataclasses import replace

import anyio
import pytest

from otrta_core import P2PK, LockError, SigFlag, Token, derive_lock_key, schnorr
from otrta_wallet.seed import seed_of
from tests.interop.strangers import Refused
from tests.otrta_wallet.reckoning import assert_really_there, available, top_up

pytestmark = pytest.mark.anyio

LONG = os.environ.get("OTRTA_LONG") == "1"
THEIRS, OTHER = bytes(31) + b"\x05", bytes(31) + b"\x06"
THEIR_KEY, OTHER_KEY = schnorr.public_key(THEIRS), schnorr.public_key(OTHER)
FORMS = [(unit, version) for unit in ("msat", "sat") for version in (3, 4)]


@pytest.mark.parametrize(("unit", "version"), FORMS)
@pytest.mark.parametrize("flag", SigFlag)
async def test_cashu_ts_opens_what_we_lock_to_its_key(cashu_ts, ours, mint, unit, version, flag):
    theirs = cashu_ts(unit)
    await top_up(ours, mint.url, 500, unit)
    sent = await ours.send_locked(mint.url, 333, unit, P2PK(THEIR_KEY, sigflag=flag), with_dleq=True)
    text = Token.parse(sent.token).encode(version)
    with pytest.raises(Refused):
        theirs.receive(text, keys=[OTHER.hex()])
    theirs.receive(text, keys=[THEIRS.hex()], require_dleq=True)
    await ours.recover()
    assert (theirs.balance(), await available(ours, unit), await ours.transfers()) == (333, 167, [])


LOCKS = {
    "plain": {},
    "all": {"sigFlag": "SIG_ALL"},
    "two of three": {"more": [OTHER_KEY, THEIR_KEY], "requiredSignatures": 2},
    "two of three, all": {"more": [OTHER_KEY, THEIR_KEY], "requiredSignatures": 2, "sigFlag": "SIG_ALL"},
    "until much later": {"locktime": 4_000_000_000, "refundKeys": [THEIR_KEY]},
    "blinded": {"blindKeys": True},
    "two of three blinded": {"more": [OTHER_KEY, THEIR_KEY], "requiredSignatures": 2, "blindKeys": True},
}


@pytest.mark.parametrize(("unit", "version"), FORMS if LONG else FORMS[1:2])
@pytest.mark.parametrize("lock", LOCKS)
async def test_we_open_what_cashu_ts_locks_to_our_key(cashu_ts, open_wallet, mint, unit, version, lock):
    options = dict(LOCKS[lock])
    theirs = cashu_ts(unit)
    theirs.top_up(500)
    async with open_wallet("ours") as ours, open_wallet("another of ours") as another:
        await ours.lock_keys.add(OTHER)
        keys = [ours.lock_keys.public, *options.pop("more", [])]
        token = Token.parse(theirs.send(333, version, lock={"pubkey": keys, **options}))
        assert all((proof.p2pk_e is not None) == ("blinded" in lock) for proof in token.proofs)
        with pytest.raises(LockError):
            await another.receive(token)
        assert (await ours.receive(token)).amount == 333
        assert (await available(ours, unit), theirs.balance()) == (333, 167)
        await assert_really_there(ours)


async def test_proofs_that_each_ask_for_a_transaction_of_their_own_are_not_touched(cashu_ts, ours, mint):
    """cashu-ts blinds each proof with another key even under SIG_ALL, which NUT-28 forbids."""
    theirs = cashu_ts("msat")
    theirs.top_up(500)
    lock = {"pubkey": ours.lock_keys.public, "blindKeys": True, "sigFlag": "SIG_ALL"}
    several, one = (Token.parse(theirs.send(amount, 4, lock=lock)) for amount in (3, 64))
    with pytest.raises(LockError, match="spend them apart"):
        await ours.receive(several)
    assert await ours.open_operations() == []
    assert (await ours.receive(one)).amount == 64
    for proof in several.proofs:
        await ours.receive(replace(several, proofs=(proof,)))
    assert await available(ours) == 67


async def test_a_refund_falls_to_us_when_its_time_comes(cashu_ts, ours, mint):
    theirs = cashu_ts("msat")
    theirs.top_up(500)
    until = int(time.time()) + 1
    lock = {"pubkey": OTHER_KEY, "locktime": until, "refundKeys": [ours.lock_keys.public]}
    token = Token.parse(theirs.send(333, 4, lock=lock))
    with pytest.raises(LockError):
        await ours.receive(token)
    await anyio.sleep(until + 1.1 - time.time())  # the mint's clock is the machine's
    assert (await ours.receive(token)).amount == 333


async def test_nutshell_and_we_open_each_others_locks(nutshell, ours, mint):
    """The key is the one that the same words give there."""
    theirs = nutshell("msat")
    theirs.top_up(500)
    their_key = theirs.public_key()
    assert schnorr.public_key(derive_lock_key(seed_of(theirs.words()))) == their_key

    await top_up(ours, mint.url, 500)
    for flag in SigFlag if LONG else [SigFlag.SIG_INPUTS]:
        sent = await ours.send_locked(mint.url, 100, "msat", P2PK(their_key, sigflag=flag))
        before = theirs.balance()
        theirs.receive(sent.token)
        assert theirs.balance() == before + 100

    before = await available(ours)
    for kind, version in (("P2PK", 3), ("P2PK-SIGALL", 4)):
        token = Token.parse(theirs.send(70, version, lock=f"{kind}:{ours.lock_keys.public}"))
        assert (await ours.receive(token)).amount == 70
    assert await available(ours) == before + 140
    for_another = Token.parse(theirs.send(70, 4, lock=f"P2PK:{OTHER_KEY}"))
    with pytest.raises(LockError):
        await ours.receive(for_another)
    await assert_really_there(ours)
